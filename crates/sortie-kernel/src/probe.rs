//! Which of the features that we build on this kernel has, found by trying each.

#[cfg(test)]
mod tests;

use std::fmt;

use nfnetlink::chain::{ChainType, HookPoint};
use nfnetlink::conntrack::Filter;
use nfnetlink::expr::{Ct, CtKey, Exprs, Immediate, Reg, Selector, addr_type, selectors};
use nfnetlink::{Batch, Chain, Data, Family, Rule, Socket, Table, table};

use crate::error::{Error, netfilter};
use crate::failpoint::Failpoints;
use crate::netns::Namespace;

macro_rules! features {
    ($($(#[$doc:meta])* $feature:ident = $name:literal, $needed:literal, $meaning:literal;)*) => {
        /// A feature of the kernel.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Feature {
            $($(#[$doc])* $feature,)*
        }

        impl Feature {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$feature,)*];

            /// As failpoints and `doctor` name it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$feature => $name,)*
                }
            }

            /// Whether nothing works without it.
            pub const fn is_needed(self) -> bool {
                match self {
                    $(Self::$feature => $needed,)*
                }
            }

            /// What its absence means, and what to do.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$feature => $meaning,)*
                }
            }
        }
    };
}

features! {
    /// nf_tables itself, with NAT.
    NfTables = "nf-tables", true, "nothing can be translated or guarded; load nf_tables, nft_nat and nf_conntrack, or use a kernel that has them";
    /// The bridge family.
    BridgeFamily = "bridge-family", true, "containers on bridges cannot be told apart; load nf_tables_bridge (CONFIG_NF_TABLES_BRIDGE)";
    /// Chains at a device's egress.
    NetdevEgress = "netdev-egress", true, "there is no last line at the uplinks; use kernel 5.16 or newer (CONFIG_NETFILTER_EGRESS)";
    /// `fib saddr type`.
    Fib = "fib", true, "the guard cannot tell whether an address is on the host; load nft_fib_inet (CONFIG_NFT_FIB_INET)";
    /// Tables that only their socket may edit.
    Owner = "owner", false, "`nft flush ruleset` of others removes our tables, which are then put back within milliseconds; use kernel 5.12 or newer";
    /// Owned tables that outlive their socket.
    Persist = "persist", false, "our tables are plain ones: `nft flush ruleset` of others removes them, and they are put back within milliseconds; use kernel 6.9 or newer";
    /// Connection tracking's messages.
    ConntrackEvents = "conntrack-events", false, "`sortie flows` and the proof of what was seen stay empty; load nf_conntrack_netlink (CONFIG_NF_CT_NETLINK)";
    /// A socket's cgroup, and labels of flows.
    SocketCgroup = "socket-cgroup", false, "containers in the host's network namespace cannot be managed; load nft_socket (CONFIG_NFT_SOCKET, CONFIG_NF_CONNTRACK_LABELS)";
    /// Messages about dropped packets.
    Nflog = "nflog", false, "`sortie drops` shows no packets, only counts; load nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG)";
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The features that this kernel lacks, in the order of [`Feature::ALL`]. Everything is tried in a
/// network namespace of its own, so that nothing of the host is touched.
pub fn missing(failpoints: &Failpoints) -> Result<Vec<Feature>, Error> {
    let namespace = Namespace::anonymous()?;
    namespace.enter(|| {
        let mut socket = Socket::open().map_err(netfilter("open an nftables socket"))?;
        let mut absent = Vec::new();
        for feature in Feature::ALL {
            if failpoints.hides(*feature) || !has(&mut socket, *feature)? {
                absent.push(*feature);
            }
        }
        Ok(absent)
    })?
}

/// Whether one feature is there.
pub(crate) fn is_there(feature: Feature, failpoints: &Failpoints) -> Result<bool, Error> {
    if failpoints.hides(feature) {
        return Ok(false);
    }
    Namespace::anonymous()?.enter(|| {
        let mut socket = Socket::open().map_err(netfilter("open an nftables socket"))?;
        has(&mut socket, feature)
    })?
}

/// Tries it in the namespace of this socket, which is thrown away.
fn has(socket: &mut Socket, feature: Feature) -> Result<bool, Error> {
    const NAME: &str = "probe";
    let base = |family, kind, point| Chain::base(family, NAME, NAME, kind, point, 0);
    let table = |family| Table::new(family, NAME);
    let mut batch = Batch::new();
    match feature {
        Feature::NfTables => {
            batch.add_table(&table(Family::Inet));
            batch.add_chain(&base(Family::Inet, ChainType::Nat, HookPoint::POSTROUTING));
        }
        Feature::BridgeFamily => {
            batch.add_table(&table(Family::Bridge));
            batch.add_chain(&base(
                Family::Bridge,
                ChainType::Filter,
                HookPoint::PREROUTING,
            ));
        }
        Feature::NetdevEgress => {
            batch.add_table(&table(Family::Netdev));
            let chain = base(Family::Netdev, ChainType::Filter, HookPoint::NETDEV_EGRESS);
            batch.add_chain(&chain.devices(["lo"]));
        }
        Feature::Fib => {
            batch.add_table(&table(Family::Inet));
            batch.add_chain(&Chain::regular(Family::Inet, NAME, "fib"));
            let local = Exprs::new(Family::Inet).eq(selectors::FIB_SADDR_TYPE, addr_type::LOCAL);
            batch.add_rule(&Rule::new(Family::Inet, NAME, "fib", local));
        }
        Feature::SocketCgroup => {
            batch.add_table(&table(Family::Inet));
            let (kind, point) = (ChainType::Route, HookPoint::OUTPUT);
            let output = Chain::base(Family::Inet, NAME, "socket", kind, point, 0);
            batch.add_chain(&output);
            let label = Exprs::new(Family::Inet)
                .load(&[Selector::socket_cgroupv2(1)])
                .push(Immediate::value(Reg::R0, Data::unpadded(&[0; 16])))
                .push(Ct::Set {
                    key: CtKey::LABELS,
                    sreg: Reg::R0,
                });
            batch.add_rule(&Rule::new(Family::Inet, NAME, "socket", label));
        }
        Feature::Owner => {
            batch.add_table(&Table::new(Family::Inet, "owner").flags(table::Flags::OWNER));
        }
        Feature::Persist => {
            let flags = table::Flags::OWNER | table::Flags::PERSIST;
            batch.add_table(&Table::new(Family::Inet, "persist").flags(flags));
        }
        Feature::Nflog => {
            batch.add_table(&table(Family::Inet));
            batch.add_chain(&Chain::regular(Family::Inet, NAME, "log"));
            let log = Exprs::new(Family::Inet).log(1, NAME);
            batch.add_rule(&Rule::new(Family::Inet, NAME, "log", log));
        }
        Feature::ConntrackEvents => {
            return match socket.conntracks(&Filter::all()) {
                Ok(_) => Ok(true),
                Err(error) if error.errno() == Some(libc::EINVAL) => Ok(false),
                Err(error) => Err(netfilter("try connection tracking")(error)),
            };
        }
    }
    match socket.commit(&batch) {
        Ok(()) => Ok(true),
        Err(error) => match error.errno() {
            Some(
                libc::EOPNOTSUPP
                | libc::ENOENT
                | libc::EINVAL
                | libc::EPROTONOSUPPORT
                | libc::EAFNOSUPPORT,
            ) => Ok(false),
            _ => Err(netfilter("try the kernel's nftables features")(error)),
        },
    }
}
