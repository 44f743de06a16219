//! What is Podman's own: files instead of a daemon's configuration, a service for its API, and its
//! command line, which works without the service.

use std::path::Path;
use std::process::Command;

use super::{Engine, PODMAN_SOCKET};
use crate::error::{Doing, LabError, Result};
use crate::wait::SOON;

/// No systemd, so no journal for events; locks in files, because hosts share the machine's /dev/shm.
/// The runtime is Docker's runc: crun 1.8 refuses machines that have cgroups of both versions.
const CONTAINERS: &str = r#"[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
network_backend = "netavark"
runtime = "runc"
static_dir = "FOLDER/libpod"
volume_path = "FOLDER/volumes"

[engine.runtimes]
runc = ["RUNC"]
"#;

const STORAGE: &str = r#"[storage]
driver = "vfs"
graphroot = "FOLDER/storage"
runroot = "/run/containers/storage"
"#;

/// The network of containers that name none, with IPv6: without this file it has IPv4 only.
const NETWORK: &str = r#"{
  "name": "podman",
  "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
  "driver": "bridge",
  "network_interface": "podman0",
  "created": "2023-01-01T00:00:00Z",
  "subnets": [
    {"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"},
    {"subnet": "fd00:88::/64", "gateway": "fd00:88::1"}
  ],
  "ipv6_enabled": true,
  "internal": false,
  "dns_enabled": false,
  "ipam_options": {"driver": "host-local"}
}
"#;

pub(super) fn missing() -> LabError {
    LabError::EngineMissing {
        engine: "Podman".to_owned(),
        path: "PATH".to_owned(),
        goal: "test",
    }
}

/// Writes its files below /etc/containers, which is the host's own.
pub(super) fn configure(engine: &Engine) -> Result<()> {
    let runc = engine
        .inner
        .binaries
        .as_deref()
        .unwrap_or(Path::new("/usr/sbin"));
    let runc = runc.join("runc").display().to_string();
    let folder = engine.inner.folder.display().to_string();
    let place = engine.inner.host.path("/etc/containers");
    let files = [
        ("containers.conf", CONTAINERS),
        ("storage.conf", STORAGE),
        ("networks/podman.json", NETWORK),
    ];
    std::fs::create_dir_all(place.join("networks")).doing("make", place.display())?;
    for (name, text) in files {
        let text = text.replace("FOLDER", &folder).replace("RUNC", &runc);
        let path = place.join(name);
        std::fs::write(&path, text).doing("write", path.display())?;
    }
    let socket = engine.inner.host.path(PODMAN_SOCKET);
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder).doing("make", folder.display())?;
    }
    std::os::unix::fs::symlink(engine.socket(), &socket).doing("link", socket.display())
}

/// The service of its API, as its unit starts it, but without an end when nobody asks.
pub(super) fn service(engine: &Engine) -> Command {
    let mut command = Command::new("podman");
    command.args(["system", "service", "--time=0"]);
    command.arg(format!("unix://{}", engine.socket().display()));
    command
}

impl Engine {
    /// Runs `podman ARGUMENTS` in the host, as people do: whether the service runs or not.
    ///
    /// # Errors
    /// When it fails.
    pub fn podman(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("podman");
        let mut arguments = arguments.iter();
        if let Some(verb) = arguments.next() {
            command.arg(verb);
            if let ("run" | "create", Some(parent)) = (*verb, self.cgroup_of_containers()) {
                command.arg("--cgroup-parent").arg(parent);
            }
        }
        command.args(arguments);
        let line = format!("{command:?}");
        let outcome = self.inner.host.run(SOON * 2, command)?;
        if outcome.status.success() {
            return Ok(outcome.stdout);
        }
        Err(LabError::Failed {
            command: line,
            status: outcome.status,
            stderr: outcome.stderr,
        })
    }

    /// Where each container is told to be, because no configuration can say it for all.
    pub(super) fn cgroup_of_containers(&self) -> Option<String> {
        let cgroup = || format!("/{}", self.inner.host.lab_folder().cgroup());
        (self.inner.kind == super::EngineKind::Podman).then(cgroup)
    }
}
