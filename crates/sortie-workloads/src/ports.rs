//! Ports of this host's bridges: new ones, each with the MAC that its inner end came up with, and
//! those that leave their bridge or enter another one.
//!
//! That first MAC was set by whoever made the container, before any process of the container
//! runs. Later ones are the container's own word: with `NET_ADMIN` it could pass for a neighbour
//! that is just being started. So a port is new once, when its cable first comes up, and ports
//! that were there before us never are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use sortie_api::workload::{IfIndex, MacAddress};
use tokio::sync::mpsc;

use crate::Error;
use crate::interfaces::Port;
use crate::netns::Namespace;
use crate::rtnetlink::{Connection, Link, LinkEvent, LinkEvents};

/// News that are not taken yet; the kernel keeps some more, and what it has to drop is not told.
const CHANNEL: usize = 1_024;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortNews {
    /// A new port came up, and this is its inner end's MAC.
    Up(Port, MacAddress),
    /// A link is in another bridge than before, or in none.
    Moved(IfIndex),
    /// A port, or any other link, is gone.
    Gone(IfIndex),
}

/// Reports ports of `home`'s bridges from now on, on a thread that ends within a second after
/// the receiver.
pub(crate) fn follow(home: &Namespace) -> Result<mpsc::Receiver<PortNews>, Error> {
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let namespace = home.clone();
    std::thread::Builder::new()
        .name("ports".to_owned())
        .spawn(move || {
            // Without it containers are known a little later, by their `start` event.
            if let Err(error) = report(&namespace, &sender) {
                tracing::warn!(%error, "new ports are not seen before their container starts");
            }
        })
        .map_err(|error| home.failed("start a thread for link events", error))?;
    Ok(receiver)
}

fn report(home: &Namespace, sender: &mpsc::Sender<PortNews>) -> Result<(), Error> {
    home.enter()?;
    let failed = |source| home.failed("follow link events", source);
    let events = LinkEvents::subscribe().map_err(failed)?;
    let kernel = Connection::open().map_err(failed)?;
    let mut ports = Ports::after(&kernel.links().map_err(failed)?);
    while !sender.is_closed() {
        let batch = match events.next() {
            Ok(batch) => batch,
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                ports = Ports::after(&kernel.links().map_err(failed)?);
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        for event in batch {
            let news = ports.news(event, |number, index| kernel.link_in(number, index));
            if let Some(news) = news
                && sender.blocking_send(news).is_err()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Which ports may still be told.
#[derive(Debug)]
struct Ports {
    /// Links up to this index are older than we are. The kernel counts upwards.
    floor: u32,
    told: BTreeSet<u32>,
    /// The bridge of each link that is in one.
    bridges: BTreeMap<u32, u32>,
}

impl Ports {
    fn after(links: &[Link]) -> Self {
        Self {
            floor: links.iter().map(|link| link.index).max().unwrap_or(0),
            told: BTreeSet::new(),
            bridges: links
                .iter()
                .filter_map(|link| Some((link.index, link.master?)))
                .collect(),
        }
    }

    /// `inner_end` reads the link with an index in the namespace with a number.
    fn news(
        &mut self,
        event: LinkEvent,
        inner_end: impl Fn(i32, u32) -> io::Result<Option<Link>>,
    ) -> Option<PortNews> {
        let link = match event {
            LinkEvent::Gone(index) => {
                self.told.remove(&index);
                self.bridges.remove(&index);
                return Some(PortNews::Gone(IfIndex(index)));
            }
            LinkEvent::Changed(link) => link,
        };
        let before = match link.master {
            Some(bridge) => self.bridges.insert(link.index, bridge),
            None => self.bridges.remove(&link.index),
        };
        let moved = (before != link.master).then_some(PortNews::Moved(IfIndex(link.index)));
        self.up(&link, inner_end).or(moved)
    }

    fn up(
        &mut self,
        link: &Link,
        inner_end: impl Fn(i32, u32) -> io::Result<Option<Link>>,
    ) -> Option<PortNews> {
        let bridge = link.master?;
        let (number, peer) = (link.peer_namespace?, link.peer?);
        if !link.lower_up || link.index <= self.floor || self.told.contains(&link.index) {
            return None;
        }
        self.told.insert(link.index);
        // Gone again, or a user namespace that we may not look into: the `start` event remains.
        let inner = inner_end(number, peer).ok().flatten()?;
        let port = Port {
            index: IfIndex(link.index),
            bridge: Some(IfIndex(bridge)),
        };
        Some(PortNews::Up(port, inner.mac?))
    }
}

#[cfg(test)]
mod tests;
