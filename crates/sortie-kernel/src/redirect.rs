//! The tables in workloads' own network namespaces that lead lookups and connections to the resolver
//! and the gateway: made, taken back, looked at.
//!
//! A namespace is noted first: a later process knows where to look, and what is gone with its
//! workload is forgotten. Who has `CAP_NET_ADMIN` in there can undo everything, and also keep us from
//! mending it. So a refusal is told and nothing else waits for it: the guard on the host drops what
//! should have been led elsewhere.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nfnetlink::{Batch, Socket, table};
use serde::{Deserialize, Serialize};
use sortie_plan::diff::diff;
use sortie_plan::nft::key::Key;
use sortie_plan::nft::set::Data;
use sortie_plan::nft::{Family, Name, Table};
use sortie_plan::op::{NftOp, Op};
use sortie_plan::redirect::{CHAIN, Redirect};
use sortie_plan::state::{HostState, Observed, ObservedTable};

use crate::error::{Error, netfilter};
use crate::lower::{self, TABLE};
use crate::netns::{Identity, Namespace};
use crate::own::Look;
use crate::{notes, observe};

/// The file's name in the state folder.
const FILE: &str = "redirects.json";

/// All that were made.
#[derive(Debug)]
pub(crate) struct Redirects {
    file: PathBuf,
    notes: Vec<Note>,
    /// What this process has made, by pid.
    made: BTreeMap<u32, Redirect>,
}

/// A namespace that has one, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pid: u32,
    /// So that another process with this number is not taken for it.
    namespace: Identity,
}

impl Note {
    /// The namespace, if it is still that one.
    fn namespace(&self) -> Result<Option<Namespace>, Error> {
        let found = Namespace::foreign(self.pid)?;
        Ok(found.filter(|namespace| namespace.identity() == self.namespace))
    }
}

impl Redirects {
    /// Those noted in a state folder.
    pub(crate) fn load(state: &Path) -> Result<Self, Error> {
        let file = state.join(FILE);
        let notes = notes::load(
            &file,
            "workloads that need the gateway no longer keep its rules",
        )?;
        Ok(Self {
            file,
            notes,
            made: BTreeMap::new(),
        })
    }

    /// Makes one, in place of what was there. A workload that has ended needs none.
    pub(crate) fn add(&mut self, pid: u32, redirect: &Redirect) -> Result<(), Error> {
        let Some(namespace) = Namespace::foreign(pid)? else {
            return Ok(());
        };
        let note = Note {
            pid,
            namespace: namespace.identity(),
        };
        let mut noted = Ok(());
        if !self.notes.contains(&note) {
            self.notes.retain(|other| other.pid != pid);
            self.notes.push(note);
            noted = notes::save(&self.file, &self.notes);
        }
        // Made all the same where it cannot be noted: what comes behind this step lets packets leave.
        self.made.insert(pid, redirect.clone());
        told(pid, namespace.enter(|| make(&redirect.table()))?);
        noted
    }

    /// Changes what is not led to the gateway. Where the table is not what it was, the next
    /// comparison makes it anew.
    pub(crate) fn direct(
        &mut self,
        pid: u32,
        come: &[IpAddr],
        gone: &[IpAddr],
    ) -> Result<(), Error> {
        if let Some(made) = self.made.get_mut(&pid) {
            made.direct.extend(come);
            made.direct.retain(|address| !gone.contains(address));
        }
        for note in self.notes.iter().filter(|note| note.pid == pid) {
            if let Some(namespace) = note.namespace()? {
                told(pid, namespace.enter(|| change_direct(come, gone))?);
            }
        }
        Ok(())
    }

    /// Takes it back.
    pub(crate) fn delete(&mut self, pid: u32) -> Result<(), Error> {
        self.made.remove(&pid);
        for note in self.notes.iter().filter(|note| note.pid == pid) {
            if let Some(namespace) = note.namespace()? {
                told(pid, namespace.enter(remove)?);
            }
        }
        let before = self.notes.len();
        self.notes.retain(|note| note.pid != pid);
        if self.notes.len() == before {
            return Ok(());
        }
        notes::save(&self.file, &self.notes)
    }

