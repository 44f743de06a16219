//! Which addresses a name has for a workload: its own servers are asked, from inside its namespace;
//! for a client from outside the host's, from the host.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use sortie_api::workload::WorkloadId;
use sortie_dns::Stub;
use sortie_gateway::decide::{Addresses, Resolve, Resolving};

use super::doors;
use super::known::Known;
use super::told::Told;
use crate::api::ByName;

/// Names of one workload whose addresses are kept. When there are more, all are asked for again.
const NAMES: usize = 1_024;
/// Bytes of a `resolv.conf` that are read.
const FILE_MAX: u64 = 64 * 1024;
/// The port of name servers.
pub(super) const DNS: u16 = 53;

/// Asks, and keeps answers for as long as they last.
pub(super) struct ByServers {
    known: Arc<Known>,
    told: Arc<Told>,
    stub: Stub,
    /// On the host a mark could mean something.
    unmarked: Stub,
    kept: Mutex<Kept>,
}

type Kept = HashMap<WorkloadId, HashMap<Box<str>, (Addresses, Instant)>>;

impl ByServers {
    pub(super) fn new((known, told): (Arc<Known>, Arc<Told>), stub: Stub, unmarked: Stub) -> Self {
        Self {
            known,
            told,
            stub,
            unmarked,
            kept: Mutex::default(),
        }
    }

    pub(super) fn forget(&self, workload: &WorkloadId) {
        self.lock().remove(workload);
    }

    async fn ask(&self, id: &WorkloadId, name: &str) -> io::Result<Addresses> {
        let gone = || io::Error::other("the workload has gone");
        let workload = self.known.workload(id).ok_or_else(gone)?;
        let stub = match workload.pid {
            0 => &self.unmarked,
            _ => &self.stub,
        };
        let looks = tokio::task::spawn_blocking(move || {
            if workload.pid == 0 {
                let namespace = File::open("/proc/thread-self/ns/net")?;
                return Ok((Arc::new(namespace), of_host()?));
            }
            let namespace = doors::namespace(&workload)?;
            let servers = servers(&workload)?;
            // The process is the same still: then the file was the workload's.
            doors::namespace(&workload)?;
            Ok::<_, io::Error>((Arc::new(namespace), servers))
        });
        let (namespace, servers) = looks.await.map_err(io::Error::other)??;
        let found = stub.look_up((id, &namespace), &servers, name).await?;
        // An engine's own resolver asks from inside the namespace, and so asks ours: where that answers
        // with a stand-in, the address itself is meant.
        let real = |address| {
            let meant = self.told.named(id, address);
            meant.map_or(address, |(_, real)| real)
        };
        let addresses: Addresses = found.addresses.into_iter().map(real).collect();
        if !addresses.is_empty() {
            let mut kept = self.lock();
            let names = kept.entry(id.clone()).or_default();
            if names.len() >= NAMES {
                names.clear();
            }
            let until = Instant::now() + found.lasts;
            names.insert(name.into(), (Arc::clone(&addresses), until));
        }
        Ok(addresses)
    }

    // What a panic left is whole: each holder does one thing.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for ByServers {
    fn known(&self, workload: &WorkloadId, name: &str) -> Option<Addresses> {
        let kept = self.lock();
        let (addresses, until) = kept.get(workload)?.get(name)?;
        (Instant::now() < *until).then(|| Arc::clone(addresses))
    }

    fn resolve<'a>(&'a self, workload: &'a WorkloadId, name: &'a str) -> Resolving<'a> {
        Box::pin(self.ask(workload, name))
    }
}

/// The name servers of the host's `resolv.conf`.
fn of_host() -> io::Result<Vec<SocketAddr>> {
    let path = "/etc/resolv.conf";
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    Ok(name_servers(&text))
}

/// The name servers of a workload's `resolv.conf`, which is opened below its own root: a link in it
/// leads nowhere else.
fn servers(workload: &ByName) -> io::Result<Vec<SocketAddr>> {
    let at = |error: io::Error| {
        let path = "/etc/resolv.conf";
        io::Error::new(
            error.kind(),
            format!("{path} of {}: {error}", workload.name),
        )
    };
    let root = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_DIRECTORY.bits())
        .open(format!("/proc/{}/root", workload.pid))
        .map_err(at)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let opened = openat2(&root, "etc/resolv.conf", how);
    let file = File::from(opened.map_err(|errno| at(errno.into()))?);
    let kind = file.metadata().map_err(at)?.file_type();
    if kind.is_fifo() || kind.is_char_device() || kind.is_socket() {
        return Err(at(io::Error::other("it is no file")));
    }
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text).map_err(at)?;
    Ok(name_servers(&text))
}

/// In their order (resolv.conf(5)); those with a zone in their address are left out.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        words.next().filter(|_| is_server)?.parse::<IpAddr>().ok()
    });
    lines.map(|address| SocketAddr::new(address, DNS)).collect()
}
