//! The three proxies: each a process of its own, on the proxies' CPU, with one thread that carries.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};
use sortie_lab::{SOON, eventually_true};
use tempfile::TempDir;

use crate::Failure;
use crate::rig::{HOST, PROXY_CPU, Rig, listener};

mod envoy;
mod haproxy;
pub(crate) mod sortie;

/// In the order of their numbers; ours is the first.
pub(crate) const NAMES: [&str; 3] = ["sortie", "haproxy", "envoy"];

/// What is carried.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// HTTP/1 on both sides.
    Plain,
    /// TLS is begun with the server.
    Tls,
    /// What a client asks for with CONNECT.
    Tunnel,
    /// HTTP/2 on both sides.
    Http2,
}

impl Kind {
    /// The server's port.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Plain => 8080,
            Self::Tls => 8443,
            Self::Tunnel => 8090,
            Self::Http2 => 8082,
        }
    }

    /// The port that clients call.
    pub(crate) fn called(self) -> u16 {
        match self {
            Self::Tls => Self::Plain.port(),
            other => other.port(),
        }
    }
}

/// What a proxy is told.
#[derive(Serialize, Deserialize)]
struct Setup {
    kind: Kind,
    /// Each has a name of its own ([`crate::rig::name`]).
    sources: u32,
    ca: PathBuf,
    /// For one line of JSON a request.
    log: PathBuf,
    /// Where to listen.
    port: u16,
}

/// A running proxy. It ends with this.
pub(crate) struct Proxy {
    child: Child,
    _folder: TempDir,
}

impl Proxy {
    /// Starts the n-th of [`NAMES`] and waits until it listens.
    pub(crate) fn start(
        rig: &Rig,
        number: u16,
        (kind, sources): (Kind, u32),
        ca: &Path,
    ) -> Result<Self, Failure> {
        let name = NAMES[usize::from(number)];
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        let setup = Setup {
            kind,
            sources,
            ca: ca.to_owned(),
            log: at.join("access.log"),
            port: listener(number),
        };
        let (program, arguments) = match name {
            "haproxy" => haproxy::command(&setup, at)?,
            "envoy" => envoy::command(&setup, at)?,
            _ => sortie::command(&setup)?,
        };
        let mut command = Command::new("taskset");
        command
            .args(["--cpu-list", &PROXY_CPU.to_string()])
            .arg(&program)
            .args(arguments)
            .stdin(Stdio::null())
            // HAProxy logs there; the others write the file themselves.
            .stdout(File::options().create(true).append(true).open(&setup.log)?)
            .stderr(File::create(at.join("errors"))?);
        let child = rig.host.enter(|| command.spawn())??;
        let mut proxy = Self {
            child,
            _folder: folder,
        };
        let errors = setup.log.with_file_name("errors");
        let said = || fs::read_to_string(&errors).unwrap_or_default();
        let mut has_ended = false;
        eventually_true(SOON, "the proxy listens", || {
            has_ended = matches!(proxy.child.try_wait(), Ok(Some(_)));
            let connect = || std::net::TcpStream::connect((HOST, setup.port)).is_ok();
            has_ended || rig.client.enter(connect).unwrap_or(false)
        })
        .map_err(|error| format!("{name}: {error}: {}", said()))?;
        if has_ended {
            return Err(format!("{name} has ended: {}", said()).into());
        }
        Ok(proxy)
    }

    /// Nanoseconds of CPU that its threads have used, in user space and in the kernel: what utime and
    /// stime count in ticks.
    pub(crate) fn cpu(&self) -> Result<f64, Failure> {
        let mut sum = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let used = text.split(' ').next().ok_or("no schedstat")?;
            sum += used.parse::<f64>()?;
        }
        Ok(sum)
    }

    /// Bytes of memory that are resident now.
    pub(crate) fn rss(&self) -> Result<f64, Failure> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.ok_or("no VmRSS")?.parse::<f64>()? * 1024.0)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program to run, and its arguments.
type Line = (PathBuf, Vec<String>);
