//! A rule's statements as expressions, with the checks of the protocol that they presume.

use nfnetlink::expr::{
    Bitwise, Cmp, CmpOp, Ct, CtKey, Dynset, Expr, Exprs, Immediate, Lookup, Range, Reg, Selector,
    addr_type, selectors,
};
use nfnetlink::{Data, Verdict as Lowered};
use sortie_api::workload::CgroupId;
use sortie_plan::nft::Family;
use sortie_plan::nft::rule::{Field, Rule, Statement, Value, Verdict};

use super::family;
use crate::error::Error;

/// Half of a conntrack label, in bytes (`NF_CT_LABELS_MAX_SIZE` is 16).
const HALF_LABEL: usize = 8;
/// `IPPROTO_TCP` and `IPPROTO_ICMPV6`.
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// Flags of a TCP segment (RFC 9293, section 3.1).
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// `ETH_P_IP` and `ETH_P_IPV6`.
const ETHERTYPE_IP: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A rule in nf_tables' terms.
pub(super) fn expressions(on: Family, rule: &Rule) -> Result<Exprs, Error> {
    let mut lowering = Lowering {
        family: on,
        exprs: Exprs::new(family(on)),
        ethertype: None,
        transport: None,
    };
    for statement in rule {
        lowering.statement(statement)?;
    }
    Ok(lowering.exprs)
}

/// A rule under construction, and what it has made sure of so far.
struct Lowering {
    family: Family,
    exprs: Exprs,
    ethertype: Option<u16>,
    transport: Option<u8>,
}

impl Lowering {
    fn push(&mut self, expression: impl Into<Expr>) {
        self.with(|exprs| exprs.push(expression));
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), Error> {
        match statement {
            Statement::Compare { field, not, value } => {
                self.load(&[*field]);
                let op = if *not { CmpOp::NEQ } else { CmpOp::EQ };
                self.compare(op, data(*value));
                if !*not {
                    self.learn(*field, *value);
                }
            }
            Statement::Range { field, first, last } => {
                self.load(&[*field]);
                self.push(Range {
                    sreg: Reg::R0,
                    inverted: false,
                    from: data(*first),
                    to: data(*last),
                });
            }
            Statement::Prefix {
                field,
                network,
                length,
            } => {
                let network = ipnet::IpNet::new(*network, *length).map_err(|_| Error::Plan {
                    object: format!("{network}/{length}"),
                    reason: "the prefix is longer than the address",
                })?;
                self.load(&[*field]);
                self.push(Bitwise::mask(Reg::R0, Data::from(network.netmask())));
                self.compare(CmpOp::EQ, Data::from(network.network()));
            }
            Statement::Lookup { fields, set, not } => self.lookup(fields, set, None, *not),
            Statement::Count { field, set } => {
                let sreg = self.load_key(&[*field]);
                self.push(Dynset {
                    set: set.to_string(),
                    sreg,
                });
            }
            Statement::VerdictMap { fields, map } => {
                self.lookup(fields, map, Some(Reg::VERDICT), false);
            }
            Statement::SnatMap { field, v6, map } => {
                self.lookup(&[*field], map, Some(Reg::R0), false);
                let to = ip_family(*v6);
                self.with(|exprs| exprs.snat(to));
            }
            Statement::DnatMap { fields, v6, map } => {
                self.lookup(fields, map, Some(Reg::R0), false);
                let to = ip_family(*v6);
                self.with(|exprs| exprs.dnat(to));
            }
            Statement::Snat(address) => {
                let address = *address;
                self.with(|exprs| exprs.snat_to(address));
            }
            Statement::SnatToItself { v6 } => {
                let source = if *v6 { Field::Ip6Saddr } else { Field::IpSaddr };
                self.load(&[source]);
                let to = ip_family(*v6);
                self.with(|exprs| exprs.snat(to));
            }
            Statement::Redirect(port) => {
                let port = *port;
                self.with(|exprs| exprs.redirect_to(port));
            }
            Statement::GoesOn => {
                self.ensure_transport(TCP);
                self.masked(selectors::TCP_FLAGS, FIN | SYN | RST | ACK, CmpOp::NEQ, SYN);
            }
            Statement::DestinationIsLocal => self.is_local(selectors::FIB_DADDR_TYPE),
            Statement::SourceIsLocal => self.is_local(selectors::FIB_SADDR_TYPE),
            Statement::Marked(mark) => {
                let (bits, value) = (mark.mask(), mark.value());
                self.masked(selectors::META_MARK, bits, CmpOp::EQ, value);
            }
            Statement::SetMark(mark) => {
                let (bits, value) = (mark.mask(), mark.value());
                self.with(|exprs| exprs.set_meta_mark_bits(bits, value));
            }
            Statement::NoteCgroup { level } => self.note_cgroup(*level),
            Statement::First => {
                let confirmed = nfnetlink::conntrack::Status::CONFIRMED.0;
                self.masked(selectors::CT_STATUS, confirmed, CmpOp::EQ, 0_u32);
            }
            Statement::Answered => {
                let seen = nfnetlink::conntrack::Status::SEEN_REPLY.0;
                self.masked(selectors::CT_STATUS, seen, CmpOp::NEQ, 0_u32);
            }
            Statement::Counter(name) => self.with(|exprs| exprs.counter_name(name.as_ref())),
            Statement::Log { group, prefix } => {
                self.with(|exprs| exprs.log(*group, prefix.as_ref()));
            }
            Statement::Verdict(verdict) => {
                let verdict = lower_verdict(verdict);
                self.with(|exprs| exprs.verdict(verdict));
            }
        }
        Ok(())
    }

