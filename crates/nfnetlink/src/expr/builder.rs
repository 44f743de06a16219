//! Builds a rule's expressions from what nft users write.

use super::selector::{ETHERTYPE_ARP, ETHERTYPE_IP, ETHERTYPE_IP6, Needs};
use super::{
    Bitwise, Cmp, CmpOp, Counter, Ct, CtKey, Expr, Immediate, Log, Lookup, Masq, Meta, MetaKey,
    Nat, NatFlags, NatType, Objref, Range, Redir, Reg, Selector, selectors,
};
use crate::Family;
use crate::data::Data;
use crate::verdict::Verdict;

/// A rule's expressions, written in the order nft would.
///
/// Matches on a protocol's header check for the protocol first, once, as nft does: `ip
/// saddr` in family inet makes sure of `meta nfproto ipv4`.
///
/// ```
/// use nfnetlink::expr::{Exprs, addr_type, selectors::*};
/// use nfnetlink::Family;
/// // ct original ip saddr . ip saddr . oif @allowed4 fib saddr type local accept
/// let exprs = Exprs::new(Family::Inet)
///     .in_set(&[CT_ORIGINAL_IP_SADDR, IP_SADDR, META_OIF], "allowed4")
///     .eq(FIB_SADDR_TYPE, addr_type::LOCAL)
///     .accept();
/// assert_eq!(exprs.into_vec().len(), 9);
/// ```
#[derive(Debug, Clone)]
pub struct Exprs {
    family: Family,
    list: Vec<Expr>,
    network: Option<u16>,
    transport: Option<u8>,
}

impl Exprs {
    /// No expressions yet, in a table of this family.
    pub fn new(family: Family) -> Self {
        let network = match family {
            Family::Ip => Some(ETHERTYPE_IP),
            Family::Ip6 => Some(ETHERTYPE_IP6),
            Family::Arp => Some(ETHERTYPE_ARP),
            _ => None,
        };
        Self {
            family,
            list: Vec::new(),
            network,
            transport: None,
        }
    }

    /// The expressions.
    pub fn into_vec(self) -> Vec<Expr> {
        self.list
    }

    /// Appends any expression.
    #[must_use]
    pub fn push(mut self, expr: impl Into<Expr>) -> Self {
        self.list.push(expr.into());
        self
    }

    /// `SELECTOR VALUE`
    #[must_use]
    pub fn eq(self, selector: Selector, value: impl Into<Data>) -> Self {
        self.cmp(selector, CmpOp::EQ, value)
    }

    /// `SELECTOR != VALUE`
    #[must_use]
    pub fn ne(self, selector: Selector, value: impl Into<Data>) -> Self {
        self.cmp(selector, CmpOp::NEQ, value)
    }

    /// `SELECTOR OP VALUE`
    #[must_use]
    pub fn cmp(self, selector: Selector, op: CmpOp, value: impl Into<Data>) -> Self {
        let data = value.into();
        self.load(&[selector]).push(Cmp {
            sreg: Reg::R0,
            op,
            data,
        })
    }

    /// `SELECTOR FROM-TO`, both included.
    #[must_use]
    pub fn range(self, selector: Selector, from: impl Into<Data>, to: impl Into<Data>) -> Self {
        let (from, to) = (from.into(), to.into());
        self.load(&[selector]).push(Range {
            sreg: Reg::R0,
            inverted: false,
            from,
            to,
        })
    }

    /// `SELECTOR & MASK OP VALUE`
    #[must_use]
    pub fn masked(
        self,
        selector: Selector,
        mask: impl Into<Data>,
        op: CmpOp,
        value: impl Into<Data>,
    ) -> Self {
        let (mask, data) = (mask.into(), value.into());
        self.load(&[selector])
            .push(Bitwise::mask(Reg::R0, mask))
            .push(Cmp {
                sreg: Reg::R0,
                op,
                data,
            })
    }

    /// `SELECTOR VALUE/BITS`: the first bits are the same.
    #[must_use]
    pub fn prefix(self, selector: Selector, value: impl Into<Data>, bits: u8) -> Self {
        self.prefix_cmp(selector, CmpOp::EQ, value, bits)
    }

    /// `SELECTOR != VALUE/BITS`
    #[must_use]
    pub fn not_prefix(self, selector: Selector, value: impl Into<Data>, bits: u8) -> Self {
        self.prefix_cmp(selector, CmpOp::NEQ, value, bits)
    }

    fn prefix_cmp(self, selector: Selector, op: CmpOp, value: impl Into<Data>, bits: u8) -> Self {
        let value = value.into();
        let mask = prefix_mask(value.len(), bits);
        let masked: Vec<u8> = std::iter::zip(value.as_slice(), mask.as_slice())
            .map(|(value, mask)| value & mask)
            .collect();
        self.masked(selector, mask, op, Data::unpadded(&masked))
    }

