//! The one writer: holds the socket that owns our tables, and does every step.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nfnetlink::conntrack::Tuple;
use nfnetlink::{Batch, Socket, table};
use sortie_plan::nft::Family;
use sortie_plan::op::Op;
use sortie_plan::state::Sysctl;

use crate::error::{Error, netfilter};
use crate::failpoint::{Failpoints, Step};
use crate::lower::{self, TABLE};
use crate::own::OwnAddresses;
use crate::probe::{self, Feature};
use crate::redirect::Redirects;
use crate::rtnl::Rtnetlink;
use crate::sysctl::Changes;
use crate::{announce, facts, flows, forwarded, network, waiting};

/// How a [`Kernel`] is opened.
#[derive(Debug, Default)]
pub struct Options {
    /// The folder of our notes. On a file system that does not outlive the host's running, such as
    /// `/run/sortie`: settings that a reboot has reset must not be put back.
    pub state: PathBuf,
    /// Where to fail; nowhere by default.
    pub failpoints: Failpoints,
    /// How long our tables live.
    pub lifetime: Lifetime,
    /// A socket that already owns our tables, from [`Kernel::as_fd`] of a former process.
    pub socket: Option<OwnedFd>,
}

/// How long our tables live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// Until they are deleted: they outlive the process (the agent's).
    #[default]
    Persistent,
    /// As long as the socket is open (`sortie run` without an agent). Needs kernel 5.12.
    Process,
}

/// Packets of containers need these.
const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

/// A setting that is not what it was before us, on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftSysctl {
    /// Which.
    pub sysctl: Sysctl,
    before: String,
    bridges: Vec<String>,
}

impl fmt::Display for LeftSysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sysctl {0} stays as it is, and was {1} before: containers on {2} may need it; without them: sysctl -w {3}={1}",
            self.sysctl.0,
            self.before,
            self.bridges.join(", "),
            self.sysctl.0.replace('/', "."),
        )
    }
}

/// Steps that were not done.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unapplied {
    /// Why the first of them failed; each is in the log.
    pub error: Box<Error>,
    /// All that failed, and what was not tried because of it.
    pub steps: Vec<Op>,
}

impl Unapplied {
    /// Whether a step needs one that was not done: a workload is given an address once the host has
    /// the route to it.
    fn keeps_back(&self, op: &Op) -> bool {
        let Op::AddOwn(own) = op else { return false };
        let mut undone = self.steps.iter();
        undone
            .any(|op| matches!(op, Op::AddRoute(route) if route.destination.addr() == own.address))
    }
}

impl From<Unapplied> for Error {
    fn from(unapplied: Unapplied) -> Self {
        *unapplied.error
    }
}

/// The kernel of one network namespace, to be changed by this value only.
#[derive(Debug)]
pub struct Kernel {
    pub(crate) rtnl: Rtnetlink,
    pub(crate) nft: Socket,
    pub(crate) flags: table::Flags,
    pub(crate) failpoints: Failpoints,
    pub(crate) sysctls: Changes,
    pub(crate) own: OwnAddresses,
    pub(crate) redirects: Redirects,
    /// Interfaces that this process was asked to let through.
    pub(crate) forwarded: BTreeSet<String>,
    /// Settings that were not put back.
    left: Vec<LeftSysctl>,
    destroy: bool,
    lifetime: Lifetime,
    applied: BTreeMap<Step, u64>,
}

impl Kernel {
    /// Opens the calling thread's network namespace for changes, and takes over what a former
    /// process left. Use the value on threads of that namespace only: settings below `net` are
    /// the calling thread's.
    pub fn open(options: Options) -> Result<Self, Error> {
        let rtnl = Rtnetlink::open()?;
        let mut nft = match options.socket {
            Some(fd) => Socket::from_fd(fd),
            None => Socket::open(),
        }
        .map_err(netfilter("open the nftables socket"))?;
        let flags = table_flags(options.lifetime, &options.failpoints)?;
        let destroy = nft
            .supports_destroy()
            .map_err(netfilter("try the kernel's nftables"))?;
        let mut kernel = Self {
            rtnl,
            nft,
            flags,
            failpoints: options.failpoints,
            sysctls: Changes::load(&options.state)?,
            own: OwnAddresses::load(&options.state)?,
            redirects: Redirects::load(&options.state)?,
            forwarded: BTreeSet::new(),
            left: Vec::new(),
            destroy,
            lifetime: options.lifetime,
            applied: BTreeMap::new(),
        };
        kernel.claim(options.lifetime)?;
        forwarded::tidy(&mut kernel.nft)?;
        Ok(kernel)
    }

    /// Whether others' `nft flush ruleset` leaves our tables alone.
    pub fn owns_tables(&self) -> bool {
        self.flags.contains(table::Flags::OWNER)
    }

    /// How long our tables live.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The routing socket, for [`facts`].
    pub fn rtnetlink(&mut self) -> &mut Rtnetlink {
        &mut self.rtnl
    }

    /// How many steps of each kind were done.
    pub fn applied(&self) -> &BTreeMap<Step, u64> {
        &self.applied
    }

