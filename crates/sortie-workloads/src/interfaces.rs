//! A process's network interfaces, and which port of this host each one is behind.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use sortie_api::workload::{Cgroup, Families, IfIndex, MacAddress};

use crate::Error;
use crate::cgroup;
use crate::netns::{Namespace, NamespaceId, on_thread};
use crate::rtnetlink::{Connection, Link};

/// What was found in a process's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is the host's own: the one that this program runs in. The container's cgroup, or why
    /// there is none that only it has.
    Host(Result<Cgroup, String>),
    /// One of its own.
    Own {
        /// Which; equal for containers that share it.
        namespace: NamespaceId,
        /// Its interfaces without loopback, by index.
        interfaces: Vec<Interface>,
    },
}

/// One interface inside the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) mac: MacAddress,
    pub(crate) addresses: Vec<IpAddr>,
    /// The families whose best default route is by it.
    pub(crate) default_route: Families,
    /// Its other end in the host's namespace; none if there is none that both sides agree on.
    pub(crate) port: Option<Port>,
}

/// The host's end of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) index: IfIndex,
    pub(crate) bridge: Option<IfIndex>,
}

/// Looks into the namespace of `pid`, a process of the container `id`, from `home`, the host's.
///
/// `sandbox` is where the engine says the namespace is mounted. Where that can be seen and is
/// another namespace than the process's, the number was given to another process meanwhile.
pub(crate) async fn look(
    home: Namespace,
    pid: u32,
    id: &str,
    sandbox: Option<PathBuf>,
) -> Result<Found, Error> {
    let inside = Namespace::of_process(pid)?;
    if inside.id() == home.id() {
        return Ok(Found::Host(cgroup::of_container(pid, id)));
    }
    let mounted = sandbox.and_then(|path| Namespace::mounted_at(&path));
    if mounted.is_some_and(|mounted| mounted.id() != inside.id()) {
        return Err(Error::Vanished { pid });
    }
    let subject = inside.clone();
    on_thread(&subject, move || {
        home.enter()?;
        let outer = Connection::open().map_err(|error| home.failed("open rtnetlink", error))?;
        inside.enter()?;
        let inner = Connection::open().map_err(|error| inside.failed("open rtnetlink", error))?;
        let interfaces = read(&home, &outer, &inside, &inner)?;
        Ok(Found::Own {
            namespace: inside.id(),
            interfaces,
        })
    })
    .await
}

/// The index of each interface of a namespace, by name.
pub(crate) async fn indexes(home: Namespace) -> Result<BTreeMap<String, IfIndex>, Error> {
    let subject = home.clone();
    on_thread(&subject, move || {
        home.enter()?;
        let links = Connection::open().and_then(|connection| connection.links());
        let links = links.map_err(|error| home.failed("list interfaces", error))?;
        Ok(links
            .into_iter()
            .map(|link| (link.name, IfIndex(link.index)))
            .collect())
    })
    .await
}

fn read(
    home: &Namespace,
    outer: &Connection,
    inside: &Namespace,
    inner: &Connection,
) -> Result<Vec<Interface>, Error> {
    let links = inner
        .links()
        .map_err(|error| inside.failed("list interfaces", error))?;
    let addresses = inner
        .addresses()
        .map_err(|error| inside.failed("list addresses", error))?;
    let defaults = inner
        .default_routes()
        .map_err(|error| inside.failed("list routes", error))?;
    // Asked after the dump, which gives a number to each namespace that a link leads to.
    let home_number = inner
        .namespace_number(home.file().as_fd())
        .map_err(|error| inside.failed("ask for the host's namespace number", error))?;

    let mut interfaces = Vec::new();
    for link in links {
        let Some(mac) = link.mac.filter(|mac| *mac != MacAddress([0; 6])) else {
            continue;
        };
        let port = match host_end(&link, home_number) {
            None => None,
            Some(index) => {
                let peer = outer
                    .link(index)
                    .map_err(|error| home.failed("read a port", error))?;
                let inside_number =
                    outer
                        .namespace_number(inside.file().as_fd())
                        .map_err(|error| {
                            home.failed("ask for a container's namespace number", error)
                        })?;
                peer.and_then(|peer| agreed_port(&link, &peer, inside_number))
            }
        };
        interfaces.push(Interface {
            addresses: addresses
                .iter()
                .filter(|(index, _)| *index == link.index)
                .map(|(_, address)| *address)
                .collect(),
            default_route: Families {
                v4: defaults.0 == Some(link.index),
                v6: defaults.1 == Some(link.index),
            },
            name: link.name,
            kind: link.kind,
            mac,
            port,
        });
    }
    Ok(interfaces)
}

/// The index in the host's namespace that the inner end claims as its peer. An interface whose
/// peer is in its own namespace has an index too, which means nothing here.
fn host_end(inner: &Link, home_number: Option<i32>) -> Option<u32> {
    let paired = matches!(inner.kind.as_deref(), Some("veth" | "netkit"));
    let leads_home = inner.peer_namespace.is_some() && inner.peer_namespace == home_number;
    inner.peer.filter(|_| paired && leads_home)
}

/// The host's end, if it says the same of the inner one.
fn agreed_port(inner: &Link, outer: &Link, inside_number: Option<i32>) -> Option<Port> {
    let agreed = outer.peer == Some(inner.index)
        && outer.peer_namespace.is_some()
        && outer.peer_namespace == inside_number;
    agreed.then_some(Port {
        index: IfIndex(outer.index),
        bridge: outer.master.map(IfIndex),
    })
}

#[cfg(test)]
mod tests;
