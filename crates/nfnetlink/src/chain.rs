//! Chains: base chains at hooks and devices, regular chains, their deletion and listing.

use crate::socket::{Reply, Request};
use crate::table::none_if_not_found;
use crate::uapi::nft::{
    NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN, NFTA_CHAIN_HANDLE,
    NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE,
    NFTA_CHAIN_USE, NFTA_CHAIN_USERDATA, NFTA_DEVICE_NAME, NFTA_HOOK_DEV, NFTA_HOOK_DEVS,
    NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_RULE_CHAIN, NFTA_RULE_TABLE,
};
use crate::uapi::nl::{NFNL_SUBSYS_NFTABLES, NLM_F_CREATE, NLM_F_EXCL, message_type};
use crate::uapi::open_enum;
use crate::userdata::{self, OBJECT_COMMENT};
use crate::wire::{Malformed, Writer, attrs};
use crate::{Batch, Error, Family, Socket};

open_enum! {
    /// Where a base chain of an IP family or the bridge sees packets (`enum nf_inet_hooks`).
    ///
    /// At a device (family netdev) the numbers are others: [`HookPoint::NETDEV_INGRESS`],
    /// [`HookPoint::NETDEV_EGRESS`].
    pub HookPoint: u32 {
        PREROUTING = 0, "prerouting";
        INPUT = 1, "input";
        FORWARD = 2, "forward";
        OUTPUT = 3, "output";
        POSTROUTING = 4, "postrouting";
        INET_INGRESS = 5, "ingress";
    }
}

impl HookPoint {
    /// A device's ingress, in family netdev (`NF_NETDEV_INGRESS`).
    pub const NETDEV_INGRESS: Self = Self(0);
    /// A device's egress, in family netdev (`NF_NETDEV_EGRESS`, kernel 5.16).
    pub const NETDEV_EGRESS: Self = Self(1);
}

/// What a base chain is for: which hooks and expressions it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainType {
    /// Filtering.
    Filter,
    /// Address translation; sees the first packet of a connection only.
    Nat,
    /// Re-routing of local packets whose mark or address changed.
    Route,
}

impl ChainType {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }

    fn from_name(name: &str) -> Result<Self, Malformed> {
        match name {
            "filter" => Ok(Self::Filter),
            "nat" => Ok(Self::Nat),
            "route" => Ok(Self::Route),
            _ => Err(Malformed("a chain of an unknown type")),
        }
    }
}

/// What happens to a packet at the end of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// It goes on.
    #[default]
    Accept,
    /// It is dropped.
    Drop,
}

/// A base chain's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Type.
    pub chain_type: ChainType,
    /// Hook.
    pub point: HookPoint,
    /// Order among the chains at the hook: lower is earlier (`NF_IP_PRI_*`).
    pub priority: i32,
    /// What happens at the end of the chain.
    pub policy: Policy,
    /// The devices of a netdev or inet ingress chain.
    pub devices: Vec<String>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// Name, unique in the table.
    pub name: String,
    /// Where it is hooked in; `None` for a regular chain, which is jumped to.
    pub hook: Option<Hook>,
    /// Comment, up to 127 bytes.
    pub comment: Option<String>,
    /// The kernel's number for it; set in listings.
    pub handle: Option<u64>,
    /// How many rules and jumps refer to it; set in listings.
    pub use_count: u32,
}

