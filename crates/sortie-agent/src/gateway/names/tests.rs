use std::collections::BTreeSet;
use std::net::IpAddr;

use sortie_api::policy::{Carried, parse};
use sortie_api::workload::Families;
use sortie_kernel::netns::Identity;

use super::*;
use crate::api::{ByName, EgressAddress, GatewayHost};

const ID: &str = "docker/web";

/// As a policy file would say it; without names, which no file may have yet.
fn policy(text: &str, hosts: &[&str]) -> Carried {
    let head = "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: p}\nspec:\n";
    let mut policy = parse("f", &format!("{head}{text}")).unwrap().remove(0);
    for destination in &mut policy.destinations {
        destination.cidrs.clear();
        let hosts = hosts.iter();
        destination.hosts = hosts
            .map(|host| host.to_string().try_into().unwrap())
            .collect();
    }
    Carried(Arc::new(policy))
}

fn known(policies: Vec<Carried>) -> ByPolicy {
    let known = Known::default();
    let address: IpAddr = [203, 0, 113, 11].into();
    let egress = EgressAddress {
        usable: true,
        uplink: None,
        mark: None,
    };
    known.host_is(GatewayHost {
        own: BTreeSet::new(),
        local: Vec::new(),
        addresses: [(address, egress)].into(),
        ..GatewayHost::default()
    });
    known.workload_is(ByName {
        id: ID.into(),
        name: "web".to_owned(),
        pid: 1,
        namespace: Identity {
            device: 1,
            inode: 1,
        },
        addresses: Vec::new(),
        policies,
        audits: Vec::new(),
    });
    ByPolicy {
        known: Arc::new(known),
        audits: Arc::default(),
    }
}

#[test]
fn a_policys_names_must_be_learned_and_others_are_offered() {
    let v4 = "  destinations: [{cidrs: [0.0.0.0/0]}]\n  action: Egress\n  egress: {addresses: [203.0.113.11]}\n";
    let known = known(vec![policy(v4, &["db.example", "*.partner.example"])]);
    let ask = |name: &str| known.question(&ID.into(), &name.into());
    let required = Interest::Forward(Wanted {
        learning: Learning::Required,
        families: Families {
            v4: true,
            v6: false,
        },
        sees_name: false,
    });
    assert_eq!(ask("db.example"), required);
    assert_eq!(ask("DB.example."), required);
    assert_eq!(ask("a.b.partner.example"), required);
    let offered = Interest::Forward(Wanted {
        learning: Learning::Offered,
        ..Wanted::NOTHING
    });
    assert_eq!(ask("partner.example"), offered);
    assert_eq!(ask("other.example"), offered);
    let gone = known.question(&"docker/gone".into(), &"other.example".into());
    let Interest::Forward(wanted) = gone else {
        panic!("{gone:?}");
    };
    assert_eq!(wanted.learning, Learning::Required);
}
