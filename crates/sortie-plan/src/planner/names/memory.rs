//! What one workload was told: by the address that was answered, its names and what it stands for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::compile::policy_set::{Meant, PolicySet};

/// Names remembered for one address; one more takes the place of the oldest that means the same.
const NAMES: usize = 16;
/// Stand-ins are taken from here: 198.18.0.0/15 (RFC 2544), which nobody routes.
const STAND_INS_V4: u32 = 0xc612_0000;
/// And from a /64 of ULA (RFC 4193) whose global ID was drawn once, at random.
const STAND_INS_V6: u128 = 0xfd5e_7a1c_93b4_0053_0000_0000_0000_0000;
/// How many there are of either family for one workload.
const STAND_INS: u32 = 1 << 17;

/// What one workload was told.
#[derive(Debug, Clone, Default)]
pub(in crate::planner) struct Names {
    /// Its process: with another one it is another run, that was told nothing. 0 while it is not
    /// known yet.
    pub(super) pid: u32,
    /// By the address that was answered.
    pub(super) addresses: BTreeMap<IpAddr, Named>,
    /// Grows with each answer.
    clock: u64,
}

/// One address that was answered.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// Where packets to it go: itself, or what it stands in for.
    pub(super) real: IpAddr,
    /// The names, oldest first.
    pub(super) names: Vec<Arc<str>>,
    /// When it was answered last, by the clock of [`Names`].
    pub(super) used: u64,
}

impl Names {
    /// Nothing yet, of this process.
    pub(super) fn of(pid: u32) -> Self {
        Self {
            pid,
            ..Self::default()
        }
    }

    /// What a name's address is answered with. Steps, in order:
    /// 1. The address itself, where it has no other name that is decided otherwise.
    /// 2. A stand-in that has such names only, or a new one.
    pub(super) fn answer(
        &self,
        name: &Arc<str>,
        real: IpAddr,
        set: Option<&PolicySet>,
    ) -> Option<IpAddr> {
        let decided_alike = |named: &Named| match set {
            None => true,
            Some(set) => {
                let meant = set.meant(name);
                named
                    .names
                    .iter()
                    .all(|other| other == name || set.meant(other) == meant)
            }
        };
        match self.addresses.get(&real) {
            Some(named) if !decided_alike(named) => {
                let stand_ins = self
                    .addresses
                    .iter()
                    .filter(|(address, named)| named.real == real && **address != real);
                let mut fitting = stand_ins.filter(|(_, named)| decided_alike(named));
                match fitting.next() {
                    Some((address, _)) => Some(*address),
                    None => self.stand_in(real.is_ipv6()),
                }
            }
            _ => Some(real),
        }
    }

    /// Notes what a name's address was answered with; where that is more than `most`, what is unused
    /// for longest goes. Yields whether that is new.
    pub(super) fn note(
        &mut self,
        name: &Arc<str>,
        real: IpAddr,
        address: IpAddr,
        most: usize,
        changed: &mut impl FnMut(IpAddr, Option<&Named>, Option<&Named>),
    ) -> bool {
        // It may have had this name while nothing depended on it.
        for (other, named) in &mut self.addresses {
            if named.real == real && *other != address && named.names.contains(name) {
                let before = named.clone();
                named.names.retain(|known| known != name);
                changed(*other, Some(&before), Some(named));
            }
        }
        self.clock += 1;
        let before = self.addresses.get(&address).cloned();
        let named = self.addresses.entry(address).or_insert_with(|| Named {
            real,
            names: Vec::new(),
            used: 0,
        });
        named.used = self.clock;
        let new = !named.names.contains(name);
        if new {
            if named.names.len() == NAMES {
                named.names.remove(0);
            }
            named.names.push(Arc::clone(name));
            changed(address, before.as_ref(), Some(named));
        }
        if self.addresses.len() > most {
            let oldest = self.addresses.iter().min_by_key(|(_, named)| named.used);
            if let Some((oldest, named)) = oldest
                .map(|(address, _)| *address)
                .and_then(|it| self.addresses.remove_entry(&it))
            {
                changed(oldest, Some(&named), None);
            }
        }
        new
    }

    /// The lowest stand-in that is free; none when the workload has all.
    fn stand_in(&self, v6: bool) -> Option<IpAddr> {
        let address = |number: u32| -> IpAddr {
            if v6 {
                Ipv6Addr::from(STAND_INS_V6 | u128::from(number)).into()
            } else {
                Ipv4Addr::from(STAND_INS_V4 | number).into()
            }
        };
        // The network's own address, numbered 0, is nobody's.
        (1..STAND_INS)
            .map(address)
            .find(|address| !self.addresses.contains_key(address))
    }
}

impl Named {
    /// Of all names together: where a policy that came later tells apart what had the same answer,
    /// the candidates' order decides.
    pub(super) fn meant(&self, set: &PolicySet) -> Meant {
        self.names.iter().flat_map(|name| set.meant(name)).collect()
    }
}
