//! A network namespace: made, opened, entered.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Doing, LabError, Result};

/// A network namespace, held open by a file descriptor: it lives as long as a handle, a process
/// or a socket in it does, and so never outlives a killed test for long.
#[derive(Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    name: Arc<str>,
}

impl Netns {
    /// Makes an empty namespace with `lo` up.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let fd = thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET).doing("make network namespace", name)?;
                    File::open("/proc/thread-self/ns/net").doing("open network namespace", name)
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let netns = Self::of(fd, name);
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Opens the namespace behind a path such as `/proc/PID/ns/net`.
    pub(crate) fn open(path: &Path, name: &str) -> Result<Self> {
        let file = File::open(path).doing("open network namespace", path.display())?;
        Ok(Self::of(file, name))
    }

    fn of(file: File, name: &str) -> Self {
        Self {
            fd: Arc::new(file.into()),
            name: name.into(),
        }
    }

    /// The name it has in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Runs `work` on a thread of its own inside the namespace. Sockets made there stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET).doing("enter", &self.name)?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program inside the namespace and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be started, or fails: with its own words.
    pub fn output(&self, command: Command) -> Result<String> {
        let (line, output) = self.outcome(command)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(LabError::Failed {
            command: format!("{line}` in `{}", self.name),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    fn outcome(&self, mut command: Command) -> Result<(String, Output)> {
        let line = format!("{command:?}").replace('"', "");
        let fd = Arc::clone(&self.fd);
        // SAFETY: between fork and exec only setns(2) is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(move || Ok(setns(fd.as_fd(), CloneFlags::CLONE_NEWNET)?));
        }
        let output = command.output().map_err(|source| LabError::Program {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
        Ok((line, output))
    }

    /// Runs `ip ARGUMENTS` (iproute2) inside the namespace; the arguments are split at spaces.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.tool("ip", arguments)
    }

    /// Runs `nft ARGUMENTS` inside the namespace; the arguments are split at spaces.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn nft(&self, arguments: &str) -> Result<String> {
        self.tool("nft", arguments)
    }

    fn tool(&self, program: &str, arguments: &str) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace());
        self.output(command)
    }

    /// Sets a sysctl of the namespace, named as `net.ipv4.ip_forward`.
    ///
    /// # Errors
    /// When the kernel has no such sysctl or refuses the value.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.run(|| std::fs::write(&path, value).doing("set sysctl", &path))?
    }
}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Netns({})", self.name)
    }
}
