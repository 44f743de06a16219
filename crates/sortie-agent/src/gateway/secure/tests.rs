use std::net::IpAddr;

use sortie_api::config::DnsOverTls;

use super::*;
use crate::api::GatewayHost;
use crate::gateway::requests::tests::{HOST, ID, ORIGIN, PLAIN, asked_of};

struct Nobody;

impl SeenSource for Nobody {
    fn source(&self, _: SocketAddr, _: SocketAddr) -> Option<IpAddr> {
        None
    }
}

/// The way of a question to this server and port; those of `ORIGIN` and of the host are asked over TLS.
fn way(policies: &[&str], to: IpAddr, port: u16) -> Result<Option<Way>, String> {
    let decide = asked_of(policies);
    let known = Arc::clone(&decide.known);
    let host = GatewayHost::clone(&known.host());
    let over_tls = |server| DnsOverTls {
        server,
        name: None,
        port: 8853,
        ca: None,
    };
    known.host_is(GatewayHost {
        dns_over_tls: vec![over_tls(ORIGIN), over_tls(HOST)],
        ..host
    });
    let secure = ByConfig {
        certificates: Arc::clone(&decide.certificates),
        known,
        decide: Arc::new(decide),
        seen: Arc::new(Nobody),
        failing: Mutex::default(),
    };
    secure.way(&ID.into(), SocketAddr::new(to, port))
}

const QUESTIONS: &str = "{name: questions, destinations: [{cidrs: [198.51.100.7/32], ports: [{protocol: UDP, port: 53}]}], egress: {addresses: [203.0.113.11]}}";

#[test]
fn policies_are_asked_of_the_port_that_is_called() {
    let leaves = |source: Option<&str>, mark| {
        let source = source.map(|it| it.parse().unwrap());
        let server = SocketAddr::new(ORIGIN, 8853);
        Ok(Some(Way {
            server,
            source,
            mark,
        }))
    };
    assert_eq!(
        way(&[QUESTIONS], ORIGIN, 53),
        leaves(Some("203.0.113.11"), PLAIN)
    );
    let over_tls = QUESTIONS.replace("port: 53", "port: 853");
    assert_eq!(way(&[&over_tls], ORIGIN, 53), leaves(None, 0));
    assert_eq!(way(&[], ORIGIN, 53), leaves(None, 0));
}

#[test]
fn what_a_policy_denies_is_not_asked() {
    let denied = "{name: none, destinations: [{cidrs: [198.51.100.0/24]}], action: Deny}";
    assert!(way(&[denied], ORIGIN, 53).is_err());
    // .13 cannot be used.
    let lost = QUESTIONS.replace("203.0.113.11", "203.0.113.13");
    assert!(way(&[&lost], ORIGIN, 53).is_err());
}

#[test]
fn other_servers_and_ports_are_asked_as_the_workload_asks() {
    assert_eq!(way(&[QUESTIONS], ORIGIN, 5353), Ok(None));
    assert_eq!(
        way(&[QUESTIONS], "198.51.100.8".parse().unwrap(), 53),
        Ok(None)
    );
}

#[test]
fn the_hosts_own_is_asked_as_the_host() {
    let all = "{name: all, egress: {addresses: [203.0.113.11]}}";
    let way = way(&[all], HOST, 53).unwrap().unwrap();
    assert_eq!((way.source, way.mark), (None, 0));
}