    fn note_cgroup(&mut self, level: u32) {
        // Bits are only ever added to a label: the lower half is others'.
        self.push(Immediate::value(Reg::R0, Data::unpadded(&[0; HALF_LABEL])));
        let upper = Reg::R0.after(HALF_LABEL);
        self.push(Selector::socket_cgroupv2(level).load(upper));
        self.push(Ct::Set {
            key: CtKey::LABELS,
            sreg: Reg::R0,
        });
    }

    fn with(&mut self, append: impl FnOnce(Exprs) -> Exprs) {
        let exprs = std::mem::replace(&mut self.exprs, Exprs::new(family(self.family)));
        self.exprs = append(exprs);
    }

    fn compare(&mut self, op: CmpOp, data: Data) {
        self.push(Cmp {
            sreg: Reg::R0,
            op,
            data,
        });
    }

    fn masked<T: Into<Data>>(&mut self, selector: Selector, mask: T, op: CmpOp, value: T) {
        self.push(selector.load(Reg::R0));
        self.push(Bitwise::mask(Reg::R0, mask.into()));
        self.compare(op, value.into());
    }

    fn is_local(&mut self, selector: Selector) {
        self.push(selector.load(Reg::R0));
        self.compare(CmpOp::EQ, Data::from(addr_type::LOCAL));
    }

    fn lookup(&mut self, fields: &[Field], set: &str, dreg: Option<Reg>, inverted: bool) {
        let sreg = self.load_key(fields);
        self.push(Lookup {
            set: set.to_owned(),
            sreg,
            dreg,
            inverted,
        });
    }

    /// Loads fields one behind the other, from the first register on.
    fn load(&mut self, fields: &[Field]) {
        for field in fields {
            self.ensure(*field);
        }
        let mut register = Reg::R0;
        for field in fields {
            let selector = selector(*field);
            self.push(selector.load(register));
            if *field == Field::FlowCgroup {
                let upper = CgroupId(u64::MAX).label();
                self.push(Bitwise::mask(register, Data::unpadded(&upper)));
            }
            register = register.after(selector.data_type().len());
        }
    }

    /// The same for a set's key; yields the register that it begins at.
    ///
    /// Of a label the key has the upper half only. The whole label is loaded first, its lower half
    /// where nothing is yet or where other fields come to lie. Before it a placeholder is loaded
    /// where that half will be: nft 1.0.6 crashes on a label in a concatenation (no entry for its
    /// type before 1.0.9), and cannot name half of one, but it can list a constant.
    fn load_key(&mut self, fields: &[Field]) -> Reg {
        let Some(before) = fields.iter().position(|field| *field == Field::FlowCgroup) else {
            self.load(fields);
            return Reg::R0;
        };
        for field in fields {
            self.ensure(*field);
        }
        let begin = Reg::R0.after(HALF_LABEL);
        let length = |field: &Field| match field {
            Field::FlowCgroup => HALF_LABEL,
            field => selector(*field).data_type().len(),
        };
        let ahead: usize = fields[..before].iter().map(length).sum();
        let half = Immediate::value(begin.after(ahead), Data::unpadded(&[0; HALF_LABEL]));
        self.push(half);
        self.push(selectors::CT_LABEL.load(Reg::R0.after(ahead)));
        let mut register = begin;
        for field in fields {
            if *field != Field::FlowCgroup {
                self.push(selector(*field).load(register));
            }
            register = register.after(length(field));
        }
        begin
    }

