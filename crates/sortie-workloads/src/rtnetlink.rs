//! Short questions to the kernel over rtnetlink, synchronous, in the namespace of the thread
//! that opened the socket (rtnetlink(7)).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use sortie_api::workload::MacAddress;

/// The kernel answers within the call; more means that an answer was lost.
const ANSWER_SECONDS: i64 = 5;
/// So often a listener can see whether anybody still wants to know.
const EVENT_SECONDS: i64 = 1;
/// Above any real container's number of interfaces and addresses; bounds a hostile one.
const MESSAGES: usize = 20_000;

/// What of a link matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `IFLA_INFO_KIND`: `veth`, `macvlan`, …; none for hardware and loopback.
    pub(crate) kind: Option<String>,
    pub(crate) mac: Option<MacAddress>,
    /// `IFLA_LINK`: the peer's or parent's index, in the namespace of `peer_namespace`.
    pub(crate) peer: Option<u32>,
    /// `IFLA_LINK_NETNSID`: the peer's namespace as this namespace numbers it; none: this one.
    pub(crate) peer_namespace: Option<i32>,
    /// `IFLA_MASTER`: the bridge it is a port of.
    pub(crate) master: Option<u32>,
    /// `IFF_LOWER_UP`: both ends of a virtual cable are up.
    pub(crate) lower_up: bool,
}

/// A socket of one namespace.
pub(crate) struct Connection(Socket);

