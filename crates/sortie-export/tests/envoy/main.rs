//! A real Envoy, started from what is exported, gives the same source for the same requests as
//! `resolve`: thousands of random policies and requests.

mod any;
mod client;
mod expected;
mod proxy;

use std::collections::BTreeMap;
use std::process::Command;

use sortie_lab::{HostSpec, Lab, Protocol, Result, UplinkSpec};

use crate::any::{Asked, NAMES, Set};
use crate::expected::{Outcome, Seen};
use crate::proxy::Envoy;

/// So many bootstraps, each for policies of its own, with so many requests.
const SETS: u64 = 24;
const REQUESTS: usize = 120;
/// More requests than that must have the very same source, or be refused by both.
const SAME: usize = 2_000;
/// Requests that are under way together.
const CLIENTS: usize = 8;

/// The first seed; another one is for looking further by hand.
fn seed() -> u64 {
    let seed = std::env::var("ENVOY_SEED").ok();
    seed.map_or(1, |seed| seed.parse().expect("ENVOY_SEED is a number"))
}

#[test]
fn envoy_gives_the_same_source() -> Result<()> {
    let lab = Lab::new("envoy")?;
    let mut uplink = UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"]);
    for source in any::SOURCES.into_iter().chain([client::CLIENT.into()]) {
        uplink = uplink.address(&format!("{source}/32"));
    }
    let host = lab.host(&HostSpec::new("h1").uplink(uplink))?;
    let observer = lab.internet().observer();
    for port in any::HTTP_PORTS.into_iter().filter(|port| *port != 80) {
        observer.listen(Protocol::Http, port)?;
    }
    for port in any::TLS_PORTS.into_iter().filter(|port| *port != 443) {
        observer.listen(Protocol::Tcp, port)?;
    }
    for (name, address) in NAMES {
        observer.names().set(name, &[address.into()], 600);
    }
    client::lead_to_envoy(host.netns())?;
    let mut counted: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for seed in seed()..seed() + SETS {
        let set = Set::any(seed);
        let envoy = Envoy::start(&host, seed, &set.policies)?;
        let asked: Vec<Asked> = set.asked(REQUESTS);
        let seen = client::ask_all(host.netns(), &asked, CLIENTS)?;
        for (asked, seen) in asked.iter().zip(seen) {
            let expected = expected::of(&set.policies, asked);
            match expected.compare(&seen) {
                Ok(how) => *counted.entry(how).or_default() += 1,
                Err(why) => wrong.push(format!("seed {seed}: {asked:?}: {why}")),
            }
        }
        drop(envoy);
    }
    println!("{counted:?}");
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        SETS * REQUESTS as u64,
        wrong.join("\n")
    );
    let same = counted.get(Outcome::SAME).copied().unwrap_or_default();
    assert!(same >= SAME, "only {same} were the same: {counted:?}");
    Ok(())
}

/// Where the gateway would begin TLS, Envoy does, by a cluster for this name, from the same source.
#[test]
fn tls_is_begun_from_the_source() -> Result<()> {
    let lab = Lab::new("envoy-tls")?;
    let uplink = UplinkSpec::new(&["203.0.113.5/24"]).address("203.0.113.11/32");
    let host = lab.host(&HostSpec::new("h1").uplink(uplink))?;
    let observer = lab.internet().observer();
    observer.listen(Protocol::Tcp, 8443)?;
    for (name, address) in NAMES {
        observer.names().set(name, &[address.into()], 600);
    }
    let ca = host.folder().join("ca.pem");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca",
    ]);
    openssl.arg("-keyout").arg(host.folder().join("ca.key"));
    openssl.arg("-out").arg(&ca);
    assert_eq!(host.run(proxy::LIMIT, openssl)?.code(), 0);
    let originate = |host: &str, port| any::originating(host, port, &ca.display().to_string());
    let policies = [originate("a.test", 8443), originate("*.a.test", 443)];
    let _envoy = Envoy::start(&host, 0, &policies)?;
    for (name, address, port) in [
        (NAMES[0].0, NAMES[0].1, 8443),
        (NAMES[1].0, NAMES[1].1, 443),
    ] {
        let asked = Asked::get(name, address);
        let seen = client::ask_all(host.netns(), &[asked], 1)?;
        // The other side speaks no TLS.
        assert_eq!(seen, [Seen::Refused(Some(503))], "{name}");
        let called = |seen: &sortie_lab::Observation| {
            seen.destination == (address, port).into()
                && seen.source.ip().to_string() == "203.0.113.11"
        };
        observer.wait_for(proxy::LIMIT, "the origin is called from the source", called)?;
    }
    Ok(())
}
