//! What `podman` says of itself, and which of its processes there are. The command line is asked and
//! not the service: it reads the configuration anew each time, and works without a service.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::kept;
use crate::Error;

/// Podman waits for containers that are just being started.
const LIMIT: Duration = Duration::from_mins(1);
/// With one of them Podman reads another configuration than the host's.
const OTHERS: [&str; 2] = ["CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE"];
/// Its word about the folder of its database, which it says only when it is asked for all.
const STATIC_DIR: &str = "Using static dir ";
const DATABASE: &str = "bolt_state.db";

/// What matters here of `podman info`.
#[derive(Debug)]
pub(super) struct Info {
    pub(super) version: String,
    /// The default runtime's path.
    pub(super) runtime: String,
    /// The last part of what Podman calls it.
    pub(super) name: String,
    pub(super) database: PathBuf,
    pub(super) storage: PathBuf,
}

/// In its own words (libpod/define/info.go).
#[derive(Deserialize)]
struct Said {
    host: Host,
    store: Store,
    version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    oci_runtime: Runtime,
}

#[derive(Deserialize)]
struct Runtime {
    name: PathBuf,
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    graph_root: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
}

pub(super) async fn info() -> Result<Info, Error> {
    let mut command = Command::new("podman");
    command.args(["--log-level=debug", "info", "--format=json"]);
    for name in OTHERS {
        command.env_remove(name);
    }
    let asked = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output());
    let told = asked.await.map_err(|_| {
        kept(format!(
            "`podman info` did not answer within {} s; a container may be waiting for its start",
            LIMIT.as_secs()
        ))
    })?;
    let told = told.map_err(|error| kept(format!("`podman info` cannot be run: {error}")))?;
    let log = String::from_utf8_lossy(&told.stderr);
    let said = serde_json::from_slice(&told.stdout);
    let said: Said = said.map_err(|error| {
        let last = log.lines().last().unwrap_or_default();
        kept(format!(
            "`podman info` says nothing that can be read: {error}: {last}"
        ))
    })?;
    let folder = log.lines().find_map(static_dir);
    let folder = folder.unwrap_or_else(|| said.store.graph_root.join("libpod"));
    let name = said.host.oci_runtime.name.file_name().unwrap_or_default();
    Ok(Info {
        version: said.version.version,
        name: name.to_string_lossy().into_owned(),
        runtime: said.host.oci_runtime.path,
        database: folder.join(DATABASE),
        storage: said.store.graph_root,
    })
}

/// From a line such as `time="…" level=debug msg="Using static dir /var/lib/containers/storage/libpod"`.
fn static_dir(line: &str) -> Option<PathBuf> {
    let (_, rest) = line.split_once(STATIC_DIR)?;
    Some(rest.trim_end().trim_end_matches('"').into())
}

/// Refuses where the file would do nothing, unseen: for whoever runs this, and for services.
pub(super) fn refuse_other_configuration() -> Result<(), Error> {
    if let Some(name) = OTHERS.iter().find(|name| env::var_os(name).is_some()) {
        return Err(kept(format!(
            "{name} is set here, and a Podman with it does not read the host's files; unset it"
        )));
    }
    for process in processes().filter(Process::is_service) {
        let pid = &process.pid;
        if process
            .words
            .iter()
            .any(|word| word.starts_with("--runtime=") || word == "--runtime")
        {
            return Err(kept(format!(
                "its service, process {pid}, was started with --runtime, which counts more than its files; take it out, and start the service anew"
            )));
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut set = environment
            .split(|byte| *byte == 0)
            .filter_map(|it| str::from_utf8(it).ok());
        if let Some(name) = set.find_map(|it| {
            let (name, _) = it.split_once('=')?;
            OTHERS.into_iter().find(|other| *other == name)
        }) {
            return Err(kept(format!(
                "its service, process {pid}, has {name} set, and does not read the host's files; take it out, and start the service anew"
            )));
        }
    }
    Ok(())
}

/// The names of running containers whose monitor will call Podman with such a word when they end.
pub(super) fn monitors(is_it: impl Fn(&str) -> bool) -> Vec<String> {
    let monitors = processes().filter(|process| process.program() == "conmon");
    let with_it = monitors.filter(|process| process.words.iter().any(|word| is_it(word)));
    with_it
        .filter_map(|process| process.value("-n").map(str::to_owned))
        .collect()
}

struct Process {
    pid: String,
    words: Vec<String>,
}

impl Process {
    fn program(&self) -> &str {
        let program = self.words.first().map(Path::new).and_then(Path::file_name);
        program.and_then(|name| name.to_str()).unwrap_or_default()
    }

    fn value(&self, flag: &str) -> Option<&str> {
        let place = self.words.iter().position(|word| word == flag)?;
        self.words.get(place + 1).map(String::as_str)
    }

    /// Of the host's root; users' own are none of this.
    fn is_service(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let is_root = || fs::metadata(format!("/proc/{}", self.pid)).is_ok_and(|it| it.uid() == 0);
        let mut pairs = self.words.windows(2);
        self.program() == "podman" && pairs.any(|pair| pair == ["system", "service"]) && is_root()
    }
}

fn processes() -> impl Iterator<Item = Process> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let pid = entry.file_name().into_string().ok()?;
        pid.parse::<u32>().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0);
        let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
        Some(Process {
            pid,
            words: words.collect(),
        })
    })
}
