//! From a container's start to its first packet with the right source, on a real Docker engine:
//! with the OCI runtime, with events alone, and Docker by itself.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use sortie_lab::{
    ContainerSpec, Engine, EngineKind, EngineSpec, Firewall, Host, HostSpec, Lab, Process,
    UplinkSpec, eventually,
};

use crate::Failure;
use crate::record::Record;

const ROUNDS: usize = 5;
/// Of each kind in one round, one after the other.
const STARTS: usize = 10;
const LIMIT: Duration = Duration::from_mins(1);
const NODE: &str = "203.0.113.5";
const EGRESS: &str = "203.0.113.11";
const EGRESS_V6: &str = "2001:db8:113::11";

/// How a container comes to its source.
#[derive(Clone, Copy)]
enum Kind {
    /// Docker's own: the host's address.
    Alone,
    /// A label, and the OCI runtime.
    Runtime,
    /// A label, and what Docker tells the agent.
    Events,
}

pub(crate) fn run() -> Result<Vec<Record>, Failure> {
    let stage = Stage::new()?;
    let mut figures: [Vec<f64>; 3] = Default::default();
    for round in 0..ROUNDS {
        let mut starts: [Vec<f64>; 3] = Default::default();
        for number in 0..STARTS {
            for (kind, of_kind) in [Kind::Alone, Kind::Runtime, Kind::Events]
                .into_iter()
                .zip(&mut starts)
            {
                let name = format!("c-{round}-{number}");
                of_kind.push(stage.start(&name, kind)?.as_secs_f64() * 1e9);
            }
        }
        for (all, mut of_kind) in figures.iter_mut().zip(starts) {
            of_kind.sort_by(f64::total_cmp);
            all.push(of_kind[STARTS / 2]);
        }
        let [alone, runtime, events] = figures.each_ref().map(|all| all[round]);
        eprintln!(
            "round {}: docker run, runtime, events: {alone:.0}, {runtime:.0}, {events:.0} ns",
            round + 1
        );
    }
    let [alone, runtime, events] = figures;
    let peer = ("docker-run", alone.as_slice());
    Ok(vec![
        Record::beside("container-start/wrapper", 1, "ns", &runtime, peer),
        Record::beside("container-start/events", 1, "ns", &events, peer),
    ])
}

/// Dropped in this order: what runs in a host goes before it, and the lab last.
struct Stage {
    _agent: Process,
    engine: Engine,
    host: Host,
    lab: Lab,
}

impl Stage {
    /// An engine with the runtime, and an agent without a guard.
    fn new() -> Result<Self, Failure> {
        let lab = Lab::new("bench")?;
        let uplink = UplinkSpec::new(&[&format!("{NODE}/24"), "2001:db8:113::5/64"])
            .address(&format!("{EGRESS}/32"))
            .address(&format!("{EGRESS_V6}/128"));
        let host = lab.host(&HostSpec::new("h1").uplink(uplink))?;
        let kind = EngineKind::Docker29(Firewall::Nftables);
        let engine = Engine::start(&host, &EngineSpec::new(kind))?;
        let folder = host.folder().to_owned();
        fs::write(folder.join("agent.yaml"), "")?;
        let mut agent = Command::new(sortie()?);
        agent.arg("agent");
        agent.arg("--config").arg(folder.join("agent.yaml"));
        agent.arg("--policies").arg(folder.join("policies"));
        agent.arg("--state").arg(folder.join("state"));
        agent.arg("--docker").arg(engine.socket());
        let agent = host.spawn("agent", agent)?;
        let stage = Self {
            _agent: agent,
            engine,
            host,
            lab,
        };
        eventually(LIMIT, "the agent knows the engine", || {
            let status = stage.sortie(&["status", "-o", "json"]);
            let status = status.map_err(|failure| failure.to_string())?;
            if status.contains("\"state\": \"Connected\"") {
                return Ok(());
            }
            Err(status)
        })?;
        let socket = stage.engine.socket().display().to_string();
        let kept = folder.join("state").display().to_string();
        let told = stage.sortie(&["install", "docker", "--docker", &socket, "--state", &kept])?;
        eprint!("{told}");
        Ok(stage)
    }

    fn sortie(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(sortie()?);
        command.args(arguments);
        let outcome = self.host.run(LIMIT, command)?;
        Ok(outcome.stdout + &outcome.stderr)
    }

    /// From the request to start it to its first frame with the right source, of those that it
    /// sends all the time.
    fn start(&self, name: &str, kind: Kind) -> Result<Duration, Failure> {
        let to = self.lab.destination()?.v4;
        let send = format!("ping -i 0.002 {to} >/dev/null");
        let spec = ContainerSpec::new(name).command(&["sh", "-c", &send]);
        let labelled =
            |spec: ContainerSpec| spec.label("sortie.egress", &format!("{EGRESS},{EGRESS_V6}"));
        let (spec, source) = match kind {
            Kind::Alone => (spec.runtime("runc"), NODE),
            Kind::Runtime => (labelled(spec.runtime("sortie")), EGRESS),
            Kind::Events => (labelled(spec.runtime("runc")), EGRESS),
        };
        let source: IpAddr = source.parse()?;
        let container = self.engine.create(&spec)?;
        let mark = self.lab.mark()?;
        let begin = SystemTime::now();
        container.start()?;
        let first = eventually(LIMIT, "a frame with the right source", || {
            let frames = self.lab.frames_since(&mark).map_err(|it| it.to_string())?;
            let mut frames = frames.into_iter().map(|(_, frame)| frame);
            let right = frames.find(|frame| {
                let packet = frame.left();
                packet.is_some_and(|it| it.destination == to && it.source == source)
            });
            right.map(|frame| frame.at).ok_or("nothing".to_owned())
        })?;
        container.remove()?;
        Ok(first.duration_since(begin)?)
    }
}

/// The program, built with the same profile as this bench.
fn sortie() -> Result<PathBuf, Failure> {
    let bench = std::env::current_exe()?;
    let folder = bench.parent().and_then(Path::parent);
    let program = folder.map(|folder| folder.join("sortie"));
    program
        .filter(|program| program.is_file())
        .ok_or_else(|| "the program is not built: run `make bench-host`".into())
}
