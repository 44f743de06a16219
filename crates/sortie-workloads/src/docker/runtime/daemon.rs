//! The engine's daemon as a process: which file it reads, what it was told by flags, and the
//! signal to read the file again.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;

use sortie_api::workload::Engine;

use crate::Error;

const PROGRAM: &str = "dockerd";
/// Where the daemon notes its process when nothing else is said.
const PID_FILE: &str = "/var/run/docker.pid";
/// The file that it reads when nothing else is said.
const CONFIG_FILE: &str = "/etc/docker/daemon.json";

/// A running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    pid: i32,
    words: Vec<String>,
}

impl Daemon {
    /// The process behind a socket. Where a service manager has made the socket, its file tells.
    pub(super) async fn find(socket: &Path) -> Result<Self, Error> {
        let peer = match UnixStream::connect(socket).await {
            Ok(stream) => stream.peer_cred().ok().and_then(|peer| peer.pid()),
            Err(_) => None,
        };
        let noted = fs::read_to_string(PID_FILE).ok();
        let noted = noted.and_then(|text| text.trim().parse().ok());
        let found = [peer, noted].into_iter().flatten().find_map(Self::at);
        found.ok_or_else(|| Error::NotInstalled {
 engine: Engine::Docker,
            why: format!(
                "no process {PROGRAM} is behind {}, nor is its number in {PID_FILE}; run this where the daemon runs",
                socket.display()
            ),
        })
    }

    fn at(pid: i32) -> Option<Self> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0);
        let words: Vec<String> = words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let program = Path::new(words.first()?).file_name()?;
        (program == PROGRAM).then_some(Self { pid, words })
    }

    fn flag(&self, name: &str) -> Option<&str> {
        flag(&self.words, name)
    }

    /// The daemon refuses what is in its file and in its flags.
    pub(super) fn refuse_flags(&self, names: &[&str]) -> Result<(), Error> {
        let Some(name) = names.iter().find(|name| self.flag(name).is_some()) else {
            return Ok(());
        };
        Err(Error::NotInstalled {
            engine: Engine::Docker,
            why: format!(
                "{PROGRAM} was started with --{name}, and does not run with that in its file too; move it from the command line (`systemctl cat docker`) to the file, and restart {PROGRAM}"
            ),
        })
    }

    /// The file that it reads.
    pub(super) fn config_file(&self) -> Result<PathBuf, Error> {
        let path = PathBuf::from(self.flag("config-file").unwrap_or(CONFIG_FILE));
        if path.is_absolute() {
            return Ok(path);
        }
        let folder = format!("/proc/{}/cwd", self.pid);
        let folder = fs::read_link(&folder).map_err(|error| Error::File {
            operation: "read",
            path: folder.into(),
            detail: error.to_string(),
        })?;
        Ok(folder.join(path))
    }

    /// Has it read the file again.
    pub(super) fn reload(&self) -> Result<(), Error> {
        kill(Pid::from_raw(self.pid), Signal::SIGHUP).map_err(|errno| Error::NotInstalled {
            engine: Engine::Docker,
            why: format!("process {} cannot be signalled: {errno}", self.pid),
        })
    }
}

/// `--NAME VALUE` or `--NAME=VALUE`.
fn flag<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(place, word)| {
        let rest = word.strip_prefix("--")?.strip_prefix(name)?;
        if rest.is_empty() {
            return Some(words.get(place + 1).map_or("", String::as_str));
        }
        rest.strip_prefix('=')
    })
}

#[cfg(test)]
mod tests;
