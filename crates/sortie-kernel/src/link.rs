//! The veth pair of `sortie run` and `attach`: the workload's end owns the egress address itself.
//!
//! The inner end has its addresses as /32 and /128 and a default route through a next hop that is
//! on no interface: neighbour entries on both ends name the other's MAC, so that nobody asks.
//! Routes to the addresses and proxy neighbours at the uplink are the plan's.

#[cfg(test)]
mod tests;

use std::fs;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use sortie_api::workload::{IfIndex, MacAddress, WorkloadId};

use crate::error::Error;
use crate::facts::{self, Link};
use crate::failpoint::Step;
use crate::kernel::Kernel;
use crate::netns::Namespace;
use crate::network::unless;
use crate::rtnl::{Rtnetlink, Task};

/// The next hops that the inner end sends to; no interface has them.
const NEXT_HOP_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The host's ends are named so, and ten hexadecimal digits.
const PREFIX: &str = "srt";
/// Their aliases begin so; the owner follows.
const ALIAS: &str = "sortie ";
/// How many names `eth0`, `eth1`, … are tried for the inner end.
const INNER_NAMES: u32 = 64;
/// `RTNH_F_ONLINK`.
const ONLINK: RouteFlags = RouteFlags::from_bits_retain(4);

/// A pair whose inner end is in a workload's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectLink {
    /// The host's end.
    pub host: IfIndex,
    /// Its name.
    pub host_name: String,
    /// Its MAC.
    pub host_mac: MacAddress,
    /// The inner end's name.
    pub inner_name: String,
    /// The inner end's MAC: what the workload's packets come from.
    pub inner_mac: MacAddress,
}

/// A host's end that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLink {
    /// Its index.
    pub host: IfIndex,
    /// Its name.
    pub host_name: String,
    /// Whose it is; none when a crash came between making and labelling it.
    pub owner: Option<WorkloadId>,
}

/// The name of the host's end for an owner: the same every time.
pub fn host_name(owner: &WorkloadId) -> String {
    let mut hasher = Fnv::default();
    hasher.write(owner.as_str().as_bytes());
    format!("{PREFIX}{:010x}", hasher.finish() & 0xff_ffff_ffff)
}

impl Kernel {
    /// Makes a pair: the host's end up, the inner end down in the workload's namespace, as `eth0`
    /// or the next free name. A pair that the same owner left is replaced.
    pub fn create_link(
        &mut self,
        owner: &WorkloadId,
        namespace: &Namespace,
    ) -> Result<DirectLink, Error> {
        self.step(
            Step::CreateLink,
            || owner.as_str().to_owned(),
            |kernel| create(&mut kernel.rtnl, owner, namespace),
        )
    }

    /// Gives the inner end its addresses and default routes, sets it up, and tells each end the
    /// other's MAC. The first address of a family is the source of what the workload sends.
    pub fn configure_link(
        &mut self,
        link: &DirectLink,
        namespace: &Namespace,
        addresses: &[IpAddr],
    ) -> Result<(), Error> {
        let object = || format!("{} {addresses:?}", link.host_name);
        self.step(Step::ConfigureLink, object, |kernel| {
            configure_inside(link, namespace, addresses)?;
            for address in addresses {
                let task = Task::new("add neighbour", format!("{address} dev {}", link.host_name));
                let entry = neighbour(*address, link.host.0, link.inner_mac);
                kernel
                    .rtnl
                    .change(&task, entry, NLM_F_CREATE | NLM_F_REPLACE)?;
            }
            Ok(())
        })
    }

    /// Removes an owner's pair, if it is there.
    pub fn delete_link(&mut self, owner: &WorkloadId) -> Result<(), Error> {
        self.step(
            Step::DeleteLink,
            || owner.as_str().to_owned(),
            |kernel| delete(&mut kernel.rtnl, &host_name(owner)),
        )
    }

    /// Removes a pair that [`Kernel::links`] found.
    pub fn delete_found_link(&mut self, link: &FoundLink) -> Result<(), Error> {
        self.step(
            Step::DeleteLink,
            || link.host_name.clone(),
            |kernel| delete(&mut kernel.rtnl, &link.host_name),
        )
    }

    /// All pairs of ours, those of a crashed process too.
    pub fn links(&mut self) -> Result<Vec<FoundLink>, Error> {
        let links = facts::links(&mut self.rtnl)?;
        Ok(links.into_iter().filter_map(found).collect())
    }
}

fn found(link: Link) -> Option<FoundLink> {
    let owner = link
        .alias
        .as_deref()
        .and_then(|alias| alias.strip_prefix(ALIAS))
        .map(WorkloadId::from);
    let digits = link.name.strip_prefix(PREFIX)?;
    let named = digits.len() == 10 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
    let ours =
        link.kind.as_deref() == Some("veth") && named && (owner.is_some() || link.alias.is_none());
    ours.then_some(FoundLink {
        host: link.index,
        host_name: link.name,
        owner,
    })
}

