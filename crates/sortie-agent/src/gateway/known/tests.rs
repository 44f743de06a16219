use std::net::IpAddr;
use std::sync::Arc;

use sortie_api::policy::{Carried, Client, parse};
use sortie_kernel::netns::Identity;

use super::Known;
use crate::api::ByName;

fn policy(name: &str, token: &str) -> Carried {
    let text = format!(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec:\n  workloads: [{{clients: {{tokens: [{token}]}}}}]\n  action: Bypass\n"
    );
    Carried(Arc::new(parse("f", &text).unwrap().remove(0)))
}

fn client(token: &str) -> Client {
    Client {
        token: Some(token.to_owned()),
        certificate: None,
    }
}

fn asker(id: &str, address: &str) -> ByName {
    ByName {
        id: id.into(),
        name: id.to_owned(),
        pid: 1,
        namespace: Identity {
            device: 0,
            inode: 0,
        },
        addresses: vec![address.parse().unwrap()],
        policies: Vec::new(),
        audits: Vec::new(),
    }
}

#[test]
fn a_client_is_known_while_a_policy_means_it() {
    let known = Known::default();
    assert_eq!(known.client(client("ci")), None);
    known.client_policies_are(vec![policy("a", "ci"), policy("b", "other")], vec![]);
    let id = known.client(client("ci")).unwrap();
    assert_eq!(id.as_str(), "client/ci");
    assert_eq!(known.workload(&id).unwrap().policies.len(), 1);
    // Others' policies change nothing.
    let others = vec![policy("a", "ci"), policy("c", "other")];
    assert_eq!(known.client_policies_are(others, vec![]), (vec![], vec![]));
    let more = vec![policy("a", "ci"), policy("c", "ci")];
    let changed = known.client_policies_are(more, vec![]);
    assert_eq!(changed, (vec![id.clone()], vec![]));
    assert_eq!(known.workload(&id).unwrap().policies.len(), 2);
    let gone = known.client_policies_are(vec![policy("b", "other")], vec![]);
    assert_eq!(gone, (vec![], vec![id.clone()]));
    assert!(known.workload(&id).is_none());
    let other = known.client(client("other")).unwrap();
    assert!(
        known
            .clients_without(&["other".to_owned()].into())
            .is_empty()
    );
    assert_eq!(known.clients_without(&["ci".to_owned()].into()), [other]);
}

/// Who must show both is another client than who shows one, and what no policy names makes no
/// difference.
#[test]
fn a_client_is_what_it_has_shown() {
    let of = |name: &str, clients: &str| {
        let text = format!(
            "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec:\n  workloads: [{{clients: {clients}}}]\n  action: Bypass\n"
        );
        Carried(Arc::new(parse("f", &text).unwrap().remove(0)))
    };
    let known = Known::default();
    let policies = vec![
        of("a", "{certificates: [CN=runner]}"),
        of("b", "{tokens: [ci], certificates: [CN=runner]}"),
        of("c", "{tokens: [ci]}"),
    ];
    known.client_policies_are(policies, vec![]);
    let ask = |token: Option<&str>, certificate: Option<&str>| {
        let client = Client {
            token: token.map(str::to_owned),
            certificate: certificate.map(str::to_owned),
        };
        let id = known.client(client)?;
        let workload = known.workload(&id)?;
        let policies = workload.policies.iter();
        let policies: Vec<_> = policies.map(|it| it.0.name.0.clone()).collect();
        Some(format!("{} {}", id.as_str(), policies.concat()))
    };
    let runner = Some("CN=runner");
    assert_eq!(ask(None, runner).as_deref(), Some("client/CN=runner a"));
    let both = Some("client/ci+CN=runner abc");
    assert_eq!(ask(Some("ci"), runner).as_deref(), both);
    let other = ask(Some("ci"), Some("CN=other"));
    assert_eq!(other.as_deref(), Some("client/ci c"));
    assert_eq!(ask(None, Some("cn=runner")), None);
    assert_eq!(ask(None, None), None);
    let gone = known.clients_with_certificates();
    assert_eq!(gone.len(), 2);
    assert_eq!(known.clients_without(&["ci".to_owned()].into()), []);
}

#[test]
fn a_container_is_known_by_the_addresses_that_it_has_now() {
    let known = Known::default();
    let [first, second]: [IpAddr; 2] = ["172.17.0.2", "172.17.0.3"].map(|it| it.parse().unwrap());
    known.asks(asker("docker/a", "172.17.0.2"));
    assert_eq!(known.asker_at(first), Some("docker/a".into()));
    known.asks(asker("docker/a", "172.17.0.3"));
    assert_eq!(known.asker_at(first), None);
    // Another one has it now, and the end of the former changes nothing.
    known.asks(asker("docker/b", "172.17.0.3"));
    known.asks_no_more(&"docker/a".into());
    assert_eq!(known.asker_at(second), Some("docker/b".into()));
    assert_eq!(known.other_askers_than(&[].into()), ["docker/b".into()]);
    known.asks_no_more(&"docker/b".into());
    assert_eq!(known.asker_at(second), None);
}