impl Connection {
    /// In the calling thread's namespace, where it stays.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        setsockopt(
            &socket.as_fd(),
            sockopt::ReceiveTimeout,
            &TimeVal::seconds(ANSWER_SECONDS),
        )?;
        Ok(Self(socket))
    }

    /// Every link.
    pub(crate) fn links(&self) -> io::Result<Vec<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut links = Vec::new();
        self.ask(request, NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewLink(message) = answer {
                links.push(link(message));
            }
        })?;
        Ok(links)
    }

    /// The link with this index; none if there is none.
    pub(crate) fn link(&self, index: u32) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.one_link(message)
    }

    /// The link with this index in the namespace that this one knows by `number`
    /// (`IFLA_TARGET_NETNSID`, since Linux 4.20).
    pub(crate) fn link_in(&self, number: i32, index: u32) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::IfNetnsId(number)];
        self.one_link(message)
    }

    fn one_link(&self, message: LinkMessage) -> io::Result<Option<Link>> {
        let mut found = None;
        let asked = self.ask(RouteNetlinkMessage::GetLink(message), 0, |answer| {
            if let RouteNetlinkMessage::NewLink(message) = answer {
                found = Some(link(message));
            }
        });
        match asked {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    /// Every address that is not link-local, with its link's index.
    pub(crate) fn addresses(&self) -> io::Result<Vec<(u32, IpAddr)>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut addresses = Vec::new();
        self.ask(request, NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewAddress(message) = answer {
                addresses.extend(address(&message));
            }
        })?;
        Ok(addresses)
    }

    /// The links of the best default routes, of IPv4 and of IPv6.
    pub(crate) fn default_routes(&self) -> io::Result<(Option<u32>, Option<u32>)> {
        let mut best: [Option<(u32, u32)>; 2] = [None; 2];
        let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        self.ask(request, NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewRoute(message) = answer
                && let Some(found) = default_route(&message)
            {
                let v6 = message.header.address_family == AddressFamily::Inet6;
                let best = &mut best[usize::from(v6)];
                if best.is_none_or(|(metric, _)| found.0 < metric) {
                    *best = Some(found);
                }
            }
        })?;
        Ok((best[0].map(|(_, link)| link), best[1].map(|(_, link)| link)))
    }

    /// How this socket's namespace numbers another one; none while it has no number for it,
    /// which means that no link leads there.
    pub(crate) fn namespace_number(&self, other: BorrowedFd<'_>) -> io::Result<Option<i32>> {
        let descriptor = u32::try_from(other.as_raw_fd()).map_err(io::Error::other)?;
        let mut message = NsidMessage::default();
        message.header.family = AddressFamily::Unspec;
        message.attributes = vec![NsidAttribute::Fd(descriptor)];
        let mut number = None;
        self.ask(RouteNetlinkMessage::GetNsId(message), 0, |answer| {
            if let RouteNetlinkMessage::NewNsId(message) = answer {
                number = message
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                        _ => None,
                    });
            }
        })?;
        Ok(number)
    }

    fn ask(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        let dump = flags & NLM_F_DUMP != 0;
        let mut packet =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.finalize();
        let mut buffer = vec![0; packet.buffer_len()];
        packet.serialize(&mut buffer);
        self.0.send(&buffer, 0)?;

        let mut messages = 0;
        loop {
            for answer in receive(&self.0)? {
                messages += 1;
                if messages > MESSAGES {
                    return Err(io::Error::other(
                        "more interfaces and addresses than are read",
                    ));
                }
                match answer {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            Some(_) => Err(error.to_io()),
                            None => Ok(()),
                        };
                    }
                    NetlinkPayload::InnerMessage(message) => {
                        each(message);
                        if !dump {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What the kernel tells about links when they change.
pub(crate) struct LinkEvents(Socket);

/// One of them.
pub(crate) enum LinkEvent {
    /// It is new or changed.
    Changed(Link),
    /// It is gone, or in another namespace.
    Gone(u32),
}

impl LinkEvents {
    /// Of the calling thread's namespace, from now on.
    pub(crate) fn subscribe() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(nix::libc::RTNLGRP_LINK)?;
        setsockopt(
            &socket.as_fd(),
            sockopt::ReceiveTimeout,
            &TimeVal::seconds(EVENT_SECONDS),
        )?;
        Ok(Self(socket))
    }

    /// The next ones; none after a second without. `ENOBUFS`: some were lost (netlink(7)).
    pub(crate) fn next(&self) -> io::Result<Vec<LinkEvent>> {
        let messages = match receive(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
            other => other?,
        };
        Ok(messages.into_iter().filter_map(link_event).collect())
    }
}

fn link_event(message: NetlinkPayload<RouteNetlinkMessage>) -> Option<LinkEvent> {
    match message {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
            Some(LinkEvent::Changed(link(message)))
        }
        // In the bridge's family it only says that a port left its bridge.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))
            if message.header.interface_family == AddressFamily::Unspec =>
        {
            Some(LinkEvent::Gone(message.header.index))
        }
        _ => None,
    }
}

/// One datagram's messages.
fn receive(socket: &Socket) -> io::Result<Vec<NetlinkPayload<RouteNetlinkMessage>>> {
    let (datagram, _) = loop {
        match socket.recv_from_full() {
            // A socket with a time limit says so when its process was stopped and goes on (signal(7)).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    let mut rest = datagram.as_slice();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let message =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
        // Messages are aligned to 4 bytes (netlink(7)), the last one perhaps not.
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        messages.push(message.payload);
    }
    Ok(messages)
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        peer: None,
        peer_namespace: None,
        master: None,
        lower_up: message.header.flags.contains(LinkFlags::LowerUp),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(MacAddress),
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::LinkNetNsId(number) => link.peer_namespace = Some(number),
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

/// Metric and link of a default route of the main table.
fn default_route(message: &RouteMessage) -> Option<(u32, u32)> {
    let header = &message.header;
    if header.destination_prefix_length != 0
        || header.table != RouteHeader::RT_TABLE_MAIN
        || header.kind != RouteType::Unicast
    {
        return None;
    }
    let (mut metric, mut link) = (0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    Some((metric, link?))
}

fn address(message: &AddressMessage) -> Option<(u32, IpAddr)> {
    // IFA_LOCAL is the address itself where IFA_ADDRESS is a point-to-point peer's (rtnetlink(7)).
    let find = |local: bool| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(address) if local => Some(*address),
                AddressAttribute::Address(address) if !local => Some(*address),
                _ => None,
            })
    };
    let address = find(true).or_else(|| find(false))?;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    (!link_local).then_some((message.header.index, address))
}
