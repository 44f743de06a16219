//! Programs inside a host: started in its namespaces, with their output kept in files.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Doing, LabError, Result};
use crate::netns::Netns;
use crate::place::Place;
use crate::wait::eventually;

/// A program that runs in a host. It is killed when this is dropped.
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Running>,
    output: PathBuf,
    errors: PathBuf,
}

struct Running {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    pub(crate) fn new(name: &str, child: Child, output: PathBuf, errors: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            pid: Pid::from_raw(child.id().cast_signed()),
            child: Mutex::new(Running { child, ended: None }),
            output,
            errors,
        }
    }

    /// Its process id, as seen from the test.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// What it has written to standard output so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        read(&self.output)
    }

    /// What it has written to standard error so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stderr(&self) -> Result<String> {
        read(&self.errors)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel cannot tell.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut running = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if running.ended.is_none() {
            running.ended = running.child.try_wait().doing("wait for", &self.name)?;
        }
        Ok(running.ended)
    }

    /// Sends it a signal; nothing happens when it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The child is not reaped by anybody else, so its pid is still its own.
        if self.ended()?.is_none() {
            kill(self.pid, signal).doing("signal", &self.name)?;
        }
        Ok(())
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        let mut running = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        running.ended = Some(running.child.wait().doing("wait for", &self.name)?);
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`LabError::Deadline`], with what it wrote to standard error.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        eventually(limit, &format!("{} ends", self.name), || {
            self.ended()?.ok_or_else(|| {
                LabError::unexpected(format!("it runs; standard error:\n{}", self.tail()))
            })
        })
    }

    /// The last lines of both outputs, for a message.
    pub fn tail(&self) -> String {
        tail(&self.output) + &tail(&self.errors)
    }
}

impl Place for Process {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn place(&self) -> Result<Netns> {
        Netns::open(Path::new(&format!("/proc/{}/ns/net", self.pid)), &self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is fine, and the host's end ends it otherwise.
        let _ = self.kill();
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({} {})", self.name, self.pid)
    }
}

/// What a program that ran to its end left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Outcome {
    /// Its exit code; 128 and the signal's number when a signal ended it, as shells say it.
    pub fn code(&self) -> i32 {
        let signal = || self.status.signal().map_or(-1, |signal| 128 + signal);
        self.status.code().unwrap_or_else(signal)
    }
}

/// Opens the two files that a process writes to.
pub(crate) fn output_files(folder: &Path, name: &str) -> Result<[(PathBuf, File); 2]> {
    let open = |ending: &str| {
        let path = folder.join(format!("{name}.{ending}"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .doing("create", path.display())?;
        Ok((path, file))
    };
    Ok([open("out")?, open("err")?])
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).doing("read", path.display())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a file, each after two spaces; nothing when it cannot be read.
pub(crate) fn tail(path: &Path) -> String {
    const LINES: usize = 40;
    let text = read(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter()
        .fold(String::new(), |text, line| text + "  " + line + "\n")
}