fn create(
    rtnl: &mut Rtnetlink,
    owner: &WorkloadId,
    namespace: &Namespace,
) -> Result<DirectLink, Error> {
    let host_name = host_name(owner);
    let mut inside = namespace.enter(Rtnetlink::open)??;
    delete(rtnl, &host_name)?;
    let inner_name = free_name(&mut inside)?;
    let task = Task::new("make veth pair", format!("{host_name} and {inner_name}"));
    let pair = pair(&host_name, &inner_name, namespace);
    rtnl.change(
        &task,
        RouteNetlinkMessage::NewLink(pair),
        NLM_F_CREATE | NLM_F_EXCL,
    )?;

    let host = required(rtnl, &host_name)?;
    let inner = required(&mut inside, &inner_name)?;
    let task = Task::new("set up interface", host_name.clone());
    let mut up = LinkMessage::default();
    up.header.index = host.index.0;
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    up.attributes = vec![
        LinkAttribute::IfAlias(format!("{ALIAS}{}", owner.as_str())),
        // It needs no address of its own, and says nothing to the workload.
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
            In6AddrGenMode::None,
        )])]),
    ];
    refuse_advertisements(&host_name);
    rtnl.change(&task, RouteNetlinkMessage::SetLink(up), 0)?;
    Ok(DirectLink {
        host: host.index,
        host_mac: mac(&host)?,
        host_name,
        inner_mac: mac(&inner)?,
        inner_name,
    })
}

fn pair(host_name: &str, inner_name: &str, namespace: &Namespace) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(inner_name.to_owned()),
        LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd()),
    ];
    let mut pair = LinkMessage::default();
    pair.attributes = vec![
        LinkAttribute::IfName(host_name.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    pair
}

fn delete(rtnl: &mut Rtnetlink, name: &str) -> Result<(), Error> {
    let Some(link) = facts::link_by_name(rtnl, name)? else {
        return Ok(());
    };
    let mut message = LinkMessage::default();
    message.header.index = link.index.0;
    let task = Task::new("delete interface", name);
    unless(
        libc::ENODEV,
        rtnl.change(&task, RouteNetlinkMessage::DelLink(message), 0),
    )
}

fn free_name(inside: &mut Rtnetlink) -> Result<String, Error> {
    let taken: Vec<String> = facts::links(inside)?
        .into_iter()
        .map(|link| link.name)
        .collect();
    (0..INNER_NAMES)
        .map(|number| format!("eth{number}"))
        .find(|name| !taken.contains(name))
        .ok_or_else(|| Error::NoInterface {
            operation: "give the workload one more interface".to_owned(),
            name: format!("eth0 to eth{INNER_NAMES} that is free"),
        })
}

fn required(rtnl: &mut Rtnetlink, name: &str) -> Result<Link, Error> {
    facts::link_by_name(rtnl, name)?.ok_or_else(|| Error::NoInterface {
        operation: "use the veth pair that was just made".to_owned(),
        name: name.to_owned(),
    })
}

fn mac(link: &Link) -> Result<MacAddress, Error> {
    link.mac.ok_or_else(|| Error::NoInterface {
        operation: "read the MAC of a veth".to_owned(),
        name: link.name.clone(),
    })
}

/// A workload must not give this end of the host a route. Without IPv6 there is nothing to refuse.
fn refuse_advertisements(name: &str) {
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0");
}

fn configure_inside(
    link: &DirectLink,
    namespace: &Namespace,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let v6 = addresses.iter().any(IpAddr::is_ipv6);
    let mut inside = namespace.enter(|| {
        if v6 {
            // Engines switch IPv6 off in namespaces that they give no IPv6 network.
            let setting = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", link.inner_name);
            let _ = fs::write(setting, "0");
        }
        refuse_advertisements(&link.inner_name);
        Rtnetlink::open()
    })??;
    let index = required(&mut inside, &link.inner_name)?.index.0;
    set_up(&mut inside, "lo", 1)?;
    for address in addresses {
        let task = Task::new("add address", format!("{address} dev {}", link.inner_name));
        inside.change(
            &task,
            own_address(*address, index),
            NLM_F_CREATE | NLM_F_REPLACE,
        )?;
    }
    set_up(&mut inside, &link.inner_name, index)?;
    for (next_hop, source) in [
        (
            IpAddr::from(NEXT_HOP_V4),
            addresses.iter().find(|address| address.is_ipv4()),
        ),
        (
            IpAddr::from(NEXT_HOP_V6),
            addresses.iter().find(|address| address.is_ipv6()),
        ),
    ] {
        let Some(source) = source else { continue };
        let task = Task::new(
            "add default route",
            format!("dev {} src {source}", link.inner_name),
        );
        let entry = neighbour(next_hop, index, link.host_mac);
        inside.change(&task, entry, NLM_F_CREATE | NLM_F_REPLACE)?;
        let route = default_route(next_hop, *source, index);
        inside.change(&task, route, NLM_F_CREATE | NLM_F_REPLACE)?;
    }
    Ok(())
}

fn set_up(rtnl: &mut Rtnetlink, name: &str, index: u32) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    let task = Task::new("set up interface", name);
    rtnl.change(&task, RouteNetlinkMessage::SetLink(message), 0)
}

fn family(address: IpAddr) -> (AddressFamily, u8) {
    match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

/// Without duplicate address detection: the uplink answers for it already.
fn own_address(address: IpAddr, index: u32) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    let (family, bits) = family(address);
    message.header.family = family;
    message.header.prefix_len = bits;
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    RouteNetlinkMessage::NewAddress(message)
}

fn neighbour(address: IpAddr, index: u32, mac: MacAddress) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address).0;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    RouteNetlinkMessage::NewNeighbour(message)
}

fn default_route(next_hop: IpAddr, source: IpAddr, index: u32) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(next_hop).0;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    message.header.flags = ONLINK;
    message.attributes = vec![
        RouteAttribute::Oif(index),
        RouteAttribute::Gateway(next_hop.into()),
        RouteAttribute::PrefSource(source.into()),
    ];
    RouteNetlinkMessage::NewRoute(message)
}

/// FNV-1a, 64 bits: the same in every version, unlike the standard library's hasher.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
