//! The gateway's rules: without one of them, a workload reaches out past the gateway, or another
//! program's translation takes the gateway's own source away.

use std::net::UdpSocket;

use sortie_lab::{Container, ContainerSpec, Destination, Netns, Place as _, Result, eventually};

use super::{Rule, rules};
use crate::leak::fault::forget_flows;
use crate::leak::gateway::Gateways;
use crate::leak::policies::NAME_SERVER;
use crate::leak::tally::{Allowed, Tally};
use crate::leak::wave::addresses;
use crate::leak::{asker, sender};
use crate::names::{A, AAAA, resolver};
use crate::stage::{DOCKER_29_NFTABLES, LIMIT, Stage};

const NAME: &str = "api.leak";
const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: api}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations:
  - hosts: [api.leak]
    ports: [{protocol: TCP, port: 80}]
    http: {match: [{pathPrefix: /api}]}
  action: Egress
  egress: {addresses: [203.0.113.11, \"2001:db8:113::11\"]}
---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: strict}
spec:
  workloads: [{containers: {names: [strict]}}]
  destinations: [{hosts: [api.leak]}]
  unlearned: Deny
  action: Egress
  egress: {addresses: [203.0.113.12, \"2001:db8:113::12\"]}
";

/// One who asks for `/api` only, of whom nothing else may be seen, and one who looks nothing up, of
/// whom nothing may be.
struct Trial {
    web: Container,
    strict: Container,
    to: Destination,
    /// Where no look-up leads, for each of them.
    unlearned: Destination,
    denied: Destination,
    tally: Tally,
    gateways: Gateways,
    stage: Stage,
}

impl Trial {
    fn new() -> Result<Self> {
        let stage = Stage::guarded("weakened-gateway", DOCKER_29_NFTABLES)?;
        stage.applied(POLICY)?;
        let (to, unlearned) = (stage.lab.destination()?, stage.lab.destination()?);
        let denied = stage.lab.destination()?;
        let names = stage.lab.internet().observer().names();
        names.set(NAME, &[to.v4, to.v6], 1);
        stage.network("shop", 1, &[])?;
        let spec = ContainerSpec::new("web").network("shop");
        let mut tally = Tally::default();
        let number = tally.add("web", to, Allowed::Only(addresses(&[11])));
        tally.add_to(number, unlearned, Allowed::Only(Vec::new()));
        tally.add("strict", denied, Allowed::Only(Vec::new()));
        Ok(Self {
            web: stage.managed(&spec.name_server(NAME_SERVER))?,
            strict: stage.managed(&ContainerSpec::new("strict").network("shop"))?,
            to,
            unlearned,
            denied,
            tally,
            gateways: Gateways::default(),
            stage,
        })
    }

    /// How many frames leave wrongly without these rules.
    fn leaks_without(&mut self, rules: &[&Rule]) -> Result<u64> {
        self.stage.ok(&["down"]);
        self.stage.agent().wait(LIMIT)?;
        let failpoints: Vec<String> = rules.iter().map(|rule| rule.failpoint()).collect();
        self.stage
            .spawn_agent("guard: All\n", &["--failpoints", &failpoints.join(",")])?;
        self.stage.wait_for_engine()?;
        for name in ["web", "strict"] {
            self.stage.wait_for(name, "Ready")?;
        }
        self.gateways.kill()?;
        self.gateways.start(&self.stage)?;
        let (inside, server) = (self.web.place()?, resolver(&self.web)?);
        for (to, kind) in [(self.to.v4, A), (self.to.v6, AAAA)] {
            eventually(LIMIT, "the gateway answers", || {
                let answered = inside.run(|| {
                    asker::look_up(server, NAME, kind)?;
                    let mut client = asker::connected(to).ok()?;
                    asker::ask(&mut client, NAME, "/api/ready").ok()
                });
                match answered {
                    Ok(Some(200)) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })?;
        }
        // While no agent was there, what was begun before may have left.
        self.tally.read(&self.stage)?;
        let before = self.tally.leaked;
        self.tally.examples.clear();
        self.behind_another(&inside)?;
        self.past_the_gateway(&inside)?;
        self.without_a_name()?;
        self.tally.read(&self.stage)?;
        Ok(self.tally.leaked - before)
    }

    /// Another program translates all that leaves, before anybody else does.
    fn behind_another(&self, inside: &Netns) -> Result<()> {
        let host = self.stage.host.netns();
        for rule in [
            "add table inet first",
            "add chain inet first post { type nat hook postrouting priority 90; }",
            "add rule inet first post oifname up0 masquerade",
        ] {
            host.nft(rule)?;
        }
        // What the gateway has kept open is new to the kernel, too.
        forget_flows(&self.stage)?;
        inside.run(|| {
            for to in [self.to.v4, self.to.v6] {
                let _ = asker::connected(to)
                    .and_then(|mut client| asker::ask(&mut client, NAME, "/api/x"));
            }
        })?;
        host.nft("delete table inet first").map(drop)
    }

    /// Whose policy denies what no look-up gave calls it, at a port that leads to no gateway.
    fn without_a_name(&self) -> Result<()> {
        let _begun = self.strict.place()?.run(|| {
            let to = [self.denied.v4, self.denied.v6];
            to.map(|to| sender::syn(to, 7))
        })?;
        self.stage.lab.fence()
    }

    /// Who has `NET_ADMIN` takes what leads to the gateway away, and calls all the same.
    fn past_the_gateway(&self, inside: &Netns) -> Result<()> {
        inside.nft("delete table inet sortie")?;
        let _begun = inside.run(|| {
            let mut begun = Vec::new();
            for to in [self.to.v4, self.to.v6] {
                begun.extend(sender::syn(to, 80));
            }
            for to in [self.unlearned.v4, self.unlearned.v6] {
                begun.extend(
                    [80, 443, 853]
                        .map(|port| sender::syn(to, port))
                        .into_iter()
                        .flatten(),
                );
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                for port in [443, 853] {
                    let _ = UdpSocket::bind(any).and_then(|udp| udp.send_to(b"quic", (to, port)));
                }
            }
            begun
        })?;
        self.stage.lab.fence()
    }
}

/// Takes out each rule that drops what only the gateway may send, and what the gateway sends with a
/// wrong source, if it is wanted: something must leave. With all rules nothing leaves.
pub(crate) fn each_leaks(wanted: &dyn Fn(&Rule) -> bool) -> Result<()> {
    let mut trial = Trial::new()?;
    let leaks = trial.leaks_without(&[])?;
    assert_eq!(leaks, 0, "with all rules: {:?}", trial.tally.examples);
    let all = rules(&trial.stage)?;
    let keeps = |rule: &&Rule| {
        let drops = |chain: &str| {
            let goes = rule.text.ends_with(&format!("goto {chain}"));
            goes || rule.chain == chain && rule.text.ends_with(" drop")
        };
        drops("drop-by-gateway")
            || drops("drop-unlearned")
            || rule.chain == "gateway-check" && rule.text.ends_with("goto drop-wrong-source")
    };
    let mut silent = Vec::new();
    let mut tried = 0;
    let refuses = |rule: &&Rule| {
        rule.chain.starts_with("refused") && rule.text.ends_with("goto drop-wrong-source")
    };
    for rule in all.iter().filter(keeps).filter(|rule| wanted(rule)) {
        let Rule {
            family,
            chain,
            text,
            ..
        } = rule;
        // What does not drop there is refused as any other source that is not the workload's.
        let (mut without, mut note) = (vec![rule], "");
        if chain == "drop-unlearned" {
            without.extend(all.iter().filter(refuses));
            note = " without the ends of refused4 and refused6 as well";
        }
        let leaks = trial.leaks_without(&without)?;
        println!("{family} {chain}: {text}: {leaks} leak{note}");
        tried += 1;
        if leaks == 0 {
            silent.push(&rule.text);
        }
    }
    assert!(tried > 1, "{tried} rules were tried");
    assert!(silent.is_empty(), "nothing leaves without {silent:#?}");
    Ok(())
}
