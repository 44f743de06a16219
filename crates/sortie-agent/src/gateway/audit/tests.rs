use sortie_gateway::decide::Decide;

use super::*;
use crate::gateway::requests::tests::{ID, NoFields, ORIGIN, asked_of};

const API: &str = "{name: api, destinations: [{hosts: [api.test], http: {match: [{pathPrefix: /api}]}}], egress: {addresses: [203.0.113.14]}, enforcement: Audit}";
/// What is enforced: requests to the name are seen, and leave as the host.
const SEEN: &str = "{name: seen, destinations: [{hosts: [api.test], http: {match: [{pathPrefix: /}]}}], action: Bypass}";

enum Sent<'a> {
    Request(&'a str),
    Tls,
}

/// How it is decided; and who would have changed what about it, to which source or why not.
fn audited_of(policies: &[&str], sent: &Sent<'_>) -> (Way, String) {
    let by_request = asked_of(policies);
    let request = match sent {
        Sent::Request(path) => Some(Asked {
            method: "GET",
            path,
            fields: &NoFields,
        }),
        Sent::Tls => None,
    };
    let port = if request.is_some() { 80 } else { 443 };
    let target = Target {
        name: Some("api.test"),
        address: Some(ORIGIN),
        port,
        request,
        by_address: false,
        tls: match sent {
            Sent::Request(_) => Seen::Absent,
            Sent::Tls => Seen::Hides,
        },
    };
    let verdict = by_request.decide(&ID.into(), &target);
    let now = match verdict.way {
        Way::Refused(_) => Now::Dropped,
        Way::AsHost => Now::AsWithoutSortie(None),
        Way::Egress { sources, .. } => Now::With(sources.any(None).unwrap()),
    };
    let to = SocketAddr::new(ORIGIN, port);
    let told = verdict.would.as_ref().and_then(|would| {
        let audited = by_request.audited(&ID.into(), would, Some(to), now)?;
        let way = match (audited.source, audited.refused) {
            (Some(source), None) => source.to_string(),
            (None, Some(reason)) => reason.to_string(),
            _ => "-".to_owned(),
        };
        let outcome = audited.outcome.name();
        Some(format!("{} {outcome} {way}", audited.policy))
    });
    (verdict.way, told.unwrap_or_default())
}

#[test]
fn they_change_nothing_and_are_asked_beside() {
    let ask = |path| audited_of(&[API, SEEN], &Sent::Request(path));
    for (path, told) in [
        ("/api/x", "api other-source 203.0.113.14"),
        ("/other/../api", "api other-source 203.0.113.14"),
        ("/other", ""),
        ("/a%2Fpi", "api dropped AmbiguousPath"),
    ] {
        assert_eq!(ask(path), (Way::AsHost, told.to_owned()), "{path}");
    }
    // Without any, nothing is asked.
    assert_eq!(audited_of(&[SEEN], &Sent::Request("/api")).1, "");
}

#[test]
fn what_they_would_refuse_goes_on() {
    let told = |policies: &[&str], sent: &Sent<'_>| audited_of(policies, sent);
    assert_eq!(
        told(&[API, SEEN], &Sent::Tls),
        (Way::AsHost, "api dropped PathNotVisible".to_owned())
    );
    let inspects = API.replace("]}}]", "], tls: {inspect: true}}}]");
    assert_eq!(
        told(&[&inspects, SEEN], &Sent::Tls),
        (Way::AsHost, "api unseen -".to_owned())
    );
    let lost = API.replace(".14", ".13");
    assert_eq!(
        told(&[&lost, SEEN], &Sent::Request("/api")),
        (Way::AsHost, "api dropped NoAddress".to_owned())
    );
    // Decided by name, and the address is denied by one that only audits as well.
    let deny = "{name: deny, destinations: [{cidrs: [198.51.100.0/24]}], action: Deny, enforcement: Audit}";
    for path in ["/api", "/other"] {
        assert_eq!(
            told(&[API, deny, SEEN], &Sent::Request(path)),
            (Way::AsHost, "deny dropped Denied".to_owned())
        );
    }
}

#[test]
fn what_is_refused_and_would_pass() {
    let closed = SEEN.replace("Bypass", "Deny");
    assert_eq!(
        audited_of(&[API, &closed], &Sent::Request("/api")),
        (
            Way::Refused(Reason::Denied),
            "api passed 203.0.113.14".to_owned()
        )
    );
    // One that loses counts nothing.
    let first = closed.replace("{name: seen, ", "{name: seen, priority: 9, ");
    assert_eq!(audited_of(&[API, &first], &Sent::Request("/api")).1, "");
}

#[test]
fn look_ups_are_counted_where_they_would_be_refused_or_answered() {
    let only = "{name: only, destinations: [{hosts: [api.test]}], action: Bypass, onlyTheseHosts: true, enforcement: Audit}";
    let count = |policies: &[&str], name: &str| {
        let by_request = asked_of(policies);
        let workload = by_request.known.workload(&ID.into()).unwrap();
        let lookups = Lookups::default();
        lookups.looked_up(&workload, name, &by_request.known.host());
        let mut all = lookups.all().all.into_iter();
        let one = all.next();
        one.map(|((policy, outcome), count)| format!("{policy} {} {count}", outcome.name()))
    };
    assert_eq!(count(&[only, SEEN], "api.test"), None);
    let told = count(&[only, SEEN], "other.test");
    assert_eq!(told.as_deref(), Some("only dropped 1"));
    let closed = SEEN.replace("action: Bypass}", "action: Bypass, onlyTheseHosts: true}");
    let other = API.replace("api.test", "other.test");
    let told = count(&[&other, &closed], "other.test");
    assert_eq!(told.as_deref(), Some("api passed 1"));
    assert_eq!(count(&[&other, &closed], "third.test"), None);
}
