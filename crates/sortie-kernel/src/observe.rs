//! What the kernel holds of ours.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use nfnetlink::{Element, Socket, obj, set, table};
use sortie_plan::nft::key::Key;
use sortie_plan::nft::{Elements, Family, Name};
use sortie_plan::state::{Network, Observed, ObservedTable};

use crate::error::{Error, netfilter};
use crate::kernel::Kernel;
use crate::lower::{self, TABLE};
use crate::network::Names;
use crate::own::Look;
use crate::{facts, forwarded, network};

/// How often a set that grew while it was listed is listed again.
const LIST_ATTEMPTS: u32 = 16;

/// What an element or a named counter has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, without the link's headers.
    pub bytes: u64,
}

impl Kernel {
    /// Reads all that is ours. Not for hot paths: every element is listed.
    pub fn observe(&mut self) -> Result<Observed, Error> {
        let names = self.names()?;
        let mut tables = BTreeMap::new();
        for family in Family::ALL {
            if let Some(table) = self.observe_table(family, &names)? {
                tables.insert(family, table);
            }
        }
        let network = self.observe_network(Look::Everywhere)?;
        Ok(Observed { tables, network })
    }

    /// Reads what is ours outside nftables: what others can change.
    pub fn observe_network(&mut self, look: Look) -> Result<Network, Error> {
        let names = self.names()?;
        Ok(Network {
            routes: network::routes(&mut self.rtnl, &names)?,
            rules: network::rules(&mut self.rtnl)?,
            neighbours: network::neighbours(&mut self.rtnl, &names)?,
            sysctls: self.sysctls.observe()?,
            forwarded: forwarded::complete(&mut self.nft, &self.forwarded)?,
            own: self.own.observe(look)?,
            redirects: self.redirects.observe(look)?,
        })
    }

    /// The addresses that the host answers for on some uplink, whoever made it so: a look at these
    /// costs microseconds.
    pub fn answered(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        network::answered(&mut self.rtnl)
    }

    fn names(&mut self) -> Result<Names, Error> {
        let links = facts::links(&mut self.rtnl)?;
        Ok(links
            .into_iter()
            .map(|link| (link.index.0, link.name))
            .collect())
    }

    fn observe_table(
        &mut self,
        family: Family,
        names: &Names,
    ) -> Result<Option<ObservedTable>, Error> {
        let failed = netfilter("read our tables");
        let on = lower::family(family);
        let Some(found) = self.nft.table(on, TABLE).map_err(failed)? else {
            return Ok(None);
        };
        // A plain table cannot become an owned one: without its tag it is made anew.
        let owned = table::Flags::OWNER;
        let tag = if self.flags.contains(owned) == found.flags.contains(owned) {
            self.failpoints.meant_tag(found.comment.unwrap_or_default())
        } else {
            String::new()
        };
        let chains = self.nft.chains(on).map_err(failed)?;
        let chains = chains
            .into_iter()
            .filter(|chain| {
                chain.table == TABLE && (family != Family::Netdev || hooked(chain, names))
            })
            .map(|chain| Name::from(chain.name))
            .collect();
        let sets = sets(&mut self.nft, family)?;
        Ok(Some(ObservedTable { tag, chains, sets }))
    }

    /// What each element of a counting set has counted.
    pub fn element_counts(
        &mut self,
        family: Family,
        set: &str,
    ) -> Result<Vec<(Key, Count)>, Error> {
        Ok(list(&mut self.nft, family, set)?
            .iter()
            .filter_map(|element| {
                let counter = element.counter()?;
                let key = Key::from_bytes(element.key.as_slice())?;
                Some((key, count(counter)))
            })
            .collect())
    }

    /// What the named counters of a family's table have counted.
    pub fn named_counts(&mut self, family: Family) -> Result<BTreeMap<String, Count>, Error> {
        let counters = self
            .nft
            .counters(lower::family(family), TABLE)
            .map_err(netfilter("read our counters"))?;
        Ok(counters
            .into_iter()
            .map(|obj::NamedCounter { name, counter, .. }| (name, count(counter)))
            .collect())
    }
}

/// The sets of our table of a family, with what is in them.
pub(crate) fn sets(nft: &mut Socket, family: Family) -> Result<BTreeMap<Name, Elements>, Error> {
    let failed = netfilter("read our tables");
    let mut sets = BTreeMap::new();
    for set in nft.sets(lower::family(family), TABLE).map_err(failed)? {
        // What rules have put in is nothing that anybody wants.
        let elements = if set.flags.contains(set::Flags::EVAL) {
            Vec::new()
        } else {
            list(nft, family, &set.name)?
        };
        let interval = set.flags.contains(set::Flags::INTERVAL);
        sets.insert(Name::from(set.name), lower::lift(elements, interval));
    }
    Ok(sets)
}

/// All elements of a set, each once.
///
/// A hash table that grows in the background is listed in another order from one datagram to the
/// next, without the kernel saying so (`nft_rhash_walk`): what then comes twice stands for something
/// that did not come at all.
fn list(nft: &mut Socket, family: Family, set: &str) -> Result<Vec<Element>, Error> {
    for _ in 0..LIST_ATTEMPTS {
        let elements = nft
            .elements(lower::family(family), TABLE, set)
            .map_err(netfilter("read our elements"))?;
        let mut seen = HashSet::with_capacity(elements.len());
        if elements
            .iter()
            .all(|element| seen.insert((element.key, element.flags)))
        {
            return Ok(elements);
        }
    }
    Err(Error::Unsteady {
        operation: "list the elements of",
        object: format!("set {family} {TABLE} {set}"),
        attempts: LIST_ATTEMPTS,
    })
}

fn count(counter: nfnetlink::expr::Counter) -> Count {
    Count {
        packets: counter.packets,
        bytes: counter.bytes,
    }
}

/// Whether a chain of the netdev family is on an interface that exists. Kernels before 6.16 delete
/// the chain with its interface; later ones keep it, waiting for one of the same name.
fn hooked(chain: &nfnetlink::Chain, names: &Names) -> bool {
    let present = |device: &String| names.values().any(|name| name == device);
    match &chain.hook {
        Some(hook) => hook.devices.iter().any(present),
        None => true,
    }
}
