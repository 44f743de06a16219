//! A wave: containers that are started beside each other, disturbed, and removed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use sortie_lab::{Container, ContainerSpec, Destination, Engine, Result, eventually};

use super::fault::{self, Faults};
use super::tally::{Allowed, Asks, Tally};
use super::{asker, policies, sender};
use crate::stage::{HOST_V4, HOST_V6, LIMIT, Stage, ip};

/// How many are started at the same time.
const STARTERS: usize = 3;

/// How long the last one started is disturbed before all are removed.
const LIFE: Duration = Duration::from_secs(4);

/// The last number of each egress address.
pub(super) const EGRESS: [u8; 3] = [11, 12, 13];
/// The same of those that a container has itself.
pub(super) const DIRECT: [u8; 2] = [31, 32];

/// The network of those without a namespace of their own.
const ON_HOST: &str = "host";

/// Both families' addresses with these last numbers.
pub(super) fn addresses(last: &[u8]) -> Vec<std::net::IpAddr> {
    let both = |last: &u8| [format!("203.0.113.{last}"), format!("2001:db8:113::{last}")];
    last.iter().flat_map(both).map(|text| ip(&text)).collect()
}

/// What decides for a container.
#[derive(Clone, Copy)]
enum Kind {
    /// Nothing does.
    Plain,
    /// One of the policies that change.
    Policy(usize),
    /// Its label.
    Label,
    /// Its label, on the host's network.
    OnHost,
    /// Policies by name and by path, which deny all that has no name.
    Http,
    /// A policy by path; the other paths leave as without Sortie.
    Web,
}

/// One of each is in every wave that has so many.
const KINDS: [Kind; 8] = [
    Kind::Label,
    Kind::OnHost,
    Kind::Http,
    Kind::Web,
    Kind::Policy(policies::MODE),
    Kind::Policy(policies::ADDRESS),
    Kind::Policy(policies::ENFORCEMENT),
    Kind::Plain,
];

impl Kind {
    /// The others: half of them have labels.
    fn any(random: &mut Rng) -> Self {
        let place = random.usize(..KINDS.len() * 2);
        KINDS.get(place).copied().unwrap_or(Self::Label)
    }
}

struct Planned {
    number: usize,
    name: String,
    to: Destination,
    labels: Option<String>,
    asks: Option<asker::Names>,
    network: &'static str,
    always: bool,
}

/// The containers of one wave, before they are there.
pub(super) struct Wave {
    planned: Vec<Planned>,
    image: String,
}

/// A container of it that runs.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) container: Container,
    pub(super) to: Destination,
    /// In the tally.
    pub(super) number: usize,
    pub(super) on_host: bool,
}

/// What runs of it, shared by those who start and the one who disturbs.
#[derive(Default)]
pub(super) struct Running(Mutex<Vec<Member>>);

