//! Sortie's OCI runtime as an engine's default one: into its configuration and out again, with no
//! restart of engine or containers.
//!
//! [`docker`] and [`podman`] know where that is written. Engines call the runtime by a link, whose
//! path tells this program that it is the runtime, and where its settings are.

mod daemon;
mod daemon_json;
pub mod docker;
pub mod podman;

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sortie_api::workload::Engine;

use crate::Error;

/// The link's name, or that of the folder that it is in: by it this program knows that it is called
/// as the runtime.
pub const LINK: &str = "sortie-runtime";

/// What the runtime must know, from the folder of its link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Whose runtime it is.
    #[serde(default)]
    pub engine: Engine,
    /// The real runtime: a path, or a name in PATH.
    pub runtime: String,
    /// What the engine calls it. Podman's only.
    #[serde(default)]
    pub name: String,
    /// What comes before the engine's arguments.
    pub arguments: Vec<String>,
    /// The agent's socket.
    pub agent: PathBuf,
    /// How long a start may wait for its decision, in seconds.
    pub limit_seconds: u64,
    /// Where the engine keeps who its containers are: a folder of Docker's, a database of Podman's.
    pub containers: PathBuf,
    /// Where it keeps their file systems; only those below it are its own. Podman's only.
    #[serde(default)]
    pub storage: PathBuf,
    /// What `uninstall` puts back; none where daemon.json named no default. Docker's only.
    #[serde(default)]
    pub former_default: Option<String>,
}

impl Settings {
    /// Reads them.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = Self::file(folder);
        let failed = |detail: String| Error::File {
            operation: "read",
            path: path.clone(),
            detail,
        };
        let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    fn file(folder: &Path) -> PathBuf {
        folder.join("runtime.json")
    }
}

/// What was changed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The engine's file.
    pub file: PathBuf,
    /// Its changed lines, each after `-` or `+`; empty when nothing changes there.
    pub difference: Vec<String>,
    /// Containers that keep their runtime until they are re-created, by name.
    pub recreate: Vec<String>,
    /// The engine's API service goes on with the runtime that it found when it started. Podman's
    /// only: Docker's reads its file again.
    pub service_is_older: bool,
    /// A folder on the way to the runtime that other users may not pass, although their engines
    /// will call it. Podman's only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<PathBuf>,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// What became of an installed runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Whose it is.
    pub engine: Engine,
    /// The link that the engine calls.
    pub link: PathBuf,
    /// Where it leads; none when it is not there.
    pub program: Option<PathBuf>,
    /// What the engine says; none when it does not answer.
    pub answer: Option<Answer>,
}

/// What an engine says of its runtimes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its default one.
    pub default: String,
    /// Whether that is the link.
    pub is_default: bool,
    /// Whether it knows the link.
    pub known: bool,
    /// Containers that have another one, by name.
    pub others: Vec<String>,
    /// What an API service has that was started earlier.
    pub older_service: Option<String>,
}

/// Link and settings; each is the old one or the new one at any time.
fn write(folder: &Path, link: &Path, settings: &Settings) -> Result<(), Error> {
    for folder in [Some(folder), link.parent()].into_iter().flatten() {
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
    }
    let path = Settings::file(folder);
    let text = serde_json::to_string_pretty(settings).unwrap_or_default();
    daemon_json::replace(&path, &(text + "\n")).map_err(failed("write", &path))?;
    let program = std::env::current_exe().map_err(failed("find", Path::new("/proc/self/exe")))?;
    lead(link, &program)
}

/// Makes the link lead there; it is the old one or the new one at any time.
fn lead(link: &Path, to: &Path) -> Result<(), Error> {
    let new = link.with_file_name(".link");
    let linked = match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(to, &new).and_then(|()| fs::rename(&new, link)),
    };
    linked.map_err(failed("make", link))
}

fn remove(folder: &Path, link: &Path) -> Result<(), Error> {
    for path in [link, &Settings::file(folder)] {
        remove_file(path)?;
    }
    // Somebody else's files may be in them.
    for folder in [link.parent(), Some(folder)].into_iter().flatten() {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

/// Afterwards it is not there.
fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::File {
        operation,
        path,
        detail: error.to_string(),
    }
}
