//! Tells an uplink's neighbours at once that an address is here: gratuitous ARP and unsolicited
//! neighbour advertisements.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use sortie_api::workload::MacAddress;

use crate::error::Error;
use crate::facts;
use crate::failpoint::Step;
use crate::kernel::Kernel;
use crate::rtnl::Rtnetlink;

const BROADCAST: [u8; 6] = [0xff; 6];
/// `ff02::1` and its Ethernet address (RFC 2464, section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;

impl Kernel {
    /// Sends one announcement by an uplink. Uplinks without MACs have no one to tell.
    pub fn announce(&mut self, uplink: &str, address: IpAddr) -> Result<(), Error> {
        let object = || format!("{address} dev {uplink}");
        self.step(Step::Announce, object, |kernel| {
            announce(&mut kernel.rtnl, uplink, address)
        })
    }
}

pub(crate) fn announce(rtnl: &mut Rtnetlink, uplink: &str, address: IpAddr) -> Result<(), Error> {
    let missing = || Error::NoInterface {
        operation: format!("announce {address}"),
        name: uplink.to_owned(),
    };
    let link = facts::link_by_name(rtnl, uplink)?.ok_or_else(missing)?;
    let Some(mac) = link.mac else {
        return Ok(());
    };
    let frame = match address {
        IpAddr::V4(v4) => gratuitous_arp(mac, v4),
        IpAddr::V6(v6) => {
            let own =
                facts::addresses(rtnl)?
                    .into_iter()
                    .find_map(|found| match found.net.addr() {
                        IpAddr::V6(local)
                            if found.link == link.index
                                && !found.tentative
                                && local.is_unicast_link_local() =>
                        {
                            Some(local)
                        }
                        _ => None,
                    });
            unsolicited_advertisement(mac, own.unwrap_or(v6), v6)
        }
    };
    send(link.index.0, &frame).map_err(|source| Error::Socket {
        operation: "send to",
        protocol: "packet",
        source,
    })
}

/// RFC 5227, section 3: a request for the address, from itself.
fn gratuitous_arp(MacAddress(mac): MacAddress, address: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, lengths 6 and 4, request.
    const FIXED: [u8; 8] = [0, 1, 0x08, 0, 6, 4, 0, 1];
    [
        &BROADCAST[..],
        &mac,
        &ETHERTYPE_ARP,
        &FIXED,
        &mac,
        &address.octets(),
        &[0; 6],
        &address.octets(),
    ]
    .concat()
}

/// RFC 4861, sections 4.4 and 7.2.6. The override flag is set although we are a proxy: the address
/// may just have moved here.
fn unsolicited_advertisement(
    MacAddress(mac): MacAddress,
    source: Ipv6Addr,
    target: Ipv6Addr,
) -> Vec<u8> {
    // Type 136, code 0, checksum, flags: override.
    let head = [136, 0, 0, 0, 0x20, 0, 0, 0];
    // Option 2: target link-layer address, 8 bytes.
    let option = [2, 1];
    let mut message = [&head[..], &target.octets(), &option, &mac].concat();
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    let pseudo = [
        &source.octets()[..],
        &ALL_NODES.octets(),
        &[0, 0, 0, length, 0, 0, 0, ICMPV6],
        &message,
    ]
    .concat();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&checksum(&pseudo).to_be_bytes());
    }
    // Version 6, payload length, next header, hop limit 255 (RFC 4861, section 7.1.2).
    let ip = [0x60, 0, 0, 0, 0, length, ICMPV6, 255];
    [
        &ALL_NODES_MAC[..],
        &mac,
        &ETHERTYPE_IPV6,
        &ip,
        &source.octets(),
        &ALL_NODES.octets(),
        &message,
    ]
    .concat()
}

/// RFC 1071, for an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = bytes.chunks_exact(2).fold(0_u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + u32::from(pair[1])
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

fn send(index: u32, frame: &[u8]) -> std::io::Result<()> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    to.sll_ifindex = i32::try_from(index).unwrap_or_default();
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
    // SAFETY: both pointers are to live values of the lengths given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            length,
        )
    };
    if sent < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
