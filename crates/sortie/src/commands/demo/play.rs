//! The demo's steps: all is well; the agent is killed and an address goes; both come back.

use std::net::IpAddr;
use std::time::Duration;

use sortie_agent::api::WorkloadState;
use sortie_lab::{ALL_TRAFFIC, Call, ContainerSpec, Place};
use tokio::runtime::Handle;

use super::row::{Evidence, Row, judge};
use super::stage::{Stage, UNMANAGED, Workload};
use super::{Stop, say};
use crate::error::CliError;

/// The host's own address, and those of the workloads.
const HOST: IpAddr = address(5);
const WEB: IpAddr = address(11);
const MAIL: IpAddr = address(12);
const ATTACHED: IpAddr = address(13);
const PROCESS: IpAddr = address(14);

/// In 203.0.113.0/24 (RFC 5737), the uplink's subnet.
const fn address(last: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, last))
}

/// How long an answer may take; and an attempt that must not be answered: a SYN and another.
const ANSWER: Duration = Duration::from_secs(5);
const REFUSED: Duration = Duration::from_millis(1200);

/// The network that compose makes for a project.
const NETWORK: &str = "shop_default";

/// Makes the lab, plays every step, and takes the lab down.
pub(super) fn all(stop: &Stop, runtime: &Handle) -> Result<Vec<Row>, CliError> {
    let mut stage = Stage::new(HOST, &[WEB, MAIL], stop, runtime)?;
    stage.start_agent()?;
    place_workloads(&mut stage)?;

    say("each workload calls an observer in the internet: TCP, UDP and ICMP echo");
    let mut rows = look(&stage, "1 all runs", None)?;

    say(&format!(
        "kill -9 for the agent and its holder; ip addr del {MAIL}/32 dev up0; calling again"
    ));
    stage.kill_agent()?;
    stage.run("ip", &["addr", "del", &format!("{MAIL}/32"), "dev", "up0"])?;
    rows.extend(look(&stage, "2 kill -9, addr del", Some(MAIL))?);

    say(&format!(
        "a new agent; ip addr add {MAIL}/32 dev up0; calling again"
    ));
    stage.start_agent()?;
    stage.run("ip", &["addr", "add", &format!("{MAIL}/32"), "dev", "up0"])?;
    for workload in &stage.workloads {
        stage.wait_for(&workload.place.name(), workload.state())?;
    }
    rows.extend(look(&stage, "3 restart, addr add", None)?);

    say("taking the lab down");
    Ok(rows)
}

/// A compose project of three services, a container without a network, and a process.
fn place_workloads(stage: &mut Stage) -> Result<(), CliError> {
    say(
        "a compose project: shop-web-1 and shop-mail-1 have the label sortie.egress, shop-cache-1 has none",
    );
    stage.network(NETWORK, "10.77.1.0/24")?;
    for (service, egress) in [("web", Some(WEB)), ("mail", Some(MAIL)), ("cache", None)] {
        let container = stage.container(&compose(service, egress))?;
        let policy = egress.map_or(UNMANAGED, |_| "label sortie.egress");
        add(stage, container, policy, egress.unwrap_or(HOST))?;
    }

    say(&format!(
        "docker run --network none --name container1; sortie attach container1 --address {ATTACHED}"
    ));
    let bare = stage.container(&ContainerSpec::new("container1").network("none"))?;
    stage.wait_for("container1", WorkloadState::Unmanaged)?;
    stage.sortie(&["attach", "container1", "--address", &ATTACHED.to_string()])?;
    add(stage, bare, "sortie attach", ATTACHED)?;

    say(&format!("sortie run --address {PROCESS} -- backup"));
    let process = stage.process("backup", PROCESS)?;
    add(stage, process, "sortie run", PROCESS)
}

/// A service's container with the labels and the name that compose gives it.
fn compose(service: &str, egress: Option<IpAddr>) -> ContainerSpec {
    let spec = ContainerSpec::new(&format!("shop-{service}-1"))
        .network(NETWORK)
        .label("com.docker.compose.project", "shop")
        .label("com.docker.compose.service", service);
    match egress {
        Some(address) => spec.label("sortie.egress", &address.to_string()),
        None => spec,
    }
}

/// Adds a workload, once the agent has it as it should be.
fn add(
    stage: &mut Stage,
    place: impl Place + Send + 'static,
    policy: &'static str,
    source: IpAddr,
) -> Result<(), CliError> {
    let workload = Workload {
        place: Box::new(place),
        policy,
        source,
        destination: stage.lab.destination()?,
    };
    stage.wait_for(&workload.place.name(), workload.state())?;
    stage.workloads.push(workload);
    Ok(())
}

/// A row for each workload; `gone` is an address that is not on the host.
fn look(stage: &Stage, step: &'static str, gone: Option<IpAddr>) -> Result<Vec<Row>, CliError> {
    let rows = stage.workloads.iter().map(|workload| {
        stage.stop.check()?;
        let expected = Some(workload.source).filter(|source| Some(*source) != gone);
        let evidence = call(stage, workload, expected)?;
        Ok(Row {
            step,
            workload: workload.place.name(),
            policy: workload.policy,
            expected,
            verdict: judge(expected, &evidence),
            evidence,
        })
    });
    rows.collect()
}

/// Every kind of traffic from a workload to its destination, and what both witnesses say of it.
fn call(
    stage: &Stage,
    workload: &Workload,
    expected: Option<IpAddr>,
) -> Result<Evidence, CliError> {
    let (lab, to) = (&stage.lab, workload.destination.v4);
    let observer = lab.internet().observer();
    // What earlier calls sent must not count for this one.
    lab.fence()?;
    let (mark, seen_before) = (lab.mark()?, observer.seen_at(to).len());
    let limit = if expected.is_some() { ANSWER } else { REFUSED };
    let calls = ALL_TRAFFIC.map(|traffic| {
        let call = Call::new(traffic, to).within(limit);
        call.make(workload.place.as_ref()).is_ok()
    });
    lab.fence()?;
    let seen = observer.seen_at(to).into_iter().skip(seen_before);
    let frames = lab.frames_since(&mark)?;
    let left = frames.iter().filter_map(|(_, frame)| frame.left());
    let left = left.filter(|packet| packet.destination == to);
    Ok(Evidence {
        attempts: calls.len(),
        answered: calls.iter().filter(|answered| **answered).count(),
        seen: once(seen.map(|caller| caller.source.ip())),
        left: once(left.map(|packet| packet.source)),
    })
}

fn once(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let addresses: std::collections::BTreeSet<IpAddr> = addresses.collect();
    addresses.into_iter().collect()
}
