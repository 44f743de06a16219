//! The OCI runtime that an engine calls instead of runc: at `start` it waits until the container's
//! decision is in the kernel, or does not start it. In all else, and then, it becomes the real
//! runtime, with the same arguments.
//!
//! `start` is where the engine has connected all networks and no process of the container runs:
//! Docker 20.10 connects them in a hook of `create`, Docker 28 and later between `create` and
//! `start`, Podman before `create`, or behind it where the container has a user namespace of its
//! own. `run` of BuildKit and `restore` of a checkpoint are passed on as they are.

mod command_line;

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use sortie_api::workload::Engine;
use sortie_workloads::docker::begun::Begun;
use sortie_workloads::docker::runtime::{LINK, Settings};

use crate::api::{Meanwhile, Starting, StartingRequest};
use crate::client::Client;
use crate::process::started;
use crate::standing;
use command_line::CommandLine;

/// How long a container that nothing concerns waits for an agent that does not answer, or for one
/// that does not know its network.
const UNCONCERNED: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone.
const ENDS: Duration = Duration::from_secs(5);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);
/// What the root folder of Docker's runtime ends with: the namespace of its containers in
/// containerd.
const DOCKERS: &str = "moby";

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine calls by the path in its configuration; by hand, and through PATH, there is none.
    #[error("{LINK} is for container engines, which call it by its whole path")]
    NoPath,
    /// What `install` has written, or an engine keeps of a container.
    #[error(transparent)]
    Workloads(#[from] sortie_workloads::Error),
    /// The real runtime cannot be run.
    #[error("cannot run {runtime}: {source}; `sortie install` finds it anew")]
    Exec {
        /// As it is called.
        runtime: String,
        /// From the system.
        source: std::io::Error,
    },
    /// The real runtime does not tell the container's process.
    #[error("{runtime} does not tell the process of container {id}: {detail}")]
    State {
        /// As it is called.
        runtime: String,
        /// The container.
        id: String,
        /// What it said.
        detail: String,
    },
    /// No decision.
    #[error("sortie does not start {name}: {why}")]
    NotStarted {
        /// The container's name.
        name: String,
        /// Why not, and what to do.
        why: String,
    },
    /// No runtime for the question to the agent.
    #[error("cannot ask the agent: {0}")]
    Asynchronous(std::io::Error),
}

/// The path that this program was called by, if that is the runtime's: a link of its name, or one in
/// a folder of its name.
pub fn called_as(program: Option<OsString>) -> Option<PathBuf> {
    let path = PathBuf::from(program?);
    let is_its = |path: &Path| path.file_name().is_some_and(|name| name == LINK);
    (is_its(&path) || is_in_folder(&path)).then_some(path)
}

fn is_in_folder(link: &Path) -> bool {
    let folder = link.parent().and_then(Path::file_name);
    folder.is_some_and(|name| name == LINK)
}

/// Where the link's settings are.
fn folder(link: &Path) -> Option<&Path> {
    let folder = link.parent().filter(|folder| folder.is_absolute())?;
    if is_in_folder(link) {
        return folder.parent();
    }
    Some(folder)
}

/// Becomes the real runtime; returns only with an error, which the engine has been told.
pub fn run(link: &Path, arguments: Vec<OsString>) -> Result<Infallible, RuntimeError> {
    let command_line = CommandLine::parse(arguments);
    let run = || {
        let folder = folder(link).ok_or(RuntimeError::NoPath)?;
        let settings = Settings::load(folder)?;
        if let Some(id) = command_line.started() {
            wait(folder, &settings, &command_line, id)?;
        }
        let mut command = real(&settings);
        let source = command.args(&command_line.all).exec();
        let runtime = settings.runtime.clone();
        Err(RuntimeError::Exec { runtime, source })
    };
    run().inspect_err(|error| tell_engine(&command_line, error))
}

fn real(settings: &Settings) -> Command {
    let mut command = Command::new(&settings.runtime);
    command.args(&settings.arguments);
    command
}

/// 1. Containers of others are none of our business, nor those in another one's namespace, unless
///    that is the host's.
/// 2. Where it is, by its process; who it is, by the engine's files.
/// 3. The agent is asked again and again, or what it left.
/// 4. A container of Docker that is not started ends.
fn wait(
    folder: &Path,
    settings: &Settings,
    line: &CommandLine,
    id: &str,
) -> Result<(), RuntimeError> {
    if settings.engine == Engine::Docker && !is_dockers(settings, line, id) {
        return Ok(());
    }
    let State { pid, bundle } = state(settings, line, id)?;
    // What a user's own Podman starts, one with another `--root`, or a step of a build.
    let of_another = settings.engine == Engine::Podman && !bundle.starts_with(&settings.storage);
    if of_another || pid == 0 {
        // Where it has ended the real runtime says so.
        return Ok(());
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RuntimeError::Asynchronous)?
        .block_on(async {
            let held = hold(folder, settings, id, pid).await;
            if held.is_err() && settings.engine == Engine::Docker {
                end(pid).await;
            }
            held
        })
}

