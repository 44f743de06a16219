//! A logged packet, with what the kernel says about it.

use std::time::{Duration, SystemTime};

use crate::Family;
use crate::chain::HookPoint;
use crate::uapi::log::{
    NFULA_HWADDR, NFULA_HWHEADER, NFULA_IFINDEX_INDEV, NFULA_IFINDEX_OUTDEV,
    NFULA_IFINDEX_PHYSINDEV, NFULA_IFINDEX_PHYSOUTDEV, NFULA_L2HDR, NFULA_MARK, NFULA_PACKET_HDR,
    NFULA_PAYLOAD, NFULA_PREFIX, NFULA_TIMESTAMP,
};
use crate::wire::{Malformed, attrs};

/// Where a packet was logged (`struct nfulnl_msg_packet_hdr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HookSeen {
    /// The packet's ethertype.
    pub protocol: u16,
    /// The hook's number in its family.
    pub hook: u8,
}

/// A packet that a `log group` rule copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The packet's family: of an inet chain [`Family::Ip`] or [`Family::Ip6`].
    pub family: Family,
    /// The group.
    pub group: u16,
    /// Ethertype and hook.
    pub hook: Option<HookSeen>,
    /// The rule's prefix.
    pub prefix: String,
    /// Index of the input device; of a bridged packet, the bridge's.
    pub indev: Option<u32>,
    /// Index of the output device; of a bridged packet, the bridge's.
    pub outdev: Option<u32>,
    /// Index of the bridge port it came in by.
    pub physindev: Option<u32>,
    /// Index of the bridge port it goes out by.
    pub physoutdev: Option<u32>,
    /// Link-layer source address.
    pub hwaddr: Option<Vec<u8>>,
    /// Link-layer header, where the kernel kept it.
    pub hwheader: Option<Vec<u8>>,
    /// Packet mark.
    pub mark: u32,
    /// When it was received; absent for packets of this host's own.
    pub timestamp: Option<SystemTime>,
    /// The packet, cut to the snap length. At a device's egress it begins with the
    /// link-layer header, elsewhere with the network header: [`Packet::network`].
    pub payload: Vec<u8>,
}

const ETH_HLEN: usize = 14;
const ETH_P_8021Q: [u8; 2] = [0x81, 0x00];

impl Packet {
    /// The packet from its network header on.
    pub fn network(&self) -> &[u8] {
        let at_egress = self.family == Family::Netdev
            && self
                .hook
                .is_some_and(|seen| u32::from(seen.hook) == HookPoint::NETDEV_EGRESS.0);
        let header = match self.payload.get(12..ETH_HLEN) {
            Some(ethertype) if at_egress && ethertype == ETH_P_8021Q => ETH_HLEN + 4,
            Some(_) if at_egress => ETH_HLEN,
            _ => 0,
        };
        self.payload.get(header..).unwrap_or_default()
    }

    pub(super) fn decode(family: Family, group: u16, attributes: &[u8]) -> Result<Self, Malformed> {
        let mut packet = Self {
            family,
            group,
            hook: None,
            prefix: String::new(),
            indev: None,
            outdev: None,
            physindev: None,
            physoutdev: None,
            hwaddr: None,
            hwheader: None,
            mark: 0,
            timestamp: None,
            payload: Vec::new(),
        };
        for attr in attrs(attributes) {
            let attr = attr?;
            match attr.kind {
                NFULA_PACKET_HDR => {
                    let [high, low, hook, _] = attr.array()?;
                    packet.hook = Some(HookSeen {
                        protocol: u16::from_be_bytes([high, low]),
                        hook,
                    });
                }
                NFULA_PREFIX => packet.prefix = attr.string(),
                NFULA_IFINDEX_INDEV => packet.indev = Some(attr.be32()?),
                NFULA_IFINDEX_OUTDEV => packet.outdev = Some(attr.be32()?),
                NFULA_IFINDEX_PHYSINDEV => packet.physindev = Some(attr.be32()?),
                NFULA_IFINDEX_PHYSOUTDEV => packet.physoutdev = Some(attr.be32()?),
                NFULA_HWADDR => packet.hwaddr = Some(decode_hwaddr(attr.data)?),
                NFULA_HWHEADER | NFULA_L2HDR => packet.hwheader = Some(attr.data.to_vec()),
                NFULA_MARK => packet.mark = attr.be32()?,
                NFULA_TIMESTAMP => packet.timestamp = decode_timestamp(attr.data)?,
                NFULA_PAYLOAD => packet.payload = attr.data.to_vec(),
                _ => {}
            }
        }
        Ok(packet)
    }
}

/// `struct nfulnl_msg_packet_hw`: a length, padding, up to 8 bytes.
fn decode_hwaddr(data: &[u8]) -> Result<Vec<u8>, Malformed> {
    let short = Malformed("a link-layer address shorter than it says");
    let [high, low, _, _, address @ ..] = data else {
        return Err(short);
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    address.get(..len).map(<[u8]>::to_vec).ok_or(short)
}

/// `struct nfulnl_msg_packet_timestamp`: seconds and microseconds since 1970.
fn decode_timestamp(data: &[u8]) -> Result<Option<SystemTime>, Malformed> {
    let short = Malformed("a timestamp shorter than its numbers");
    let seconds = data.first_chunk::<8>().ok_or(short)?;
    let micros = data
        .get(8..)
        .and_then(<[u8]>::first_chunk::<8>)
        .ok_or(short)?;
    let (seconds, micros) = (u64::from_be_bytes(*seconds), u64::from_be_bytes(*micros));
    Ok(Duration::from_secs(seconds)
        .checked_add(Duration::from_micros(micros))
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)))
}
