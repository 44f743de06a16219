//! The cost of a packet: of an established flow, and of a flow's first one.

use sortie_plan::nft::Family;
use sortie_plan::op::{NftOp, Op};

use crate::Failure;
use crate::record::Record;
use crate::rig::{Joined, Managed, Rig};

const ROUNDS: usize = 5;
/// Of one measurement of an established flow: about a second.
const PACKETS: u32 = 300_000;
/// Of one measurement of new flows.
const FLOWS: u32 = 20_000;
/// Where each new flow is compared with every rule.
const FLOWS_OF_LONG_LISTS: u32 = 2_000;

/// One way to treat the container's packets, and what it cost in each round.
struct Variant {
    rig: Rig,
    _managed: Option<Managed>,
    flows: u32,
    established: Vec<f64>,
    new: Vec<f64>,
}

impl Variant {
    fn new(rig: Rig, managed: Option<Managed>, flows: u32) -> Self {
        Self {
            rig,
            _managed: managed,
            flows,
            established: Vec::new(),
            new: Vec::new(),
        }
    }

    /// Only routing: no table at all, so no connection tracking either.
    fn routing() -> Result<Self, Failure> {
        Ok(Self::new(Rig::new(Joined::Veth)?, None, FLOWS))
    }

    /// Routing on a host with Docker, whose rules make the kernel track connections.
    fn tracked() -> Result<Self, Failure> {
        let rig = Rig::new(Joined::Veth)?;
        rig.docker()?;
        // Ours has such rules too: Docker drops what it does not know.
        rig.let_through()?;
        Ok(Self::new(rig, None, FLOWS))
    }

    /// On a host with Docker.
    fn direct() -> Result<Self, Failure> {
        let rig = Rig::new(Joined::Veth)?;
        rig.docker()?;
        let managed = rig.sortie(1)?;
        Ok(Self::new(rig, Some(managed), FLOWS))
    }

    /// The same with our chains, and no rule in them: what cannot be less.
    fn emptied() -> Result<Self, Failure> {
        let chains = [
            (Family::Inet, "identify"),
            (Family::Inet, "translate"),
            (Family::Inet, "guard"),
            (Family::Netdev, "uplink-up0"),
        ];
        let flush =
            |(family, chain): (_, &'static str)| Op::Nft(family, NftOp::FlushChain(chain.into()));
        let rig = Rig::new(Joined::Veth)?;
        rig.docker()?;
        let mut managed = rig.sortie(1)?;
        rig.host
            .enter(|| managed.kernel.apply(&chains.map(flush)))??;
        Ok(Self::new(rig, Some(managed), FLOWS))
    }

    fn docker() -> Result<Self, Failure> {
        let rig = Rig::new(Joined::Bridge)?;
        rig.docker()?;
        Ok(Self::new(rig, None, FLOWS))
    }

    fn iptables(containers: u32) -> Result<Self, Failure> {
        let rig = Rig::new(Joined::Bridge)?;
        rig.docker()?;
        // The table of Docker's MASQUERADE is replaced: the packet would not come to it.
        rig.iptables(containers)?;
        let flows = if containers > 1 {
            FLOWS_OF_LONG_LISTS
        } else {
            FLOWS
        };
        Ok(Self::new(rig, None, flows))
    }

    /// Docker's rules stay, as on a real host.
    fn translate(workloads: u32) -> Result<Self, Failure> {
        let rig = Rig::new(Joined::Bridge)?;
        rig.docker()?;
        let managed = rig.sortie(workloads)?;
        Ok(Self::new(rig, Some(managed), FLOWS))
    }

    fn measure(&mut self) -> Result<(), Failure> {
        self.established.push(self.rig.established(PACKETS)?);
        self.new.push(self.rig.new_flows(self.flows)?);
        Ok(())
    }
}

pub(crate) fn run() -> Result<Vec<Record>, Failure> {
    let mut variants = vec![
        ("routing", Variant::routing()?),
        ("routing-tracked", Variant::tracked()?),
        ("direct", Variant::direct()?),
        ("empty-chains", Variant::emptied()?),
        ("docker-masquerade", Variant::docker()?),
        ("translate 1", Variant::translate(1)?),
        ("iptables 1", Variant::iptables(1)?),
        ("translate 1000", Variant::translate(1_000)?),
        ("iptables 1000", Variant::iptables(1_000)?),
        ("translate 10000", Variant::translate(10_000)?),
        ("iptables 10000", Variant::iptables(10_000)?),
        ("translate 100000", Variant::translate(100_000)?),
    ];
    for round in 1..=ROUNDS {
        for (name, variant) in &mut variants {
            variant.measure()?;
            let (established, new) = (variant.established.last(), variant.new.last());
            eprintln!(
                "round {round}: {name}: {established:.0?} ns a packet, {new:.0?} ns a new flow"
            );
        }
    }
    let of = |name: &str| {
        let found = variants.iter().find(|(other, _)| *other == name);
        found
            .map(|(_, variant)| variant)
            .ok_or_else(|| format!("no variant {name}"))
    };
    let established = |name: &str| of(name).map(|variant| variant.established.clone());
    let new = |name: &str| of(name).map(|variant| variant.new.clone());

    let mut records = Vec::new();
    for peer in ["routing", "routing-tracked", "empty-chains"] {
        let (ours, theirs) = (established("direct")?, established(peer)?);
        records.push(Record::beside(
            "packet/direct",
            1,
            "ns",
            &ours,
            (peer, &theirs),
        ));
    }
    for (n, ours) in [(1, "translate 1"), (100_000, "translate 100000")] {
        for (peer, theirs) in [
            ("docker-masquerade", "docker-masquerade"),
            ("iptables", "iptables 1"),
        ] {
            let theirs = established(theirs)?;
            records.push(Record::beside(
                "packet/translate",
                n,
                "ns",
                &established(ours)?,
                (peer, &theirs),
            ));
        }
    }
    for (n, peer, theirs) in [
        (1, "docker-masquerade", "docker-masquerade"),
        (1, "iptables", "iptables 1"),
        (1_000, "iptables", "iptables 1000"),
        (10_000, "iptables", "iptables 10000"),
        (10_000, "routing", "routing"),
        (10_000, "routing-tracked", "routing-tracked"),
        (100_000, "sortie-at-1", "translate 1"),
    ] {
        let ours = new(&format!("translate {n}"))?;
        records.push(Record::beside(
            "connection/new",
            n,
            "ns",
            &ours,
            (peer, &new(theirs)?),
        ));
    }
    Ok(records)
}
