use super::*;
use crate::Family;
use crate::data::Data;
use selectors::{IP_SADDR, META_OIF, TCP_DPORT};

fn round_trip(expr: &Expr) -> Expr {
    let mut w = Writer::new();
    expr.encode(&mut w, NFTA_LIST_ELEM);
    let attr = attrs(w.as_slice()).next().unwrap().unwrap();
    Expr::decode(attr.data).unwrap()
}

/// One of each kind.
pub(crate) fn samples() -> Vec<Expr> {
    let mut all = matches();
    all.extend(statements());
    all
}

fn matches() -> Vec<Expr> {
    let r1 = Reg::new(1);
    vec![
        IP_SADDR.load(r1),
        Payload::Write {
            base: PayloadBase::TRANSPORT,
            offset: 2,
            len: 2,
            sreg: r1,
            csum_type: 1,
            csum_offset: 16,
            csum_flags: 1,
        }
        .into(),
        META_OIF.load(Reg::R0),
        Meta::Set {
            key: MetaKey::MARK,
            sreg: r1,
        }
        .into(),
        selectors::CT_ORIGINAL_IP_SADDR.load(r1),
        selectors::CT_STATE.load(r1),
        Ct::Set {
            key: CtKey::MARK,
            sreg: r1,
        }
        .into(),
        selectors::FIB_SADDR_TYPE.load(r1),
        Cmp {
            sreg: r1,
            op: CmpOp::NEQ,
            data: Data::from(5_u32),
        }
        .into(),
        Range {
            sreg: r1,
            inverted: true,
            from: Data::from(5_u16),
            to: Data::from(9_u16),
        }
        .into(),
        Bitwise::mask(r1, Data::from(0xff_u32)).into(),
        Bitwise::Shift {
            sreg: r1,
            dreg: Reg::R0,
            len: 4,
            right: true,
            by: 8,
        }
        .into(),
        Byteorder {
            sreg: r1,
            dreg: r1,
            op: ByteorderOp::HTON,
            len: 4,
            size: 4,
        }
        .into(),
    ]
}

fn statements() -> Vec<Expr> {
    let r1 = Reg::new(1);
    vec![
        Immediate::value(r1, 7_u32).into(),
        Immediate::verdict(crate::Verdict::Jump("c".into())).into(),
        Lookup {
            set: "s".into(),
            sreg: r1,
            dreg: Some(Reg::VERDICT),
            inverted: false,
        }
        .into(),
        Nat {
            nat_type: NatType::Dnat,
            family: Family::Ip6,
            addr_min: Some(Reg::R0),
            addr_max: Some(Reg::new(4)),
            proto_min: Some(Reg::new(8)),
            proto_max: None,
            flags: NatFlags::PERSISTENT,
        }
        .into(),
        Masq {
            flags: NatFlags::PROTO_RANDOM,
            ..Masq::default()
        }
        .into(),
        Redir {
            proto_min: Some(r1),
            ..Redir::default()
        }
        .into(),
        Counter {
            packets: 1,
            bytes: 2,
        }
        .into(),
        Objref {
            object_type: 1,
            name: "n".into(),
        }
        .into(),
        ObjrefMap {
            set: "m".into(),
            sreg: r1,
        }
        .into(),
        Log {
            group: Some(3),
            prefix: Some("p".into()),
            snaplen: Some(64),
            qthreshold: Some(1),
            level: None,
            flags: 0,
        }
        .into(),
        Limit::packets_per_second(9).into(),
        Notrack.into(),
        Reject::IcmpxUnreach(3).into(),
        Reject::TcpReset.into(),
        Selector::socket_cgroupv2(2).load(r1),
        Tproxy {
            family: Family::Ip,
            addr: Some(r1),
            port: None,
        }
        .into(),
        Numgen {
            dreg: r1,
            modulus: 3,
            random: true,
            offset: 1,
        }
        .into(),
        Expr::Unknown {
            name: "quota".into(),
            data: vec![8, 0, 1, 0, 1, 2, 3, 4],
        },
    ]
}

#[test]
fn every_expression_reads_back_as_written() {
    for expr in samples() {
        assert_eq!(round_trip(&expr), expr);
    }
}

#[test]
fn registers_have_two_names() {
    let mut w = Writer::new();
    w.be32(1, 2);
    w.be32(1, 12);
    for attr in attrs(w.as_slice()) {
        assert_eq!(Reg::decode(&attr.unwrap()).unwrap(), Reg::new(4));
    }
}

#[test]
fn a_known_name_with_unknown_content_stays_raw() {
    let expr = Expr::from_name("reject", &[8, 0, 1, 0, 0, 0, 0, 77]);
    assert!(matches!(expr, Expr::Unknown { .. }));
}

#[test]
fn a_protocol_is_checked_once_and_only_where_it_is_in_doubt() {
    let inet = Exprs::new(Family::Inet)
        .eq(TCP_DPORT, 80_u16)
        .eq(TCP_DPORT, 81_u16);
    assert_eq!(inet.into_vec().len(), 2 + 2 + 2);
    let ip = Exprs::new(Family::Ip).in_set(&[IP_SADDR], "s");
    assert_eq!(ip.into_vec().len(), 2);
    let inet = Exprs::new(Family::Inet).in_set(&[IP_SADDR, META_OIF], "s");
    assert_eq!(inet.into_vec().len(), 5);
}

#[test]
fn concatenations_take_one_register_behind_the_other() {
    let exprs = Exprs::new(Family::Bridge)
        .load(&[META_OIF, selectors::ETHER_SADDR, META_OIF])
        .into_vec();
    let registers: Vec<_> = exprs
        .iter()
        .map(|expr| match expr {
            Expr::Meta(Meta::Load { dreg, .. }) | Expr::Payload(Payload::Load { dreg, .. }) => {
                *dreg
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(registers, [Reg::R0, Reg::new(1), Reg::new(3)]);
}

#[test]
fn prefixes_mask_both_sides() {
    let exprs = Exprs::new(Family::Ip)
        .prefix(IP_SADDR, std::net::Ipv4Addr::new(10, 255, 1, 2), 9)
        .into_vec();
    let Expr::Bitwise(Bitwise::MaskXor { mask, .. }) = &exprs[1] else {
        panic!("{exprs:?}");
    };
    assert_eq!(mask.as_slice(), [255, 128, 0, 0]);
    let Expr::Cmp(cmp) = &exprs[2] else {
        panic!("{exprs:?}");
    };
    assert_eq!(cmp.data.as_slice(), [10, 128, 0, 0]);
}
