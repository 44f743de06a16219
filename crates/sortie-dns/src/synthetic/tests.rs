use std::collections::HashSet;

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::*;

const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6f72, 0x7469, 1, 0, 0, 0, 0);

fn is_ours(address: IpAddr) -> bool {
    let v4 = Ipv4Net::new(V4_FIRST, 15).expect("a /15");
    let v6 = Ipv6Net::new(PREFIX, 64).expect("a /64");
    match address {
        IpAddr::V4(address) => {
            v4.contains(&address) && address != v4.network() && address != v4.broadcast()
        }
        IpAddr::V6(address) => v6.contains(&address) && address != PREFIX,
    }
}

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from(0xcb00_7100 + n).into()
}

#[test]
fn a_restart_gives_the_same_addresses() {
    let name = DnsName::from("api.example");
    let given = || Synthetic::new(PREFIX, 10).give(&name, v4(1)).address;
    assert_eq!(given(), given());
    // And so does another version.
    assert_eq!(given().to_string(), "198.18.182.64");
}

#[test]
fn a_given_up_address_is_nobodys_for_a_long_time() {
    let mut synthetic = Synthetic::new(PREFIX, 1);
    let first = synthetic.give(&DnsName::from("first"), v4(1)).address;
    let next = synthetic.give(&DnsName::from("next"), v4(1));
    assert_eq!(next.given_up, Some(first));
    assert_eq!(synthetic.stands_for(first), None);
    // It is still its own when its name is asked for again.
    assert_eq!(
        synthetic.give(&DnsName::from("first"), v4(1)).address,
        first
    );
    for n in 0..u32::try_from(RESTING).expect("small") {
        assert_ne!(
            synthetic.give(&DnsName::from("other"), v4(n)).address,
            first
        );
        assert!(synthetic.places.contains_key(&first));
    }
    synthetic.give(&DnsName::from("other"), v4(100));
    assert!(!synthetic.places.contains_key(&first));
}

proptest! {
    /// Each name and address has one of its own, in its family, the same each time while it is in
    /// use, and never more than the limit.
    #[test]
    fn everyone_has_his_own(
        limit in 1..20_usize,
        asked in prop::collection::vec((0..6_u8, 0..6_u8, any::<bool>()), 1..120),
    ) {
        let mut synthetic = Synthetic::new(PREFIX, limit);
        let mut known: HashMap<(u8, IpAddr), IpAddr> = HashMap::new();
        for (name, real, six) in asked {
            let real = match v4(real.into()) {
                IpAddr::V4(real) if six => real.to_ipv6_mapped().into(),
                real => real,
            };
            let given = synthetic.give(&DnsName::from(format!("n{name}").as_str()), real);
            prop_assert!(is_ours(given.address));
            prop_assert_eq!(given.address.is_ipv4(), real.is_ipv4());
            known.retain(|_, address| Some(*address) != given.given_up);
            if let Some(before) = known.insert((name, real), given.address) {
                prop_assert_eq!(before, given.address);
            }
            let different: HashSet<_> = known.values().collect();
            prop_assert_eq!(different.len(), known.len());
            prop_assert_eq!(synthetic.len(), known.len());
            prop_assert!(known.len() <= limit && !synthetic.is_empty());
            for ((name, real), address) in &known {
                let stands = synthetic.stands_for(*address).expect("in use");
                prop_assert_eq!(stands.real, *real);
                prop_assert_eq!(stands.name.as_str(), format!("n{name}"));
            }
        }
    }
}