    /// Those that there is anything of; one that is not as this process has made it is empty. The
    /// others are forgotten. What is not looked into is believed to be as it was made.
    pub(crate) fn observe(&mut self, into: Look) -> Result<BTreeMap<u32, Redirect>, Error> {
        let mut found = BTreeMap::new();
        for note in &self.notes {
            if !into.is_into(note.pid)
                && let Some(made) = self.made.get(&note.pid)
            {
                found.insert(note.pid, made.clone());
                continue;
            }
            let Some(namespace) = note.namespace()? else {
                continue;
            };
            let made = self.made.get(&note.pid);
            let wanted = made.map(Redirect::table);
            let redirect = match namespace.enter(|| look(&mut open()?, wanted.as_ref()))? {
                Ok(Found::Nothing) => continue,
                Ok(Found::AsWanted) => made.cloned().unwrap_or_default(),
                Ok(Found::Otherwise(_)) => Redirect::default(),
                Err(error) => {
                    told(note.pid, Err(error));
                    Redirect::default()
                }
            };
            found.insert(note.pid, redirect);
        }
        self.notes.retain(|note| found.contains_key(&note.pid));
        Ok(found)
    }
}

/// A refusal inside is the workload's own loss.
fn told(pid: u32, done: Result<(), Error>) {
    if let Err(error) = done {
        tracing::warn!(pid, %error, "lookups and connections cannot be led to the gateway: the guard drops them");
    }
}

/// What is in a namespace.
enum Found {
    Nothing,
    AsWanted,
    Otherwise(ObservedTable),
}

fn open() -> Result<Socket, Error> {
    Socket::open().map_err(netfilter("open a socket in a workload's namespace"))
}

/// In one transaction: what is right already stays.
fn make(wanted: &Table) -> Result<(), Error> {
    let mut nft = open()?;
    let observed = match look(&mut nft, Some(wanted))? {
        Found::AsWanted => return Ok(()),
        Found::Nothing => Observed::default(),
        Found::Otherwise(found) => Observed {
            tables: [(Family::Inet, found)].into(),
            ..Observed::default()
        },
    };
    let desired = HostState {
        tables: [(Family::Inet, wanted.clone())].into(),
        ..HostState::default()
    };
    let mut batch = Batch::new();
    for op in diff(&observed, desired) {
        if let Op::Nft(family, op) = op {
            lower::operation(&mut batch, family, &op, table::Flags::NONE, false)?;
        }
    }
    nft.commit(&batch)
        .map_err(netfilter("lead lookups to the resolver"))
}

fn change_direct(come: &[IpAddr], gone: &[IpAddr]) -> Result<(), Error> {
    let mut batch = Batch::new();
    for (changed, comes) in [(come, true), (gone, false)] {
        for v6 in [false, true] {
            let of_family = changed.iter().filter(|address| address.is_ipv6() == v6);
            let elements: Vec<_> = of_family.map(|it| (Key::from(*it), Data::None)).collect();
            if elements.is_empty() {
                continue;
            }
            let set = Name::Borrowed(if v6 { "direct6" } else { "direct4" });
            let op = if comes {
                NftOp::AddElements(set, elements)
            } else {
                NftOp::DeleteElements(set, elements)
            };
            lower::operation(&mut batch, Family::Inet, &op, table::Flags::NONE, false)?;
        }
    }
    open()?
        .commit(&batch)
        .map_err(netfilter("change what is not led to the gateway"))
}

fn remove() -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.destroy_table(lower::family(Family::Inet), TABLE);
    open()?
        .commit(&batch)
        .map_err(netfilter("lead lookups to the resolver no longer"))
}

/// Without its tag a table is made anew: so it is when rules are missing or too many.
fn look(nft: &mut Socket, wanted: Option<&Table>) -> Result<Found, Error> {
    let failed = netfilter("read the table of a workload's namespace");
    let inet = lower::family(Family::Inet);
    let Some(found) = nft.table(inet, TABLE).map_err(failed)? else {
        return Ok(Found::Nothing);
    };
    let chains = nft.chains(inet).map_err(failed)?;
    let chains = chains.into_iter().filter(|chain| chain.table == TABLE);
    let rules = nft.rules(inet, TABLE, None).map_err(failed)?.len();
    let mut found = ObservedTable {
        tag: found.comment.unwrap_or_default(),
        chains: chains.map(|chain| Name::from(chain.name)).collect(),
        sets: observe::sets(nft, Family::Inet)?,
    };
    let Some(wanted) = wanted else {
        return Ok(Found::Otherwise(found));
    };
    let whole = ObservedTable {
        tag: wanted.tag.clone(),
        chains: wanted.chains.keys().cloned().collect(),
        sets: wanted
            .sets
            .iter()
            .map(|(name, set)| (name.clone(), set.elements.clone()))
            .collect(),
    };
    let wanted_rules = wanted
        .chains
        .get(CHAIN)
        .map_or(0, |chain| chain.rules.len());
    if rules != wanted_rules || found.chains != whole.chains {
        found.tag = String::new();
    }
    Ok(if found == whole {
        Found::AsWanted
    } else {
        Found::Otherwise(found)
    })
}
