//! The leak test: containers send and ask from their first instruction, while everything around them
//! is killed, taken away and changed. Every frame on the uplink is read, and every request at its other
//! end, and none may be wrong.

use std::env;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use fastrand::Rng;
use sortie_lab::{EngineKind, Result};

use self::claims::Claims;
use self::fault::Faults;
use self::report::{Report, Run};
use self::tally::Tally;
use self::wave::Wave;
use self::weakened::Rule;
use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, PODMAN, Stage};

mod asker;
mod claims;
mod evidence;
mod fault;
mod gateway;
mod policies;
mod report;
mod sender;
mod tally;
mod wave;
mod weakened;

/// Containers at a time, at most.
const WAVE: usize = 60;

/// Containers of one lab: each has a destination, and some have two.
const LAB: usize = 180;

/// What is run.
#[derive(Clone)]
pub(super) struct Settings {
    engine: EngineKind,
    containers: usize,
    seed: u64,
    guard: bool,
    /// Whether Sortie's runtime starts the containers.
    runtime: bool,
    /// Rules that are taken out, as `--failpoints` names them.
    failpoints: String,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guard = if self.guard {
            "on all bridges"
        } else {
            "only where a policy names a network"
        };
        let runtime = if self.runtime { "with" } else { "without" };
        write!(f, "{}, guard {guard}, {runtime} the runtime", self.engine)?;
        if self.failpoints.is_empty() {
            return Ok(());
        }
        write!(f, ", {}", self.failpoints)
    }
}

/// Runs all waves on one engine.
fn run(settings: &Settings) -> Result<Run> {
    let mut random = Rng::with_seed(settings.seed);
    let mut result = Run::new(settings.clone());
    let mut left = settings.containers;
    while left > 0 {
        let share = left.min(LAB);
        left -= share;
        run_lab(settings, share, &mut random, &mut result)?;
    }
    Ok(result)
}

fn run_lab(
    settings: &Settings,
    containers: usize,
    random: &mut Rng,
    result: &mut Run,
) -> Result<()> {
    let mut stage = Stage::without_agent("leak", settings.engine)?;
    stage.network("shop", 1, &[])?;
    let image = stage
        .engine
        .image_of(&env::current_exe().expect("this program"))?;
    let mut faults = Faults::new(settings.guard, &settings.failpoints, random);
    let mut tally = Tally::default();
    faults.begin(&mut stage, &mut tally)?;
    if settings.runtime {
        // Longer than any fault lasts.
        stage.install("60");
    }
    // No guard holds these before they are known.
    let on_host = settings.runtime && settings.engine != PODMAN;
    let mut left = containers;
    while left > 0 {
        let size = (left.min(WAVE), on_host);
        let wave = Wave::plan(&stage, &image, size, random, &mut tally)?;
        left -= wave.len();
        let done = wave.run(&mut stage, &mut faults, random, &mut tally);
        if done.is_err() {
            // It may be the agent that does not answer.
            let _ = evidence::keep(&stage);
        }
        done?;
        result.progress(&tally);
    }
    stage.lab.fence()?;
    Claims::new(&stage, &mut tally)?.ask(&stage, &mut tally)?;
    result.add(containers, &tally, &faults, &stage)
}

/// A small run on one engine, for every day.
fn nothing_leaves_wrongly(engine: EngineKind) -> Result<()> {
    let run = run(&Settings {
        engine,
        containers: 16,
        seed: 1,
        guard: true,
        runtime: false,
        failpoints: String::new(),
    })?;
    let report = Report::of(1, vec![run]);
    println!("{report}");
    assert_eq!(report.leaked(), 0, "{}", report.examples());
    assert!(report.packets() > 0, "nothing was sent");
    Ok(())
}

#[test]
fn nothing_leaves_wrongly_docker_20() -> Result<()> {
    nothing_leaves_wrongly(DOCKER_20)
}

#[test]
fn nothing_leaves_wrongly_docker_29() -> Result<()> {
    nothing_leaves_wrongly(DOCKER_29_NFTABLES)
}

#[test]
fn nothing_leaves_wrongly_podman() -> Result<()> {
    nothing_leaves_wrongly(PODMAN)
}

/// The test can fail: without these rules something of what is claimed leaves.
#[test]
fn a_weakened_guard_is_noticed() -> Result<()> {
    let some = |rule: &Rule| {
        let is = |chain, end| rule.chain == chain && rule.text.ends_with(end);
        is("refused4", "goto drop-wrong-source")
            || rule.family == "bridge" && is("port", "drop")
            || is("guarded", "goto drop-unidentified")
    };
    weakened::each_leaks(&some)
}

/// What `make leak-weakened` runs.
#[test]
#[ignore = "it takes long: make leak-weakened"]
fn without_each_rule() -> Result<()> {
    weakened::each_leaks(&|_| true)?;
    weakened::gateway::each_leaks(&|_| true)
}

/// The same for what the gateway sends, and for who reaches out past it.
#[test]
fn a_weakened_gateway_is_noticed() -> Result<()> {
    weakened::gateway::each_leaks(&|rule| {
        rule.chain == "gateway-check"
            || rule.chain.starts_with("check4") && rule.text.starts_with("tcp dport 80")
    })
}

/// What `make leak` runs: its variables are read here, and the report goes to `LEAK_REPORT`.
#[test]
#[ignore = "it takes long: make leak"]
fn at_length() -> Result<()> {
    let variable = |name: &str, default: &str| {
        env::var(name)
            .ok()
            .filter(|value| !value.is_empty())
            .unwrap_or_else(|| default.to_owned())
    };
    let containers: NonZeroUsize = variable("LEAK_N", "1000")
        .parse()
        .expect("LEAK_N is a number");
    let seed = variable("LEAK_SEED", &fastrand::u32(..).to_string());
    let seed = seed.parse().expect("LEAK_SEED is a number");
    let guard = match variable("LEAK_GUARD", "all").as_str() {
        "all" => true,
        "none" => false,
        other => panic!("LEAK_GUARD is all or none, not {other}"),
    };
    let engines = variable("LEAK_ENGINES", "20,29,podman");
    let engines = engines.split(',').map(|engine| match engine {
        "20" => DOCKER_20,
        "29" => DOCKER_29_NFTABLES,
        "podman" => PODMAN,
        other => panic!("LEAK_ENGINES are 20, 29 and podman, not {other}"),
    });
    let runtimes: &[bool] = match variable("LEAK_RUNTIME", "both").as_str() {
        "yes" => &[true],
        "no" => &[false],
        "both" => &[true, false],
        other => panic!("LEAK_RUNTIME is yes, no or both, not {other}"),
    };
    let failpoints = variable("LEAK_FAILPOINTS", "");
    let each = engines.flat_map(|engine| runtimes.iter().map(move |runtime| (engine, *runtime)));
    let each: Vec<(EngineKind, bool)> = each.collect();
    let mut runs = Vec::new();
    for (number, (engine, runtime)) in each.iter().enumerate() {
        // The first runs take one more each where it does not divide.
        let more = usize::from(number < containers.get() % each.len());
        let settings = Settings {
            engine: *engine,
            containers: containers.get() / each.len() + more,
            seed,
            guard,
            runtime: *runtime,
            failpoints: failpoints.clone(),
        };
        println!("seed {seed}: {settings}");
        runs.push(run(&settings)?);
    }
    let report = Report::of(seed, runs);
    if let Ok(path) = env::var("LEAK_REPORT") {
        report.write(Path::new(&path));
    }
    println!("{report}");
    assert_eq!(report.leaked(), 0, "{}", report.examples());
    Ok(())
}
