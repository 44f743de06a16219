//! Source ports in use, by source address and destination: what runs out first when many clients
//! share an egress address.
//!
//! Counted are tracked flows of TCP and UDP, each by the tuple of its answers: where they go to is
//! the source that the other side sees, and no two flows have the same. So there are never more
//! than the kernel tracks (`nf_conntrack_max`), and a flow that is told twice counts once.

use std::collections::HashMap;
use std::net::IpAddr;

use nfnetlink::conntrack::{Conntrack, Ports};

/// The first port that the kernel translates an ordinary source port to; it gives ports from here
/// to 65535 (`nf_nat_l4proto_unique_tuple` in net/netfilter/nf_nat_core.c). Lower ones are given
/// for lower ones only, and not counted.
const FIRST: u16 = 1024;
/// As many as that are.
pub const TRANSLATED: u32 = 65_536 - FIRST as u32;
/// As many as a network namespace of its own gives by itself: 32768 to 60999
/// (`ip_local_port_range` of a new namespace, `inet_init_net` in net/ipv4/af_inet.c).
pub const DIRECT: u32 = 60_999 - 32_768 + 1;

/// From this part on people are warned. The kernel tries ports at random, so it begins to find
/// none some time before the last is used.
const WARN_PERCENT: u32 = 80;

/// What source ports are shared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Towards {
    /// The source that the other side sees.
    pub source: IpAddr,
    /// TCP or UDP (IANA's number).
    pub protocol: u8,
    /// The other side.
    pub destination: IpAddr,
    /// Its port.
    pub port: u16,
}

/// One flow's port.
pub type Port = (Towards, u16);

/// The ports in use.
#[derive(Debug, Default)]
pub struct SourcePorts {
    /// In order, each once.
    used: HashMap<Towards, Vec<u16>>,
}

/// The port that a flow uses, if it is one that counts.
pub fn port(entry: &Conntrack) -> Option<Port> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let answers = entry.reply;
    let Ports::Ports { src, dst } = answers.ports else {
        return None;
    };
    let counts = [TCP, UDP].contains(&answers.protocol) && dst >= FIRST;
    let towards = Towards {
        source: answers.dst,
        protocol: answers.protocol,
        destination: answers.src,
        port: src,
    };
    counts.then_some((towards, dst))
}

impl SourcePorts {
    /// A flow began.
    pub fn add(&mut self, (towards, port): Port) {
        let ports = self.used.entry(towards).or_default();
        if let Err(place) = ports.binary_search(&port) {
            ports.insert(place, port);
        }
    }

    /// A flow ended.
    pub fn remove(&mut self, (towards, port): Port) {
        let Some(ports) = self.used.get_mut(&towards) else {
            return;
        };
        if let Ok(place) = ports.binary_search(&port) {
            ports.remove(place);
        }
        if ports.is_empty() {
            self.used.remove(&towards);
        }
    }

    /// These are all that there are.
    pub fn replace(&mut self, ports: Vec<Port>) {
        self.used.clear();
        for port in ports {
            self.used.entry(port.0).or_default().push(port.1);
        }
        for ports in self.used.values_mut() {
            ports.sort_unstable();
            ports.dedup();
        }
    }

    /// How many are used towards each destination.
    pub fn counts(&self) -> impl Iterator<Item = (Towards, u32)> {
        self.used
            .iter()
            .map(|(towards, ports)| (*towards, u32::try_from(ports.len()).unwrap_or(u32::MAX)))
    }
}

/// Whether so many used of so many need attention.
pub fn is_scarce(used: u32, of: u32) -> bool {
    u64::from(used) * 100 >= u64::from(of) * u64::from(WARN_PERCENT)
}

#[cfg(test)]
mod tests;