impl Chain {
    /// A regular chain.
    pub fn regular(family: Family, table: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            family,
            table: table.into(),
            name: name.into(),
            hook: None,
            comment: None,
            handle: None,
            use_count: 0,
        }
    }

    /// A base chain with policy accept.
    pub fn base(
        family: Family,
        table: impl Into<String>,
        name: impl Into<String>,
        chain_type: ChainType,
        point: HookPoint,
        priority: i32,
    ) -> Self {
        Self {
            hook: Some(Hook {
                chain_type,
                point,
                priority,
                policy: Policy::Accept,
                devices: Vec::new(),
            }),
            ..Self::regular(family, table, name)
        }
    }

    /// With a policy; regular chains have none.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        if let Some(hook) = &mut self.hook {
            hook.policy = policy;
        }
        self
    }

    /// On these devices.
    #[must_use]
    pub fn devices<S: Into<String>>(mut self, devices: impl IntoIterator<Item = S>) -> Self {
        if let Some(hook) = &mut self.hook {
            hook.devices = devices.into_iter().map(Into::into).collect();
        }
        self
    }

    /// With a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    fn encode(&self, w: &mut Writer) {
        w.str(NFTA_CHAIN_TABLE, &self.table);
        w.str(NFTA_CHAIN_NAME, &self.name);
        if let Some(hook) = &self.hook {
            w.nest(NFTA_CHAIN_HOOK, |w| {
                w.be32(NFTA_HOOK_HOOKNUM, hook.point.0);
                w.be32(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned());
                encode_devices(w, &hook.devices);
            });
            w.be32(NFTA_CHAIN_POLICY, u32::from(hook.policy == Policy::Accept));
            w.str(NFTA_CHAIN_TYPE, hook.chain_type.name());
        }
        if let Some(comment) = &self.comment {
            let mut userdata = Vec::new();
            userdata::push_comment(&mut userdata, OBJECT_COMMENT, comment);
            w.bytes(NFTA_CHAIN_USERDATA, &userdata);
        }
    }

    pub(crate) fn decode(reply: Reply<'_>) -> Result<Self, Malformed> {
        let mut chain = Self::regular(reply.family, "", "");
        let (mut place, mut chain_type, mut policy) = (None, ChainType::Filter, Policy::Accept);
        for attr in attrs(reply.attrs) {
            let attr = attr?;
            match attr.kind {
                NFTA_CHAIN_TABLE => chain.table = attr.string(),
                NFTA_CHAIN_NAME => chain.name = attr.string(),
                NFTA_CHAIN_HANDLE => chain.handle = Some(attr.be64()?),
                NFTA_CHAIN_USE => chain.use_count = attr.be32()?,
                NFTA_CHAIN_HOOK => place = Some(decode_hook(attr.data)?),
                NFTA_CHAIN_TYPE => chain_type = ChainType::from_name(&attr.string())?,
                NFTA_CHAIN_POLICY if attr.be32()? == 0 => policy = Policy::Drop,
                NFTA_CHAIN_USERDATA => {
                    chain.comment = userdata::comment(attr.data, OBJECT_COMMENT);
                }
                _ => {}
            }
        }
        chain.hook = place.map(|(point, priority, devices)| Hook {
            chain_type,
            point,
            priority,
            policy,
            devices,
        });
        Ok(chain)
    }
}

/// One device goes into the attribute that old kernels know too, several into the list.
fn encode_devices(w: &mut Writer, devices: &[String]) {
    match devices {
        [] => {}
        [device] => w.str(NFTA_HOOK_DEV, device),
        several => w.nest(NFTA_HOOK_DEVS, |w| {
            for device in several {
                w.str(NFTA_DEVICE_NAME, device);
            }
        }),
    }
}

fn decode_hook(nested: &[u8]) -> Result<(HookPoint, i32, Vec<String>), Malformed> {
    let (mut point, mut priority, mut devices) = (None, 0, Vec::new());
    for attr in attrs(nested) {
        let attr = attr?;
        match attr.kind {
            NFTA_HOOK_HOOKNUM => point = Some(HookPoint(attr.be32()?)),
            NFTA_HOOK_PRIORITY => priority = attr.be32()?.cast_signed(),
            // A chain with one device names it in both attributes.
            NFTA_HOOK_DEV if devices.is_empty() => devices.push(attr.string()),
            NFTA_HOOK_DEVS => {
                devices = attr
                    .nested()
                    .map(|device| device.map(|device| device.string()))
                    .collect::<Result<_, _>>()?;
            }
            _ => {}
        }
    }
    let point = point.ok_or(Malformed("a hook without a number"))?;
    Ok((point, priority, devices))
}

impl Batch {
    /// Adds a chain, or updates the policy of an existing one.
    pub fn add_chain(&mut self, chain: &Chain) {
        self.new_chain(chain, NLM_F_CREATE, "add");
    }

    /// Adds a chain that must not exist yet.
    pub fn create_chain(&mut self, chain: &Chain) {
        self.new_chain(chain, NLM_F_CREATE | NLM_F_EXCL, "create");
    }