    /// Does steps in order. Behind a change of our tables that fails, or flows that cannot be ended,
    /// nothing is done; any other step that fails keeps back only those that need it. Doing all of
    /// them again, or those of a new comparison, converges.
    pub fn apply(&mut self, ops: &[Op]) -> Result<(), Unapplied> {
        let together = |a: &Op, b: &Op| step(a) == step(b) && keeps_all_back(a);
        let mut failed: Option<Unapplied> = None;
        let mut behind = ops;
        for group in ops.chunk_by(together) {
            let before = behind;
            behind = behind.get(group.len()..).unwrap_or_default();
            let Some(first) = group.first() else { continue };
            if let Some(failed) = &mut failed
                && failed.keeps_back(first)
            {
                failed.steps.extend_from_slice(group);
                continue;
            }
            let object = || match group {
                [Op::Nft(family, op)] => format!("{family}: {op:?}"),
                [one] => format!("{one:?}"),
                several => format!("{} operations", several.len()),
            };
            let Err(error) = self.step(step(first), object, |kernel| kernel.act(first, group))
            else {
                continue;
            };
            let failed = failed.get_or_insert_with(|| Unapplied {
                error: Box::new(error),
                steps: Vec::new(),
            });
            if keeps_all_back(first) {
                failed.steps.extend_from_slice(before);
                break;
            }
            failed.steps.extend_from_slice(group);
        }
        failed.map_or(Ok(()), Err)
    }

    /// The same with steps in parts, made when they are asked for. Behind a part with a change of our
    /// tables that fails no other is made.
    pub fn apply_parts(&mut self, parts: impl Iterator<Item = Vec<Op>>) -> Result<(), Unapplied> {
        let mut undone: Option<Unapplied> = None;
        for ops in parts {
            let Err(failed) = self.apply(&ops) else {
                continue;
            };
            let is_last = failed.steps.iter().any(keeps_all_back);
            match &mut undone {
                Some(undone) => undone.steps.extend(failed.steps),
                None => undone = Some(failed),
            }
            if is_last {
                break;
            }
        }
        undone.map_or(Ok(()), Err)
    }

    /// Ends one tracked flow of before a policy for a cgroup.
    pub fn forget_earlier(&mut self, original: &Tuple) -> Result<(), Error> {
        let object = || format!("{original:?}");
        self.step(Step::ForgetFlows, object, |kernel| {
            flows::forget_earlier(&mut kernel.nft, original)
        })
    }

    /// The one way in: failpoints, audit line, counter.
    pub(crate) fn step<T>(
        &mut self,
        step: Step,
        object: impl Fn() -> String,
        run: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let failpoints = self.failpoints.clone();
        let done = failpoints.around(step, || run(self));
        match &done {
            Ok(_) => {
                tracing::info!(target: "sortie::audit", step = step.name(), object = object(), "done");
                *self.applied.entry(step).or_default() += 1;
            }
            Err(error) => {
                tracing::warn!(target: "sortie::audit", step = step.name(), object = object(), %error, "failed");
            }
        }
        done
    }

    /// One step, or all neighbouring ones of a kind that is done together.
    fn act(&mut self, first: &Op, group: &[Op]) -> Result<(), Error> {
        match first {
            Op::Nft(..) => self.transaction(group),
            Op::ForgetFlows { .. } => flows::forget(&mut self.nft, group),
            Op::DropWaiting(device) => waiting::drop(&mut self.rtnl, device),
            Op::LetPass => {
                waiting::let_pass();
                Ok(())
            }
            Op::AddRoute(route) => network::add_route(&mut self.rtnl, route),
            Op::DeleteRoute(route) => network::delete_route(&mut self.rtnl, route),
            Op::AddRule(rule) => network::add_rule(&mut self.rtnl, rule),
            Op::DeleteRule(rule) => network::delete_rule(&mut self.rtnl, rule),
            Op::AddNeighbour(entry) => network::add_neighbour(&mut self.rtnl, entry),
            Op::DeleteNeighbour(entry) => network::delete_neighbour(&mut self.rtnl, entry),
            Op::SetSysctl(sysctl, value) => self.sysctls.set(sysctl, value),
            Op::RestoreSysctl(sysctl) => self.restore(sysctl),
            Op::AddForwarded(interface) => {
                self.forwarded.insert(interface.clone());
                forwarded::add(&mut self.nft, interface)
            }
            Op::DeleteForwarded(interface) => {
                self.forwarded.remove(interface);
                forwarded::delete(&mut self.nft, interface)
            }
            Op::AddOwn(own) => self.own.add(own),
            Op::DeleteOwn(own) => self.own.delete(own),
            Op::AddRedirect(pid, redirect) => self.redirects.add(*pid, redirect),
            Op::ChangeDirect { pid, come, gone } => self.redirects.direct(*pid, come, gone),
            Op::DeleteRedirect(pid) => self.redirects.delete(*pid),
            Op::Announce(entry) => announce::announce(&mut self.rtnl, &entry.device, entry.address),
        }
    }

