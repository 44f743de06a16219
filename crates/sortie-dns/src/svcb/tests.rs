use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::svcb::EchConfigList;

use super::*;

const V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

fn record(params: Vec<Param>) -> SVCB {
    SVCB::new(1, Name::root(), params)
}

fn alpn(ids: &[&str]) -> Param {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(ids)))
}

fn needs(keys: &[SvcParamKey]) -> Param {
    (
        SvcParamKey::Mandatory,
        SvcParamValue::Mandatory(Mandatory(keys.to_vec())),
    )
}

fn hints_of(v4: &[Ipv4Addr], v6: &[Ipv6Addr]) -> Vec<Param> {
    let v4 = IpHint(v4.iter().map(|a| (*a).into()).collect());
    let v6 = IpHint(v6.iter().map(|a| (*a).into()).collect());
    vec![
        (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(v4)),
        (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(v6)),
    ]
}

fn ech() -> Param {
    (
        SvcParamKey::EchConfigList,
        SvcParamValue::EchConfigList(EchConfigList(vec![1, 2])),
    )
}

#[test]
fn hints_are_addresses() {
    let both = record(hints_of(&[V4], &[V6]));
    assert_eq!(hints(&both), [IpAddr::from(V4), IpAddr::from(V6)]);
    let other = Ipv4Addr::new(198, 18, 0, 1);
    let fate = |address: IpAddr| match address {
        IpAddr::V4(_) => Answered::Replaced(other.into()),
        IpAddr::V6(_) => Answered::LeftOut,
    };
    let told = told(&both, false, &fate).expect("a record");
    assert_eq!(hints(&told), [IpAddr::from(other)]);
    assert!(!has(&told.svc_params, SvcParamKey::Ipv6Hint));
}

#[test]
fn what_hides_the_name_goes_and_is_no_longer_mandatory() {
    let keep = |_: IpAddr| Answered::Kept;
    let hiding = record(vec![
        needs(&[SvcParamKey::Alpn, SvcParamKey::EchConfigList]),
        alpn(&["h3", "h3-29", "h2"]),
        ech(),
    ]);
    assert_eq!(told(&hiding, false, &keep), Some(hiding.clone()));
    let seen = record(vec![needs(&[SvcParamKey::Alpn]), alpn(&["h2"])]);
    assert_eq!(told(&hiding, true, &keep), Some(seen));

    let all = record(vec![needs(&[SvcParamKey::EchConfigList]), ech()]);
    assert_eq!(told(&all, true, &keep), Some(record(Vec::new())));
}

#[test]
fn a_service_that_is_http3_only_goes_whole() {
    let keep = |_: IpAddr| Answered::Kept;
    let no_default = (SvcParamKey::NoDefaultAlpn, SvcParamValue::NoDefaultAlpn);
    assert_eq!(
        told(&record(vec![alpn(&["h3"]), no_default]), true, &keep),
        None
    );
    // Without `no-default-alpn` HTTP/1.1 is offered too.
    assert_eq!(
        told(&record(vec![alpn(&["h3"])]), true, &keep),
        Some(record(Vec::new()))
    );
}