    /// Checks the protocol that a field presumes, unless the rule has done so already.
    fn ensure(&mut self, field: Field) {
        // A connection's address is of the connection's family: the kernel breaks the rule otherwise.
        let of_connection = matches!(
            field,
            Field::CtOriginalIpSaddr
                | Field::CtOriginalIp6Saddr
                | Field::CtOriginalIpDaddr
                | Field::CtOriginalIp6Daddr
                | Field::CtReplyIpDaddr
                | Field::CtReplyIp6Daddr
        );
        if let Some(ethertype) = field.ethertype()
            && !of_connection
            && self.ethertype != Some(ethertype)
        {
            self.ethertype = Some(ethertype);
            let (check, value) = match (self.family, ethertype) {
                (Family::Inet, ETHERTYPE_IP) => (
                    selectors::META_NFPROTO,
                    Data::from(nfnetlink::Family::Ip.number()),
                ),
                (Family::Inet, ETHERTYPE_IPV6) => (
                    selectors::META_NFPROTO,
                    Data::from(nfnetlink::Family::Ip6.number()),
                ),
                _ => (selectors::META_PROTOCOL, Data::from(ethertype)),
            };
            self.push(check.load(Reg::R0));
            self.compare(CmpOp::EQ, value);
        }
        if matches!(field, Field::Icmpv6Type | Field::Icmpv6Taddr) {
            self.ensure_transport(ICMPV6);
        }
    }

    /// Checks the transport protocol, unless the rule has done so already.
    fn ensure_transport(&mut self, protocol: u8) {
        if self.transport != Some(protocol) {
            self.transport = Some(protocol);
            self.push(selectors::META_L4PROTO.load(Reg::R0));
            self.compare(CmpOp::EQ, Data::from(protocol));
        }
    }

    /// What the rest of the rule knows after this comparison.
    fn learn(&mut self, field: Field, value: Value) {
        match (field, value) {
            (Field::Protocol, Value::Short(ethertype)) => self.ethertype = Some(ethertype),
            (Field::L4Proto, Value::Byte(protocol)) => self.transport = Some(protocol),
            _ => {}
        }
    }
}

fn ip_family(v6: bool) -> nfnetlink::Family {
    if v6 {
        nfnetlink::Family::Ip6
    } else {
        nfnetlink::Family::Ip
    }
}

/// A verdict in nf_tables' terms.
pub(super) fn lower_verdict(verdict: &Verdict) -> Lowered {
    match verdict {
        Verdict::Accept => Lowered::Accept,
        Verdict::Drop => Lowered::Drop,
        Verdict::Return => Lowered::Return,
        Verdict::Jump(chain) => Lowered::Jump(chain.to_string()),
        Verdict::Goto(chain) => Lowered::Goto(chain.to_string()),
    }
}

fn data(value: Value) -> Data {
    match value {
        Value::Byte(byte) => byte.into(),
        Value::Short(short) => short.into(),
        Value::Interface(index) => index.into(),
        Value::Address(address) => address.into(),
        Value::NoCgroup => Data::unpadded(&CgroupId(0).label()),
        Value::Kind(kind) => kind.into(),
        Value::Mark(mark) => mark.into(),
    }
}

fn selector(field: Field) -> Selector {
    match field {
        Field::Iif => selectors::META_IIF,
        Field::IifName => selectors::META_IIFNAME,
        Field::IifKind => selectors::META_IIFKIND,
        Field::Oif => selectors::META_OIF,
        Field::Protocol => selectors::META_PROTOCOL,
        Field::L4Proto => selectors::META_L4PROTO,
        Field::Mark => selectors::META_MARK,
        Field::EtherSaddr => selectors::ETHER_SADDR,
        Field::IpSaddr => selectors::IP_SADDR,
        Field::IpDaddr => selectors::IP_DADDR,
        Field::Ip6Hoplimit => selectors::IP6_HOPLIMIT,
        Field::Ip6Saddr => selectors::IP6_SADDR,
        Field::Ip6Daddr => selectors::IP6_DADDR,
        Field::ArpSaddrEther => selectors::ARP_SADDR_ETHER,
        Field::ArpSaddrIp => selectors::ARP_SADDR_IP,
        Field::Icmpv6Type => selectors::ICMPV6_TYPE,
        Field::Icmpv6Taddr => selectors::ICMPV6_TADDR,
        Field::ThSport => selectors::TH_SPORT,
        Field::ThDport => selectors::TH_DPORT,
        Field::CtDirection => selectors::CT_DIRECTION,
        Field::CtOriginalIpSaddr => selectors::CT_ORIGINAL_IP_SADDR,
        Field::CtOriginalIp6Saddr => selectors::CT_ORIGINAL_IP6_SADDR,
        Field::CtOriginalIpDaddr => selectors::CT_ORIGINAL_IP_DADDR,
        Field::CtOriginalIp6Daddr => selectors::CT_ORIGINAL_IP6_DADDR,
        Field::CtReplyIpDaddr => selectors::CT_REPLY_IP_DADDR,
        Field::CtReplyIp6Daddr => selectors::CT_REPLY_IP6_DADDR,
        Field::SocketCgroup(level) => Selector::socket_cgroupv2(level),
        Field::FlowCgroup => selectors::CT_LABEL,
    }
}