    /// `SELECTOR NAME*`: an interface name that begins so.
    #[must_use]
    pub fn name_prefix(self, selector: Selector, prefix: &str) -> Self {
        // nft compares the given bytes only.
        let data = Data::unpadded(prefix.as_bytes());
        self.cmp(selector, CmpOp::EQ, data)
    }

    /// `ct state A,B`: any of these bits ([`state`](super::state)).
    #[must_use]
    pub fn ct_state(self, bits: u32) -> Self {
        self.masked(selectors::CT_STATE, bits, CmpOp::NEQ, 0_u32)
    }

    /// `SELECTOR . SELECTOR @SET`
    #[must_use]
    pub fn in_set(self, key: &[Selector], set: impl Into<String>) -> Self {
        self.lookup(key, set, None, false)
    }

    /// `SELECTOR . SELECTOR != @SET`
    #[must_use]
    pub fn not_in_set(self, key: &[Selector], set: impl Into<String>) -> Self {
        self.lookup(key, set, None, true)
    }

    /// `SELECTOR . SELECTOR vmap @MAP`
    #[must_use]
    pub fn vmap(self, key: &[Selector], map: impl Into<String>) -> Self {
        self.lookup(key, map, Some(Reg::VERDICT), false)
    }

    /// `SELECTOR . SELECTOR map @MAP`, into the first register.
    #[must_use]
    pub fn map(self, key: &[Selector], map: impl Into<String>) -> Self {
        self.lookup(key, map, Some(Reg::R0), false)
    }

    fn lookup(
        self,
        key: &[Selector],
        set: impl Into<String>,
        dreg: Option<Reg>,
        inverted: bool,
    ) -> Self {
        self.load(key).push(Lookup {
            set: set.into(),
            sreg: Reg::R0,
            dreg,
            inverted,
        })
    }

    /// Loads selectors one behind the other, from the first register on.
    #[must_use]
    pub fn load(mut self, selectors: &[Selector]) -> Self {
        for selector in selectors {
            self.ensure(selector.needs);
        }
        let mut reg = Reg::R0;
        for selector in selectors {
            self.list.push(selector.load(reg));
            reg = reg.after(selector.data_type().len());
        }
        self
    }

    /// Makes sure of the protocol whose header is about to be read.
    fn ensure(&mut self, needs: Needs) {
        let (selector, data) = match needs {
            Needs::Network(ethertype) if self.network != Some(ethertype) => {
                self.network = Some(ethertype);
                match (self.family, ethertype) {
                    (Family::Inet, ETHERTYPE_IP) => {
                        (selectors::META_NFPROTO, Family::Ip.number().into())
                    }
                    (Family::Inet, ETHERTYPE_IP6) => {
                        (selectors::META_NFPROTO, Family::Ip6.number().into())
                    }
                    _ => (selectors::META_PROTOCOL, ethertype.into()),
                }
            }
            Needs::Transport(protocol) if self.transport != Some(protocol) => {
                self.transport = Some(protocol);
                (selectors::META_L4PROTO, protocol.into())
            }
            _ => return,
        };
        self.list.push(selector.load(Reg::R0));
        self.list.push(
            Cmp {
                sreg: Reg::R0,
                op: CmpOp::EQ,
                data,
            }
            .into(),
        );
    }

    /// `snat to` what the first register holds, of this family: behind [`Exprs::map`].
    #[must_use]
    pub fn snat(self, family: Family) -> Self {
        self.push(nat(NatType::Snat, family, None))
    }

    /// `dnat to` what the first register holds, of this family.
    #[must_use]
    pub fn dnat(self, family: Family) -> Self {
        self.push(nat(NatType::Dnat, family, None))
    }

    /// `dnat to ADDRESS . PORT`: a map yielded both, one behind the other.
    #[must_use]
    pub fn dnat_with_port(self, family: Family) -> Self {
        let len = if family == Family::Ip6 { 16 } else { 4 };
        self.push(nat(NatType::Dnat, family, Some(Reg::R0.after(len))))
    }

    /// `snat to ADDRESS`
    #[must_use]
    pub fn snat_to(self, address: std::net::IpAddr) -> Self {
        self.nat_to(NatType::Snat, address)
    }

    /// `dnat to ADDRESS`
    #[must_use]
    pub fn dnat_to(self, address: std::net::IpAddr) -> Self {
        self.nat_to(NatType::Dnat, address)
    }

    fn nat_to(self, nat_type: NatType, address: std::net::IpAddr) -> Self {
        // The kernel leaves packets of the other family alone.
        let family = if address.is_ipv4() {
            Family::Ip
        } else {
            Family::Ip6
        };
        self.push(Immediate::value(Reg::R0, address))
            .push(nat(nat_type, family, None))
    }

