use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use sortie_api::policy::{Carried, Enforcement, parse};
use sortie_gateway::decide::Asked;
use sortie_kernel::netns::Identity;

use super::*;
use crate::api::{self, EgressAddress, PacketMark};

pub(in crate::gateway) const ID: &str = "docker/web";
/// Where `api.test` is, an address that nobody was told, and the host's own.
pub(in crate::gateway) const ORIGIN: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const UNTOLD: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 8));
pub(in crate::gateway) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5));
/// The gateway's own mark, and one of an uplink's.
pub(in crate::gateway) const PLAIN: u32 = 0xf0;
const UPLINK: u32 = 0x10;

/// By name and path, from .11; the address .12 is on another uplink, .13 cannot be used, and only
/// policies that audit name .14.
const API: &str = "{name: api, destinations: [{hosts: [api.test], http: {match: [{pathPrefix: /api}]}}], egress: {addresses: [203.0.113.11]}}";

/// `NAME` and what is in `spec` of each policy, in one line.
pub(in crate::gateway) fn asked_of(policies: &[&str]) -> ByRequest {
    let policies = policies.iter().map(|line| {
        let (name, spec) = line
            .strip_prefix("{name: ")
            .and_then(|line| line.split_once(", "))
            .unwrap();
        let action = if spec.contains("action: ") {
            ""
        } else {
            "action: Egress, "
        };
        let text = format!(
            "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec: {{{action}workloads: [{{containers: {{names: [web]}}}}], {spec}\n"
        );
        let read = parse("f", &text).unwrap_or_else(|error| panic!("{text}: {error}"));
        Carried(Arc::new(read.into_iter().next().unwrap()))
    });
    let (enforced, audits): (Vec<_>, Vec<_>) =
        policies.partition(|it| it.0.enforcement == Enforcement::Enforce);
    let known = Known::default();
    let egress = |last: u8, mark, usable| {
        let mark = Some(PacketMark {
            value: mark,
            mask: 0xf0,
        });
        let egress = EgressAddress {
            usable,
            uplink: None,
            mark,
        };
        (IpAddr::from([203, 0, 113, last]), egress)
    };
    known.host_is(GatewayHost {
        local: vec!["127.0.0.0/8".parse().unwrap()],
        own: BTreeSet::from([HOST]),
        addresses: [
            egress(11, PLAIN, true),
            egress(12, UPLINK, true),
            egress(13, PLAIN, false),
        ]
        .into(),
        audited: [egress(14, PLAIN, true)].into(),
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
        policies: enforced,
        audits,
    });
    let told = Told::default();
    let as_is = api::Told {
        address: ORIGIN,
        answered: Some(ORIGIN),
    };
    told.note(&ID.into(), "api.test", &[as_is]);
    ByRequest {
        known: Arc::new(known),
        told: Arc::new(told),
        certificates: Arc::default(),
    }
}

pub(in crate::gateway) struct NoFields;

impl Fields for NoFields {
    fn any(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }
}

/// The policy that decides, whether by name, and the last number of the source, `host`, or why not.
fn decided(policies: &[&str], address: IpAddr, name: Option<&str>, path: Option<&str>) -> String {
    let request = path.map(|path| Asked {
        method: "GET",
        path,
        fields: &NoFields,
    });
    let target = Target {
        name,
        address: Some(address),
        port: if request.is_some() { 80 } else { 443 },
        request,
        by_address: false,
        tls: if request.is_none() {
            Seen::Hides
        } else {
            Seen::Absent
        },
    };
    let verdict = asked_of(policies).decide(&ID.into(), &target);
    let way = match verdict.way {
        Way::Egress { sources, mark } => {
            format!(".{} {mark:#x}", sources.v4.unwrap().octets()[3])
        }
        Way::AsHost => "host".to_owned(),
        Way::Refused(reason) => reason.to_string(),
    };
    let policy = verdict.policy.as_deref().unwrap_or("nobody");
    let by = if verdict.by_name { "name" } else { "address" };
    format!("{policy} by {by}: {way}")
}

#[test]
fn a_path_has_its_address_and_other_paths_leave_as_before() {
    for address in [ORIGIN, UNTOLD] {
        let ask = |path| decided(&[API], address, Some("api.test"), Some(path));
        assert_eq!(ask("/api/x"), "api by name: .11 0xf0");
        assert_eq!(ask("/apikeys"), "nobody by address: host");
    }
    let other = "{name: rest, egress: {addresses: [203.0.113.12]}}";
    let ask = |name, path| decided(&[API, other], UNTOLD, Some(name), Some(path));
    assert_eq!(ask("api.test", "/other"), "rest by address: .12 0x10");
    assert_eq!(ask("other.test", "/api/x"), "rest by address: .12 0x10");
}

#[test]
fn what_hides_the_request_is_refused_whatever_name_is_said() {
    let hidden = "api by address: PathNotVisible";
    // TLS; no name at all; and another name than the one that led to the address.
    assert_eq!(decided(&[API], UNTOLD, Some("api.test"), None), hidden);
    assert_eq!(decided(&[API], ORIGIN, None, None), hidden);
    for said in [None, Some("other.test")] {
        assert_eq!(decided(&[API], ORIGIN, said, Some("/other")), hidden);
    }
    assert_eq!(
        decided(&[API], UNTOLD, None, None),
        "nobody by address: host"
    );
    let open = API.replace("]}}]", "], whenEncrypted: UseHostPolicy}}]");
    assert_eq!(
        decided(&[&open], ORIGIN, Some("api.test"), None),
        "nobody by address: host"
    );
}