async fn hold(folder: &Path, settings: &Settings, id: &str, pid: u32) -> Result<(), RuntimeError> {
    let container = match settings.engine {
        Engine::Docker => Begun::of_docker(&settings.containers, id)?,
        Engine::Podman => Begun::of_podman(&settings.containers, id).await?,
    };
    if container.shares && !is_in_own_namespace(pid) {
        return Ok(());
    }
    let name = container.name.clone();
    let state = folder.parent().unwrap_or(folder);
    let request = StartingRequest { container, pid };
    let decided = decided(settings, state, &request).await;
    decided.map_err(|why| RuntimeError::NotStarted { name, why })
}

fn is_dockers(settings: &Settings, line: &CommandLine, id: &str) -> bool {
    let root = line.value("root").map(Path::new);
    let root = root.and_then(Path::file_name);
    root.is_some_and(|it| it == DOCKERS) || settings.containers.join(id).is_dir()
}

/// Whether a process is in the network namespace that the engine calls its runtime in: the host's.
fn is_in_own_namespace(pid: u32) -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let own = namespace("self");
    own.is_some() && own == namespace(&pid.to_string())
}

/// Ends a process that waits for a start which will not come: Docker 20.10 removes a container
/// whose start has failed only when it has no process any more. Podman keeps it as it is, to be
/// started again or removed, and would not notice that the process has ended.
async fn end(pid: u32) {
    let Some(since) = started(pid) else { return };
    if let Ok(process) = i32::try_from(pid) {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
    let begin = Instant::now();
    while started(pid) == Some(since) && begin.elapsed() < ENDS {
        tokio::time::sleep(PAUSE).await;
    }
}

/// The part of the runtime's answer to `state` that matters (OCI runtime specification, “State”).
#[derive(Deserialize)]
struct State {
    /// The container's first process, which waits for `start`; 0 when it has ended.
    pid: u32,
    /// The folder that it was made from.
    bundle: PathBuf,
}

fn state(settings: &Settings, line: &CommandLine, id: &str) -> Result<State, RuntimeError> {
    let output = real(settings)
        .args(line.globals())
        .args(["state", id])
        .output();
    let runtime = || settings.runtime.clone();
    let output = output.map_err(|source| RuntimeError::Exec {
        runtime: runtime(),
        source,
    })?;
    let state = serde_json::from_slice(&output.stdout);
    state.map_err(|error| RuntimeError::State {
        runtime: runtime(),
        id: id.to_owned(),
        detail: format!("{error}: {}", String::from_utf8_lossy(&output.stderr)),
    })
}

/// Until the decision is in the kernel, or waiting is in vain: then the error says why, and what
/// to do.
async fn decided(
    settings: &Settings,
    state: &Path,
    request: &StartingRequest,
) -> Result<(), String> {
    let client = Client::new(&settings.agent);
    let limit = Duration::from_secs(settings.limit_seconds);
    let begin = Instant::now();
    loop {
        let left = limit.saturating_sub(begin.elapsed());
        let asked = tokio::time::timeout(left.min(UNCONCERNED), client.starting(request));
        // Without an answer there is nothing to wait for, where nothing concerns the container.
        let kept = || standing::meanwhile(state, &request.container);
        let (why, meanwhile, patience) = match asked.await {
            Ok(Ok(Starting::Decided)) => return Ok(()),
            Ok(Ok(Starting::Impossible { why })) => return Err(why),
            Ok(Ok(Starting::Undecided { why, meanwhile })) => (why, meanwhile, UNCONCERNED),
            Ok(Err(error)) => (error.to_string(), kept(), Duration::ZERO),
            Err(_) => {
                let socket = settings.agent.display();
                let why = format!("the agent at {socket} does not answer");
                (why, kept(), Duration::ZERO)
            }
        };
        let patience = match meanwhile {
            Meanwhile::Unconcerned => patience.min(limit),
            Meanwhile::NodeAddress | Meanwhile::Drop(_) => limit,
        };
        if begin.elapsed() >= patience {
            let Meanwhile::Drop(who) = meanwhile else {
                return Ok(());
            };
            return Err(format!(
                "its source address was not decided within {} s, and {who}: {why}",
                limit.as_secs()
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Engines read the last error from the runtime's log; people and tests read standard error.
fn tell_engine(line: &CommandLine, error: &RuntimeError) {
    let Some(path) = line.value("log") else {
        return;
    };
    let entry = serde_json::json!({"level": "error", "msg": error.to_string()});
    let text = match line.value("log-format") {
        Some(format) if format == "json" => entry.to_string(),
        _ => format!("level=error msg={}", entry["msg"]),
    };
    let written = File::options().create(true).append(true).open(path);
    // Standard error has it as well.
    let _ = written.and_then(|mut log| writeln!(log, "{text}"));
}

#[cfg(test)]
mod tests;