    /// `redirect to :PORT`
    #[must_use]
    pub fn redirect_to(self, port: u16) -> Self {
        let redir = Redir {
            proto_min: Some(Reg::R0),
            ..Redir::default()
        };
        self.push(Immediate::value(Reg::R0, port)).push(redir)
    }

    /// `masquerade`
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.push(Masq::default())
    }

    /// `meta mark set VALUE`
    #[must_use]
    pub fn set_meta_mark(self, mark: u32) -> Self {
        self.push(Immediate::value(Reg::R0, mark))
            .push_set_meta_mark()
    }

    /// `meta mark set meta mark & ~MASK | VALUE`: replaces the bits of the mask.
    #[must_use]
    pub fn set_meta_mark_bits(self, mask: u32, value: u32) -> Self {
        self.load(&[selectors::META_MARK])
            .push(replace_bits(mask, value))
            .push_set_meta_mark()
    }

    /// `ct mark set ct mark & ~MASK | VALUE`: replaces the bits of the mask.
    #[must_use]
    pub fn set_ct_mark_bits(self, mask: u32, value: u32) -> Self {
        self.load(&[selectors::CT_MARK])
            .push(replace_bits(mask, value))
            .push_set_ct_mark()
    }

    /// `ct mark set VALUE`
    #[must_use]
    pub fn set_ct_mark(self, mark: u32) -> Self {
        self.push(Immediate::value(Reg::R0, mark))
            .push_set_ct_mark()
    }

    /// `meta mark set …`: what the first register holds.
    #[must_use]
    pub fn push_set_meta_mark(self) -> Self {
        self.push(Meta::Set {
            key: MetaKey::MARK,
            sreg: Reg::R0,
        })
    }

    /// `ct mark set …`: what the first register holds.
    #[must_use]
    pub fn push_set_ct_mark(self) -> Self {
        self.push(Ct::Set {
            key: CtKey::MARK,
            sreg: Reg::R0,
        })
    }

    /// `counter`
    #[must_use]
    pub fn counter(self) -> Self {
        self.push(Counter::default())
    }

    /// `counter name NAME`
    #[must_use]
    pub fn counter_name(self, name: impl Into<String>) -> Self {
        self.push(Objref {
            object_type: crate::obj::NFT_OBJECT_COUNTER,
            name: name.into(),
        })
    }

    /// `log group GROUP prefix PREFIX`
    #[must_use]
    pub fn log(self, group: u16, prefix: impl Into<String>) -> Self {
        self.push(Log::group(group, prefix))
    }

    /// A verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.push(Immediate::verdict(verdict))
    }

    /// `accept`
    #[must_use]
    pub fn accept(self) -> Self {
        self.verdict(Verdict::Accept)
    }

    /// `drop`
    #[must_use]
    pub fn drop(self) -> Self {
        self.verdict(Verdict::Drop)
    }

    /// `return`
    #[must_use]
    pub fn r#return(self) -> Self {
        self.verdict(Verdict::Return)
    }

    /// `jump CHAIN`
    #[must_use]
    pub fn jump(self, chain: impl Into<String>) -> Self {
        self.verdict(Verdict::Jump(chain.into()))
    }

    /// `goto CHAIN`
    #[must_use]
    pub fn goto(self, chain: impl Into<String>) -> Self {
        self.verdict(Verdict::Goto(chain.into()))
    }
}

impl From<Exprs> for Vec<Expr> {
    fn from(exprs: Exprs) -> Self {
        exprs.list
    }
}

/// A translation to the first register's address.
fn nat(nat_type: NatType, family: Family, port: Option<Reg>) -> Nat {
    Nat {
        nat_type,
        family,
        addr_min: Some(Reg::R0),
        addr_max: None,
        proto_min: port,
        proto_max: None,
        flags: NatFlags::NONE,
    }
}

/// `reg = reg & ~mask | value` as the one form the kernel has: `(reg & mask') ^ xor`.
fn replace_bits(mask: u32, value: u32) -> Bitwise {
    Bitwise::MaskXor {
        sreg: Reg::R0,
        dreg: Reg::R0,
        mask: Data::from(!mask),
        xor: Data::from(value & mask),
    }
}

/// `len` bytes whose first `bits` bits are set.
fn prefix_mask(len: usize, bits: u8) -> Data {
    let bytes: Vec<u8> = (0..len)
        .map(|at| {
            let here = usize::from(bits).saturating_sub(at * 8).min(8);
            u8::MAX
                .checked_shl(8 - u32::try_from(here).unwrap_or_default())
                .unwrap_or(0)
        })
        .collect();
    Data::unpadded(&bytes)
}
