//! The small parent process: its socket owns the nftables tables, so that they are edited by
//! nobody else and outlive the agent; it starts the agent, and starts it again when it dies.
//!
//! Holder and agent share two file descriptors: the owning socket, and the lock that makes the
//! agent the only one of its network namespace.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{NetlinkAddr, getsockname};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::Error;
use crate::lock;
use crate::policies::write_whole;
use crate::process::{self, started};
use crate::systemd::{self, Notify};

/// The service manager's name for the owning socket's copy.
const STORED: &str = "sortie-tables";
/// Names the owning socket's descriptor to the agent.
const SOCKET_FD: &str = "SORTIE_HOLDER_SOCKET_FD";
/// Pauses before the agent is started again: the first, the longest.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Where holder and agent are noted.
const PIDS: &str = "agent.pids.json";
/// How long a killed process may take to be gone.
const FORCED_LIMIT: Duration = Duration::from_secs(10);
/// An agent that lived this long is not failing over and over.
const SOUND: Duration = Duration::from_secs(30);

/// What the agent gets from its holder; none when this process must be the holder.
pub fn inherited() -> Option<OwnedFd> {
    let descriptor: RawFd = std::env::var(SOCKET_FD).ok()?.parse().ok()?;
    process::is_named();
    fcntl_cloexec(descriptor, true).ok()?;
    // SAFETY: the holder leaves exactly this descriptor open for us, and nobody else here knows it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Ends holder and agent, if they run, and waits until they are gone.
pub fn end_by_force(notes: &Path) -> Result<(), Error> {
    let text = fs::read_to_string(notes.join(PIDS)).unwrap_or_default();
    let known: Vec<(u32, u64)> = serde_json::from_str(&text).unwrap_or_default();
    let known = known
        .into_iter()
        .filter(|(pid, since)| started(*pid) == Some(*since));
    let mut killed = false;
    for pid in known.map(|(pid, _)| pid).chain(lock::run(notes)) {
        if let Ok(pid) = i32::try_from(pid) {
            kill(Pid::from_raw(pid), Signal::SIGKILL)
                .map_err(|e| Error::system("end the agent")(e.into()))?;
            killed = true;
        }
    }
    // A process looks dead while its last threads still hold its files: the lock tells the end.
    let deadline = Instant::now() + FORCED_LIMIT;
    while killed && lock::take(notes).is_err() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    Ok(())
}

/// Notes who holds and who works, for [`end_by_force`]: holder first, so that it starts nobody.
fn note(notes: &Path, worker: Option<u32>) -> Result<(), Error> {
    let pids = [Some(std::process::id()), worker].into_iter().flatten();
    let known: Vec<(u32, u64)> = pids.filter_map(|pid| Some((pid, started(pid)?))).collect();
    write_whole(
        &notes.join(PIDS),
        &serde_json::to_string(&known).unwrap_or_default(),
    )
}

/// Holds, until the agent ends on its own accord or a signal asks both to end.
pub fn hold(notes: &Path) -> Result<ExitCode, Error> {
    let lock = lock::take(notes)?;
    let socket = owning_socket()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::system("start the holder"))?;
    // The agent keeps the lock too: it still is the agent when the holder is killed.
    runtime.block_on(supervise(
        &[lock.as_raw_fd(), socket.as_raw_fd()],
        socket.as_raw_fd(),
        notes,
    ))
}

/// The socket that owns the tables: the one that a former holder left with the service manager, so
/// that they stayed owned meanwhile, or else a new one, of which the manager gets a copy.
fn owning_socket() -> Result<OwnedFd, Error> {
    if let Some(stored) = systemd::stored(STORED) {
        match getsockname::<NetlinkAddr>(stored.as_raw_fd()) {
            Ok(_) => return Ok(stored),
            Err(error) => {
                tracing::warn!(%error, "what the service manager kept is no netlink socket; opening one");
            }
        }
    }
    let socket = nfnetlink::Socket::open().map_err(|source| Error::Listen {
        what: "nftables",
        source,
    })?;
    let socket = OwnedFd::from(socket);
    if let Some(manager) = Notify::from_environment()
        && let Err(error) = manager.store(STORED, socket.as_fd())
    {
        tracing::warn!(%error, "the service manager does not keep the socket that owns the tables");
    }
    Ok(socket)
}

async fn supervise(shared: &[RawFd], socket: RawFd, notes: &Path) -> Result<ExitCode, Error> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(Error::system("wait for signals"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(Error::system("wait for signals"))?;
    let mut pause = RESTART.0;
    loop {
        let started = Instant::now();
        let mut child = tokio::process::Command::from(agent(shared, socket))
            .spawn()
            .map_err(Error::system("start the agent"))?;
        note(notes, child.id())?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .map(Pid::from_raw);
        let ended = tokio::select! {
            ended = child.wait() => ended,
            _ = terminate.recv() => end(pid, &mut child).await,
            _ = interrupt.recv() => end(pid, &mut child).await,
        };
        let ended = ended.map_err(Error::system("wait for the agent"))?;
        if let Some(code) = final_code(ended) {
            return Ok(code);
        }
        pause = if started.elapsed() > SOUND {
            RESTART.0
        } else {
            (pause * 2).min(RESTART.1)
        };
        tracing::error!(status = %ended, ?pause, "the agent died; what the kernel holds stays; starting it again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn end(pid: Option<Pid>, child: &mut tokio::process::Child) -> io::Result<ExitStatus> {
    if let Some(pid) = pid {
        // It may have ended by itself already.
        let _ = kill(pid, Signal::SIGTERM);
    }
    child.wait().await
}

/// An agent that exits has said why, or was asked to; one that a signal killed is started again.
fn final_code(ended: ExitStatus) -> Option<ExitCode> {
    if ended.signal().is_some() {
        return None;
    }
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Some(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The same program, and the shared descriptors left open.
fn agent(shared: &[RawFd], socket: RawFd) -> Command {
    let mut command = process::again();
    command.env(SOCKET_FD, socket.to_string());
    for variable in systemd::PASSED {
        command.env_remove(variable);
    }
    let shared = shared.to_vec();
    let prepare = move || {
        shared
            .iter()
            .try_for_each(|descriptor| fcntl_cloexec(*descriptor, false))
    };
    // SAFETY: fcntl is async-signal-safe, and the closure allocates nothing.
    unsafe { command.pre_exec(prepare) };
    command
}

fn fcntl_cloexec(descriptor: RawFd, close: bool) -> io::Result<()> {
    let flags = if close {
        FdFlag::FD_CLOEXEC
    } else {
        FdFlag::empty()
    };
    // SAFETY: the descriptor is open: it was passed by our holder, or is held by the caller.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    fcntl(borrowed, FcntlArg::F_SETFD(flags))
        .map(drop)
        .map_err(io::Error::from)
}