    fn transaction(&mut self, ops: &[Op]) -> Result<(), Error> {
        let mut batch = Batch::new();
        for op in ops {
            if let Op::Nft(family, op) = op {
                let op = self.failpoints.altered(*family, op);
                lower::operation(&mut batch, *family, &op, self.flags, self.destroy)?;
            }
        }
        tracing::debug!(target: "sortie::audit", operations = ?batch.operations(), "transaction");
        self.nft
            .commit(&batch)
            .map_err(netfilter("change our tables"))
    }

    /// Puts a setting back, but for forwarding while there are bridges: an engine that came after us
    /// found it on, and its containers would lose their way out.
    fn restore(&mut self, sysctl: &Sysctl) -> Result<(), Error> {
        if FORWARDING.contains(&sysctl.0.as_str())
            && let Some(before) = self.sysctls.former(sysctl)?
        {
            let links = facts::links(&mut self.rtnl)?;
            let bridges: Vec<_> = links
                .into_iter()
                .filter(|link| link.kind.as_deref() == Some("bridge"))
                .map(|link| link.name)
                .collect();
            if !bridges.is_empty() {
                let left = LeftSysctl {
                    sysctl: sysctl.clone(),
                    before,
                    bridges,
                };
                tracing::info!("{left}");
                self.left.push(left);
                return self.sysctls.leave(sysctl);
            }
        }
        self.sysctls.restore(sysctl)
    }

    /// The settings that were not put back since this was asked last.
    pub fn take_left(&mut self) -> Vec<LeftSysctl> {
        std::mem::take(&mut self.left)
    }

    /// Takes over tables whose socket is gone; refuses those that somebody holds.
    fn claim(&mut self, lifetime: Lifetime) -> Result<(), Error> {
        let port = self
            .nft
            .port()
            .map_err(netfilter("name the nftables socket"))?;
        for family in Family::ALL {
            let found = self
                .nft
                .table(lower::family(family), TABLE)
                .map_err(netfilter("look for our tables"))?;
            let Some(found) = found else { continue };
            match found.owner {
                Some(owner) if owner == port => {}
                Some(owner) => {
                    return Err(Error::TableHeld {
                        family,
                        port: owner,
                    });
                }
                None if lifetime == Lifetime::Process => return Err(Error::TableLeft { family }),
                // An orphan: the kernel takes its owner flag away when the socket closes.
                None if found.flags.contains(table::Flags::PERSIST) => {
                    let flags = table::Flags::OWNER | table::Flags::PERSIST;
                    let orphan = nfnetlink::Table::new(lower::family(family), TABLE).flags(flags);
                    let mut batch = Batch::new();
                    batch.add_table(&orphan);
                    self.nft
                        .commit(&batch)
                        .map_err(netfilter("take over our tables"))?;
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl AsFd for Kernel {
    /// The socket that owns our tables: who keeps a copy keeps the right to edit them.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.nft.as_fd()
    }
}

/// The flags of tables that we make.
fn table_flags(lifetime: Lifetime, failpoints: &Failpoints) -> Result<table::Flags, Error> {
    let has = |feature| probe::is_there(feature, failpoints);
    match lifetime {
        Lifetime::Persistent if has(Feature::Persist)? => {
            Ok(table::Flags::OWNER | table::Flags::PERSIST)
        }
        // Never owned without persistence: the tables would go with the agent.
        Lifetime::Persistent => Ok(table::Flags::NONE),
        Lifetime::Process if has(Feature::Owner)? => Ok(table::Flags::OWNER),
        Lifetime::Process => Err(Error::Unsupported {
            feature: Feature::Owner,
            meaning: "tables that end with a process need kernel 5.12; start `sortie agent` instead",
        }),
    }
}

/// Whether nothing may be done behind this step when it fails: neighbours of its kind are done
/// together.
fn keeps_all_back(op: &Op) -> bool {
    matches!(op, Op::Nft(..) | Op::ForgetFlows { .. })
}

fn step(op: &Op) -> Step {
    match op {
        Op::Nft(..) => Step::Nft,
        Op::ForgetFlows { .. } => Step::ForgetFlows,
        Op::DropWaiting(_) => Step::DropWaiting,
        Op::LetPass => Step::LetPass,
        Op::AddRoute(_) => Step::AddRoute,
        Op::DeleteRoute(_) => Step::DeleteRoute,
        Op::AddRule(_) => Step::AddRule,
        Op::DeleteRule(_) => Step::DeleteRule,
        Op::AddNeighbour(_) => Step::AddNeighbour,
        Op::DeleteNeighbour(_) => Step::DeleteNeighbour,
        Op::SetSysctl(..) => Step::SetSysctl,
        Op::RestoreSysctl(_) => Step::RestoreSysctl,
        Op::AddForwarded(_) => Step::AddForwarded,
        Op::DeleteForwarded(_) => Step::DeleteForwarded,
        Op::AddOwn(_) => Step::AddOwn,
        Op::DeleteOwn(_) => Step::DeleteOwn,
        Op::AddRedirect(..) | Op::ChangeDirect { .. } => Step::AddRedirect,
        Op::DeleteRedirect(_) => Step::DeleteRedirect,
        Op::Announce(_) => Step::Announce,
    }
}
