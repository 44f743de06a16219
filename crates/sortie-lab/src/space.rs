//! The namespaces of a host: network, mounts and process ids, held by a first process.
//!
//! Everything that a host runs (engines, shims, containers, agents) is below that process's id
//! namespace, so ending it ends them all, in the kernel (`pid_namespaces(7)`). It ends by itself
//! when the test's end of a pipe closes: a killed test leaves no process and no mount behind.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Doing, LabError, Result};
use crate::netns::Netns;

pub(crate) struct Space {
    name: String,
    netns: Netns,
    init: Pid,
    pids: File,
    mounts: File,
    holder: Mutex<Child>,
}

/// Prepares the host, then holds it.
const HOLD: &str = include_str!("space/hold.sh");

impl Space {
    /// Makes the namespaces; `record` gets the first process's id and start time.
    pub(crate) fn create(name: &str, record: &Path) -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "sh", "-c", HOLD])
            .arg(record)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| LabError::Program {
                program: "unshare".into(),
                source,
            })?;
        if !is_ready(&mut holder) {
            return Err(not_ready(name, holder));
        }
        let init = recorded(record)
            .ok_or_else(|| {
                LabError::unexpected(format!("{name} did not record its first process"))
            })?
            .0;
        let namespace = |kind| PathBuf::from(format!("/proc/{init}/ns/{kind}"));
        let open = |kind| File::open(namespace(kind)).doing("open a namespace of", name);
        let space = Self {
            name: name.to_owned(),
            netns: Netns::open(&namespace("net"), name)?,
            init: Pid::from_raw(init),
            pids: open("pid")?,
            mounts: open("mnt")?,
            holder: Mutex::new(holder),
        };
        space.netns.ip("link set lo up")?;
        Ok(space)
    }

    pub(crate) fn init(&self) -> i32 {
        self.init.as_raw()
    }

    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The host's file system as the test sees it; its /run and /proc are the host's own.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init))
    }

    /// Starts a program in all of the host's namespaces.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        let (mounts, network) = (self.mounts.try_clone(), self.netns.clone());
        let mounts = mounts.doing("open a namespace of", &self.name)?;
        // SAFETY: between fork and exec only setns(2) is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                setns(network.fd(), CloneFlags::CLONE_NEWNET)?;
                Ok(setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS)?)
            });
        }
        // A thread's setns() to a process id namespace is for its children, and only for them.
        let spawn = || -> io::Result<Child> {
            setns(self.pids.as_fd(), CloneFlags::CLONE_NEWPID)?;
            command.spawn()
        };
        let spawned = std::thread::scope(|scope| scope.spawn(spawn).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        spawned.map_err(|source| LabError::Program {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })
    }

    /// Ends every process of the host, and waits until they are gone.
    pub(crate) fn end(&self) -> Result<()> {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if holder.try_wait().doing("wait for", &self.name)?.is_none() {
            // `unshare` has not reaped it yet, so the id is still its own.
            kill(self.init, Signal::SIGKILL).doing("end", &self.name)?;
            holder.wait().doing("wait for", &self.name)?;
        }
        Ok(())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // The pipe closes in any case, and ends it too.
        let _ = self.end();
    }
}

fn is_ready(holder: &mut Child) -> bool {
    let mut line = String::new();
    let Some(output) = holder.stdout.take() else {
        return false;
    };
    BufReader::new(output).read_line(&mut line).is_ok() && line == "ready\n"
}

fn not_ready(name: &str, mut holder: Child) -> LabError {
    let mut said = String::new();
    drop(holder.stdin.take());
    if let Some(mut errors) = holder.stderr.take() {
        // Without its words the message is poorer, but still right.
        let _ = errors.read_to_string(&mut said);
    }
    let _ = holder.wait();
    LabError::unexpected(format!(
        "the namespaces of {name} could not be made: {}",
        said.trim()
    ))
}

/// The process id and start time (clock ticks since boot, proc(5)) that a host recorded.
pub(crate) fn recorded(record: &Path) -> Option<(i32, u64)> {
    let text = std::fs::read_to_string(record).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

/// The start time of a process, in clock ticks since boot (field 22 of /proc/PID/stat).
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold spaces and parentheses; the last `)` ends it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}