impl Running {
    fn add(&self, member: Member) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(member);
    }

    /// One of them.
    pub(super) fn any(&self, random: &mut Rng) -> Option<Member> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        random.choice(running.iter()).cloned()
    }

    fn all(&self) -> Vec<Member> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wave {
    /// Chooses each container's policy and network; some are on the host's network, if they may.
    pub(super) fn plan(
        stage: &Stage,
        image: &str,
        (containers, on_host): (usize, bool),
        random: &mut Rng,
        tally: &mut Tally,
    ) -> Result<Self> {
        let mut planned = Vec::new();
        for place in 0..containers {
            let to = stage.lab.destination()?;
            let kind = KINDS.get(place).copied();
            let kind = match kind.unwrap_or_else(|| Kind::any(random)) {
                Kind::OnHost if !on_host => Kind::Label,
                kind => kind,
            };
            let last = *random.choice(&EGRESS).unwrap_or(&EGRESS[0]);
            let given = Allowed::Only(addresses(&[last]));
            let (name, allowed, labelled) = match kind {
                Kind::Plain => {
                    let all = [&EGRESS[..], &DIRECT[..]].concat();
                    ("plain", Allowed::AnyBut(addresses(&all)), false)
                }
                Kind::Policy(number) => (policies::name(number), Allowed::Given(number), false),
                Kind::Label => ("label", given, true),
                Kind::OnHost => ("host", given, true),
                Kind::Http => ("http", Allowed::Given(policies::NAMES), false),
                Kind::Web => ("web", host(), false),
            };
            let label = format!("203.0.113.{last},2001:db8:113::{last}");
            let name = format!("{name}-{}", tally.containers());
            let number = tally.add(&name, to, allowed);
            planned.push(Planned {
                number,
                asks: asks(stage, kind, (number, to), tally)?,
                name,
                to,
                labels: labelled.then_some(label),
                network: match kind {
                    Kind::OnHost => ON_HOST,
                    _ if random.bool() => "shop",
                    _ => stage.engine.kind().default_network(),
                },
                // Few ask by name: some of them must outlive an engine's restart.
                always: random.u8(0..4) == 0 || matches!(kind, Kind::Http | Kind::Web),
            });
        }
        Ok(Self {
            planned,
            image: image.to_owned(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.planned.len()
    }

    /// Starts them while faults strike, lets them live for a while, and removes them.
    pub(super) fn run(
        self,
        stage: &mut Stage,
        faults: &mut Faults,
        random: &mut Rng,
        tally: &mut Tally,
    ) -> Result<()> {
        let asked = tally.requests;
        let running = Running::default();
        let queue = Mutex::new(self.planned);
        let calm = Mutex::new(Vec::new());
        let engine = stage.engine.clone();
        let strikes = faults.strikes();
        thread::scope(|scope| {
            let (done, over) = mpsc::channel::<()>();
            let mut starters = Vec::new();
            for _ in 0..STARTERS {
                let done = done.clone();
                let (queue, running, calm) = (&queue, &running, &calm);
                let (engine, image, strikes) = (&engine, &self.image, &strikes);
                starters.push(scope.spawn(move || -> Result<()> {
                    // Its end is what the disturber waits for.
                    let _done = done;
                    while let Some(planned) = next(queue) {
                        let before = strikes.load(Ordering::SeqCst);
                        running.add(planned.start(engine, image)?);
                        // An odd number: something is struck just now.
                        if before % 2 == 0 && strikes.load(Ordering::SeqCst) == before {
                            calm.lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(planned.number);
                        }
                    }
                    Ok(())
                }));
            }
            drop(done);
            disturb(&over, stage, faults, &running, random, tally)?;
            for starter in starters {
                starter
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(())
        })?;
        for number in calm.into_inner().unwrap_or_else(PoisonError::into_inner) {
            tally.was_calm(number);
        }
        fault::heal(stage)?;
        requests_arrive(stage, asked, tally)?;
        remove(running.all())?;
        tally.read(stage)
    }
}

impl Planned {
    /// Starts it, again and again while the engine is away.
    fn start(&self, engine: &Engine, image: &str) -> Result<Member> {
        let attempts = AtomicU32::new(0);
        let container = eventually(LIMIT * 3, &format!("{} starts", self.name), || {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            // A container that was made and did not start keeps its name.
            let spec = self.spec(&format!("{}-{attempt}", self.name), image);
            engine.run(&spec)
        })?;
        Ok(Member {
            container,
            to: self.to,
            number: self.number,
            on_host: self.network == ON_HOST,
        })
    }

    fn spec(&self, name: &str, image: &str) -> ContainerSpec {
        let spec = match &self.asks {
            Some(names) => asker::spec(name, image, names),
            None => sender::spec(name, image, self.to),
        };
        let mut spec = spec.network(self.network);
        if let Some(egress) = &self.labels {
            spec = spec.label("sortie.egress", egress);
        }
        if self.always { spec.always() } else { spec }
    }
}

/// What somebody with the host's own addresses is seen with.
fn host() -> Allowed {
    Allowed::Only([HOST_V4, HOST_V6].map(ip).to_vec())
}

/// The names of one who asks by name lead to its destination, and to one more for TLS; none for others.
fn asks(
    stage: &Stage,
    kind: Kind,
    (number, to): (usize, Destination),
    tally: &mut Tally,
) -> Result<Option<asker::Names>> {
    let api = Allowed::Given(policies::PATHS);
    let names = stage.lab.internet().observer().names();
    let name = |suffix: &str, to: Destination| {
        let name = format!("n{number}.{suffix}.leak");
        names.set(&name, &[to.v4, to.v6], 1);
        name
    };
    let (other, requests, tls) = match kind {
        Kind::Http => (Allowed::Given(policies::NAMES), name("http", to), None),
        Kind::Web => {
            // Nobody looks this up, so that its name is known from the client's hello only.
            let tls = stage.lab.destination()?;
            let number = tally.add_to(number, tls, host());
            tally.on_port(number, 443, api.clone());
            (host(), name("web", to), Some((name("tls", tls), tls)))
        }
        _ => return Ok(None),
    };
    tally.asks(number, Asks { api, other });
    Ok(Some(asker::Names { requests, tls }))
}

/// In each wave some who ask by name have been answered, or are at last, whatever was struck.
fn requests_arrive(stage: &Stage, before: [u64; 2], tally: &mut Tally) -> Result<()> {
    eventually(LIMIT, "requests arrive", || {
        tally.read(stage).map_err(|error| error.to_string())?;
        let mut all = before.iter().zip(tally.requests);
        if all.all(|(before, now)| now > *before) {
            return Ok(());
        }
        Err(format!("{before:?} before, {:?} now", tally.requests))
    })
}

fn next(queue: &Mutex<Vec<Planned>>) -> Option<Planned> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// Strikes until the last container was started, and a while longer.
fn disturb(
    over: &Receiver<()>,
    stage: &mut Stage,
    faults: &mut Faults,
    running: &Running,
    random: &mut Rng,
    tally: &mut Tally,
) -> Result<()> {
    let mut rest = LIFE;
    loop {
        let pause = Duration::from_millis(random.u64(100..1200));
        match over.recv_timeout(pause) {
            Err(RecvTimeoutError::Disconnected) if rest.is_zero() => return Ok(()),
            // All are started: a wait that the channel can no longer give.
            Err(RecvTimeoutError::Disconnected) => {
                let (_open, never) = mpsc::channel::<()>();
                let _ = never.recv_timeout(pause);
                rest = rest.saturating_sub(pause);
            }
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
        }
        faults.strike(stage, running, random, tally)?;
        tally.read(stage)?;
    }
}

fn remove(containers: Vec<Member>) -> Result<()> {
    let queue = Mutex::new(containers);
    thread::scope(|scope| {
        let remover = || -> Result<()> {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some(member) = next else {
                    return Ok(());
                };
                member.container.remove()?;
            }
        };
        let removers: Vec<_> = (0..STARTERS).map(|_| scope.spawn(remover)).collect();
        for remover in removers {
            remover
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })
}