    fn new_chain(&mut self, chain: &Chain, flags: u16, verb: &str) {
        let operation = format!(
            "{verb} chain {} {} {}",
            chain.family, chain.table, chain.name
        );
        self.push(NFT_MSG_NEWCHAIN, flags, chain.family, operation, |w| {
            chain.encode(w);
        });
    }

    /// Deletes a chain and its rules; nothing may jump to it.
    pub fn delete_chain(&mut self, family: Family, table: &str, name: &str) {
        let operation = format!("delete chain {family} {table} {name}");
        self.push(NFT_MSG_DELCHAIN, 0, family, operation, |w| {
            w.str(NFTA_CHAIN_TABLE, table);
            w.str(NFTA_CHAIN_NAME, name);
        });
    }

    /// Deletes a chain if there is one; its table must exist. Works on every kernel, like
    /// [`Batch::destroy_table`].
    pub fn destroy_chain(&mut self, family: Family, table: &str, name: &str) {
        let operation = format!("destroy chain {family} {table} {name}");
        for (kind, flags) in [(NFT_MSG_NEWCHAIN, NLM_F_CREATE), (NFT_MSG_DELCHAIN, 0)] {
            self.push(kind, flags, family, operation.clone(), |w| {
                w.str(NFTA_CHAIN_TABLE, table);
                w.str(NFTA_CHAIN_NAME, name);
            });
        }
    }

    /// Deletes a chain's rules.
    pub fn flush_chain(&mut self, family: Family, table: &str, name: &str) {
        let operation = format!("flush chain {family} {table} {name}");
        self.push(NFT_MSG_DELRULE, 0, family, operation, |w| {
            w.str(NFTA_RULE_TABLE, table);
            w.str(NFTA_RULE_CHAIN, name);
        });
    }

    /// Hooks an existing chain of devices in at further devices (kernel 6.4).
    pub fn add_chain_devices(&mut self, chain: &Chain, devices: &[&str]) {
        self.change_devices(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "add", chain, devices);
    }

    /// Unhooks an existing chain of devices from some of them (kernel 6.4).
    pub fn delete_chain_devices(&mut self, chain: &Chain, devices: &[&str]) {
        self.change_devices(NFT_MSG_DELCHAIN, 0, "delete", chain, devices);
    }

    fn change_devices(
        &mut self,
        kind: u16,
        flags: u16,
        verb: &str,
        chain: &Chain,
        devices: &[&str],
    ) {
        let operation = format!(
            "{verb} chain {} {} {} devices {}",
            chain.family,
            chain.table,
            chain.name,
            devices.join(", ")
        );
        self.push(kind, flags, chain.family, operation, |w| {
            w.str(NFTA_CHAIN_TABLE, &chain.table);
            w.str(NFTA_CHAIN_NAME, &chain.name);
            w.nest(NFTA_CHAIN_HOOK, |w| {
                if let Some(hook) = &chain.hook {
                    w.be32(NFTA_HOOK_HOOKNUM, hook.point.0);
                    w.be32(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned());
                }
                w.nest(NFTA_HOOK_DEVS, |w| {
                    for device in devices {
                        w.str(NFTA_DEVICE_NAME, device);
                    }
                });
            });
            if kind == NFT_MSG_NEWCHAIN
                && let Some(hook) = &chain.hook
            {
                w.str(NFTA_CHAIN_TYPE, hook.chain_type.name());
            }
        });
    }
}

impl Socket {
    /// Lists the chains of a family; [`Family::Unspec`] for all.
    pub fn chains(&mut self, family: Family) -> Result<Vec<Chain>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN);
        let operation = format!("list chains {family}");
        self.list(
            &Request::new(kind, family, &operation),
            |_| {},
            Chain::decode,
        )
    }

    /// Reads one chain; `None` when there is none.
    pub fn chain(
        &mut self,
        family: Family,
        table: &str,
        name: &str,
    ) -> Result<Option<Chain>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN);
        let operation = format!("get chain {family} {table} {name}");
        let fill = |w: &mut Writer| {
            w.str(NFTA_CHAIN_TABLE, table);
            w.str(NFTA_CHAIN_NAME, name);
        };
        let request = Request::new(kind, family, &operation);
        none_if_not_found(self.get(&request, fill, Chain::decode))
    }
}
