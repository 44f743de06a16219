//! Docker, and engines that speak its API: containers and networks as a stream of changes.
//!
//! `watch` connects and keeps the stream alive. Inside a connection (`session`):
//! - an `event` says that something happened, and `desk` what to look at: it knows what is under
//!   way, what is newer than what, and who is just `starting`;
//! - `engine` asks, each question with a time limit; `container` and `network` are its answers,
//!   `libpod` what Podman says in words of its own;
//!   `survey` looks at one container or at all, in the engine and in the kernel;
//! - `describe` puts a container and its namespace together, and `book` holds all that is known
//!   and turns what is new into changes.
//!
//! Without a connection, [`begun`] knows a container that the runtime is about to start;
//! [`runtime`] makes Sortie's runtime the engine's default.

pub mod begun;
mod book;
mod container;
mod describe;
mod desk;
mod engine;
mod event;
mod libpod;
mod network;
pub mod runtime;
#[cfg(test)]
mod sample;
mod session;
mod starting;
mod survey;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sortie_api::workload::{Change, Engine as EngineKind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Error;
use crate::netns::Namespace;
use engine::Engine;
use session::Session;

/// Pauses between attempts to connect: the first, and the longest, reached by doubling.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Changes that the receiver has not taken yet; the source waits when it is full, and catches up
/// by a snapshot with what the engine said meanwhile.
const CHANNEL: usize = 256;

/// Which engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// What must answer.
    pub engine: EngineKind,
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Sockets that are followed for other engines: one that leads to the same file is no engine
    /// of its own (Debian's `podman-docker` links Docker's to Podman's).
    pub others: Vec<PathBuf>,
}

impl EngineConfig {
    /// Docker at this socket.
    pub fn docker(socket: &Path) -> Self {
        Self {
            engine: EngineKind::Docker,
            socket: socket.to_owned(),
            others: Vec::new(),
        }
    }
}

/// Follows an engine until the receiver is dropped.
///
/// The first change of each connection is a snapshot; while the engine cannot be reached there is
/// one [`Change::Away`], or [`Change::Absent`] where there is no socket, and attempts go on for ever. The calling thread's network namespace is
/// taken as the host's: ports and bridges are looked up there.
///
/// Fails only when that namespace cannot be opened. Must be called inside a Tokio runtime.
pub fn watch(config: EngineConfig) -> Result<(mpsc::Receiver<Change>, JoinHandle<()>), Error> {
    let home = Namespace::own()?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let task = tokio::spawn(follow(config, home, sender));
    Ok((receiver, task))
}

async fn follow(config: EngineConfig, home: Namespace, sender: mpsc::Sender<Change>) {
    let mut said = None;
    let mut pause = BACK_OFF.0;
    loop {
        let mut connected = false;
        let ended = match Engine::connect(&config).await {
            Ok(engine) => {
                let mut session = Session::new(engine, home.clone(), sender.clone());
                let ended = session.run().await;
                connected = session.has_spoken();
                ended
            }
            Err(error) => Some(error),
        };
        // Without an error the receiver is gone.
        let Some(error) = ended else { return };
        if connected {
            said = None;
            pause = BACK_OFF.0;
        }
        let absent = is_absent(&error, &config);
        if said != Some(absent) {
            let change = if absent { Change::Absent } else { Change::Away };
            if sender.send(change(error.to_string())).await.is_err() {
                return;
            }
            said = Some(absent);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = sender.closed() => return,
        }
        pause = (pause * 2).min(BACK_OFF.1);
    }
}

/// Nothing is where its socket would be, or what is there leads to another engine's.
fn is_absent(error: &Error, config: &EngineConfig) -> bool {
    match error {
        Error::NoSocket { .. } => true,
        Error::OtherEngine { socket, .. } => {
            let same = |other: &PathBuf| {
                let (one, other) = (socket.canonicalize(), other.canonicalize());
                one.is_ok_and(|one| other.is_ok_and(|other| one == other))
            };
            config.others.iter().any(same)
        }
        _ => false,
    }
}