#[test]
fn a_name_decides_for_every_protocol_and_never_undoes_a_denied_prefix() {
    let host =
        "{name: host, destinations: [{hosts: [api.test]}], egress: {addresses: [203.0.113.11]}}";
    assert_eq!(
        decided(&[host], UNTOLD, Some("api.test"), None),
        "host by name: .11 0xf0"
    );
    // By the name that was looked up, and then to the address that was called.
    assert_eq!(
        decided(&[host], ORIGIN, None, None),
        "host by address: .11 0xf0"
    );
    let deny = "{name: deny, destinations: [{cidrs: [198.51.100.0/24]}], action: Deny}";
    assert_eq!(
        decided(&[host, deny], UNTOLD, Some("api.test"), None),
        "deny by address: Denied"
    );
    let to = SocketAddr::new(ORIGIN, 443);
    let verdict = Verdict {
        policy: Some("host".into()),
        by_name: true,
        ..Verdict::unconcerned()
    };
    let address = |policies: &[&str]| asked_of(policies).address(&ID.into(), &verdict, to);
    assert_eq!(address(&[host]), Ok(()));
    assert_eq!(&*address(&[host, deny]).unwrap_err().policy, "deny");
    // A prefix of a higher priority decides about the address, whatever it says.
    let before = "{name: first, priority: 9, destinations: [{cidrs: [198.51.100.0/24]}], egress: {addresses: [203.0.113.12]}}";
    assert_eq!(&*address(&[host, before]).unwrap_err().policy, "first");
    let behind = before.replace("priority: 9, ", "");
    assert_eq!(address(&[host, &behind]), Ok(()));
}

#[test]
fn nothing_leaves_without_an_address_or_for_what_is_local() {
    let gone =
        "{name: gone, destinations: [{hosts: [api.test]}], egress: {addresses: [203.0.113.13]}}";
    assert_eq!(
        decided(&[gone], UNTOLD, Some("api.test"), None),
        "gone by name: NoAddress"
    );
    let node = gone.replace("]}}", "]}, onUnavailable: NodeAddress}");
    assert_eq!(
        decided(&[&node], UNTOLD, Some("api.test"), None),
        "gone by name: host"
    );
    for local in [HOST, [127, 0, 0, 1].into(), [203, 0, 113, 11].into()] {
        assert_eq!(
            decided(&[API], local, Some("api.test"), Some("/api")),
            "nobody by address: PrivateAnswer"
        );
    }
}

#[test]
fn private_addresses_need_a_prefix_that_says_so() {
    let to = SocketAddr::from(([10, 1, 2, 3], 80));
    let allows = |cidr: &str| {
        let policy = format!("{{name: p, destinations: [{{cidrs: [{cidr}]}}], action: Bypass}}");
        asked_of(&[API, &policy]).allows_private(&ID.into(), to)
    };
    assert!(allows("10.1.0.0/16"));
    assert!(!allows("10.2.0.0/16"));
    assert!(!allows("0.0.0.0/0"));
    assert!(!allows("0.0.0.0/1"));
}

#[test]
fn an_address_that_stands_in_for_another_is_the_other() {
    let by_request = asked_of(&[API]);
    let stand_in: IpAddr = [198, 18, 0, 1].into();
    let told = api::Told {
        address: ORIGIN,
        answered: Some(stand_in),
    };
    by_request.told.note(&ID.into(), "other.test", &[told]);
    let target = Target {
        name: Some("other.test"),
        address: Some(stand_in),
        port: 80,
        request: None,
        by_address: false,
        tls: Seen::Absent,
    };
    let verdict = by_request.decide(&ID.into(), &target);
    assert_eq!(verdict.way, Way::AsHost);
    assert_eq!(verdict.stands_for, Some(ORIGIN));
}

#[test]
fn of_who_has_gone_and_to_whom_names_are_hidden_nothing_leaves() {
    let by_request = asked_of(&[API]);
    let target = |port| Target {
        name: Some("dns.test"),
        address: Some(UNTOLD),
        port,
        request: None,
        by_address: false,
        tls: Seen::Hides,
    };
    let denied = Way::Refused(Reason::Denied);
    assert_eq!(
        by_request.decide(&"docker/x".into(), &target(80)).way,
        denied
    );
    assert_eq!(by_request.decide(&ID.into(), &target(853)).way, denied);
    assert_eq!(by_request.decide(&ID.into(), &target(443)).way, Way::AsHost);
}

#[test]
fn tls_is_begun_where_a_policy_says_so_and_nothing_leaves_without_its_ca() {
    let with = |ca: &str| {
        let tls = format!("], tls: {{originate: true, port: 8443, ca: {ca}}}}}}}]");
        API.replace("]}}]", &tls)
    };
    let missing = with("/nowhere/ca.pem");
    assert_eq!(
        decided(&[&missing], UNTOLD, Some("api.test"), Some("/api")),
        "api by address: NoCertificates"
    );
    assert_eq!(
        decided(&[&missing], UNTOLD, Some("api.test"), Some("/other")),
        "nobody by address: host"
    );
}
