//! Addresses that stand for others, for names that share an address and not a decision.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::DnsName;

/// First of 198.18.0.0/15 (RFC 2544, for benchmarks: no host on the internet has one).
const V4_FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// How many there are: a /15.
const V4_COUNT: u64 = 1 << 17;
/// How many of a /64 are used: as many of both families.
const V6_COUNT: u64 = V4_COUNT;

/// What an address stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stands {
    /// The name that was asked for.
    pub name: DnsName,
    /// The name's real address.
    pub real: IpAddr,
}

/// One workload's addresses. Each workload has the whole range for itself.
///
/// A name and real address have the same address for as long as it is in use, and again after a
/// restart unless two of them fell on one place: where the search for a free one begins is computed
/// from both. The least recently asked go first when there are `limit`, and nothing else gets their
/// address before as many again have been given up eight times over: a client may keep an address
/// long, and must then reach nobody rather than somebody else.
///
/// Memory: about 300 bytes for each in use, or given up and not free yet.
#[derive(Debug)]
pub struct Synthetic {
    prefix: Ipv6Addr,
    limit: usize,
    places: HashMap<IpAddr, Place>,
    of: HashMap<Stands, IpAddr>,
    /// By when they were asked for last.
    used: BTreeMap<u64, IpAddr>,
    /// By when they were given up.
    resting: BTreeMap<u64, IpAddr>,
    turn: u64,
}

#[derive(Debug)]
struct Place {
    stands: Stands,
    turn: u64,
    rests: bool,
}

/// How many rest for each that may be in use.
const RESTING: usize = 8;

/// An address that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Which.
    pub address: IpAddr,
    /// One that made room for it: to be taken out of the kernel.
    pub given_up: Option<IpAddr>,
}

impl Synthetic {
    /// None in use. `prefix` is a /64 of unique local addresses (RFC 4193) that nobody routes; its
    /// lower half is ignored. `limit` is from 1 to 8192.
    pub fn new(prefix: Ipv6Addr, limit: usize) -> Self {
        Self {
            prefix,
            limit: limit.clamp(1, 8192),
            places: HashMap::new(),
            of: HashMap::new(),
            used: BTreeMap::new(),
            resting: BTreeMap::new(),
            turn: 0,
        }
    }

    /// The address that stands for a name's real address.
    pub fn give(&mut self, name: &DnsName, real: IpAddr) -> Given {
        let stands = Stands {
            name: name.clone(),
            real,
        };
        self.turn += 1;
        let address = match self.of.get(&stands) {
            Some(address) => *address,
            None => self.free(&stands),
        };
        if let Some(before) = self.places.get(&address) {
            self.used.remove(&before.turn);
            self.resting.remove(&before.turn);
        }
        self.used.insert(self.turn, address);
        self.of.insert(stands.clone(), address);
        let place = Place {
            stands,
            turn: self.turn,
            rests: false,
        };
        self.places.insert(address, place);
        let given_up = (self.used.len() > self.limit)
            .then(|| self.give_up())
            .flatten();
        Given { address, given_up }
    }

    /// What an address in use stands for.
    pub fn stands_for(&self, address: IpAddr) -> Option<&Stands> {
        let place = self.places.get(&address).filter(|place| !place.rests);
        place.map(|place| &place.stands)
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// The least recently asked rests from now on; the one that rested longest is free.
    fn give_up(&mut self) -> Option<IpAddr> {
        let (turn, address) = self.used.pop_first()?;
        self.places.get_mut(&address)?.rests = true;
        self.resting.insert(turn, address);
        if self.resting.len() > self.limit * RESTING {
            let (_, free) = self.resting.pop_first()?;
            let place = self.places.remove(&free)?;
            self.of.remove(&place.stands);
        }
        Some(address)
    }

    /// A free one. There is one: at most 9 × 8192 of 131,072 are taken in each family.
    fn free(&self, stands: &Stands) -> IpAddr {
        let start = hash(stands);
        let count = if stands.real.is_ipv4() {
            V4_COUNT
        } else {
            V6_COUNT
        };
        let mut at = start % count;
        loop {
            let address = self.at(at, stands.real);
            if !is_edge(at, count) && !self.places.contains_key(&address) {
                return address;
            }
            at = (at + 1) % count;
        }
    }

    fn at(&self, at: u64, real: IpAddr) -> IpAddr {
        if real.is_ipv4() {
            let first = u64::from(u32::from(V4_FIRST));
            // Below 2^32: the range ends at 198.19.255.255.
            IpAddr::V4(u32::try_from(first + at).unwrap_or_default().into())
        } else {
            let prefix = u128::from(self.prefix) >> 64 << 64;
            IpAddr::V6((prefix | u128::from(at)).into())
        }
    }
}

/// The first and the last address of a range are no host's.
fn is_edge(at: u64, count: u64) -> bool {
    at == 0 || at == count - 1
}

/// FNV-1a: the same in every version of this program, unlike the standard library's.
fn hash(stands: &Stands) -> u64 {
    let name = stands.name.as_str().bytes().chain([0]);
    let (v4, v6);
    let real: &[u8] = match stands.real {
        IpAddr::V4(address) => {
            v4 = address.octets();
            &v4
        }
        IpAddr::V6(address) => {
            v6 = address.octets();
            &v6
        }
    };
    name.chain(real.iter().copied())
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
