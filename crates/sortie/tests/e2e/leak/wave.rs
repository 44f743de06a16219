//! A wave: containers that are started beside each other, disturbed, and removed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use sortie_lab::{Container, ContainerSpec, Destination, Engine, Result, eventually};

use super::fault::{self, Faults, POLICY_SOURCES};
use super::sender;
use super::tally::{Allowed, Tally};
use crate::stage::{LIMIT, Stage, ip};

/// How many are started at the same time.
const STARTERS: usize = 3;

/// How long the last one started is disturbed before all are removed.
const LIFE: Duration = Duration::from_secs(4);

/// The last number of each egress address.
pub(super) const EGRESS: [u8; 3] = [11, 12, 13];

/// Both families' addresses with these last numbers.
pub(super) fn addresses(last: &[u8]) -> Vec<std::net::IpAddr> {
    let both = |last: &u8| [format!("203.0.113.{last}"), format!("2001:db8:113::{last}")];
    last.iter().flat_map(both).map(|text| ip(&text)).collect()
}

struct Planned {
    number: usize,
    name: String,
    to: Destination,
    labels: Option<String>,
    network: &'static str,
    always: bool,
}

/// The containers of one wave, before they are there.
pub(super) struct Wave {
    planned: Vec<Planned>,
    image: String,
}

/// What runs of it, shared by those who start and the one who disturbs.
#[derive(Default)]
pub(super) struct Running(Mutex<Vec<(Container, Destination)>>);

impl Running {
    fn add(&self, container: (Container, Destination)) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(container);
    }

    /// One of them.
    pub(super) fn any(&self, random: &mut Rng) -> Option<(Container, Destination)> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        random.choice(running.iter()).cloned()
    }

    fn all(&self) -> Vec<(Container, Destination)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wave {
    /// Chooses each container's policy and network.
    pub(super) fn plan(
        stage: &Stage,
        image: &str,
        containers: usize,
        random: &mut Rng,
        tally: &mut Tally,
    ) -> Result<Self> {
        let mut planned = Vec::new();
        for _ in 0..containers {
            let to = stage.lab.destination()?;
            let (kind, labels, allowed) = match random.u8(0..8) {
                0 => ("plain", None, Allowed::AnyBut(addresses(&EGRESS))),
                1 | 2 => ("policy", None, Allowed::Only(addresses(&POLICY_SOURCES))),
                _ => {
                    let last = *random.choice(&EGRESS).unwrap_or(&EGRESS[0]);
                    let label = format!("203.0.113.{last},2001:db8:113::{last}");
                    ("label", Some(label), Allowed::Only(addresses(&[last])))
                }
            };
            let name = format!("{kind}-{}", tally.containers());
            planned.push(Planned {
                number: tally.add(&name, to, allowed),
                name,
                to,
                labels,
                network: if random.bool() {
                    "shop"
                } else {
                    stage.engine.kind().default_network()
                },
                always: random.u8(0..4) == 0,
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
                        running.add((planned.start(engine, image)?, planned.to));
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
        remove(running.all())?;
        tally.read(stage)
    }
}

impl Planned {
    /// Starts it, again and again while the engine is away.
    fn start(&self, engine: &Engine, image: &str) -> Result<Container> {
        let attempts = AtomicU32::new(0);
        eventually(LIMIT * 3, &format!("{} starts", self.name), || {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            // A container that was made and did not start keeps its name.
            let spec = self.spec(&format!("{}-{attempt}", self.name), image);
            engine.run(&spec)
        })
    }

    fn spec(&self, name: &str, image: &str) -> ContainerSpec {
        let mut spec = sender::spec(name, image, self.to).network(self.network);
        if let Some(egress) = &self.labels {
            spec = spec.label("sortie.egress", egress);
        }
        if self.always { spec.always() } else { spec }
    }
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
        faults.strike(stage, running, random)?;
        tally.read(stage)?;
    }
}

fn remove(containers: Vec<(Container, Destination)>) -> Result<()> {
    let queue = Mutex::new(containers);
    thread::scope(|scope| {
        let remover = || -> Result<()> {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some((container, _)) = next else {
                    return Ok(());
                };
                container.remove()?;
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
