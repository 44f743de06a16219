//! Values as they lie in `nf_tables`' registers: keys, map data, constants to compare with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::uapi::nft::{NFTA_DATA_VALUE, NFTA_DATA_VERDICT};
use crate::verdict::Verdict;
use crate::wire::{Malformed, Writer, attrs};

/// The longest value, in bytes (`NFT_DATA_VALUE_MAXLEN`).
pub const MAX_LEN: usize = 64;

/// Up to 64 bytes in register layout, without an allocation.
///
/// Addresses and ports are in network byte order, interface indexes and marks in the
/// host's. The parts of a concatenation are padded to four bytes each, which the
/// constructors do: `Data::new().ipv4(a).mac(m).ifindex(3)`. A single value that is
/// shorter than its padding (a MAC, a port) comes from [`Data::from`] or
/// [`Data::unpadded`] instead, since the kernel wants it at its own length.
///
/// Bytes beyond the 64th are cut off; no set key can be that long.
#[derive(Clone, Copy)]
pub struct Data {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Default for Data {
    fn default() -> Self {
        Self::new()
    }
}

impl Data {
    /// No bytes.
    pub const fn new() -> Self {
        Self {
            bytes: [0; MAX_LEN],
            len: 0,
        }
    }

    /// A single value at its own length.
    pub fn unpadded(bytes: &[u8]) -> Self {
        Self::new().raw(bytes)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        let start = usize::from(self.len);
        for (place, byte) in self.bytes.iter_mut().skip(start).zip(bytes) {
            *place = *byte;
            self.len += 1;
        }
        self
    }

    /// Appends one part of a concatenation, padded with zeros to four bytes.
    #[must_use]
    pub fn part(self, bytes: &[u8]) -> Self {
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.raw(bytes)
            .raw([0; 3].get(..padding).unwrap_or_default())
    }

    /// Appends an IPv4 address.
    #[must_use]
    pub fn ipv4(self, address: Ipv4Addr) -> Self {
        self.part(&address.octets())
    }

    /// Appends an IPv6 address.
    #[must_use]
    pub fn ipv6(self, address: Ipv6Addr) -> Self {
        self.part(&address.octets())
    }

    /// Appends an address: 4 or 16 bytes.
    #[must_use]
    pub fn ip(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.ipv4(v4),
            IpAddr::V6(v6) => self.ipv6(v6),
        }
    }

    /// Appends an interface index (host byte order).
    #[must_use]
    pub fn ifindex(self, index: u32) -> Self {
        self.part(&index.to_ne_bytes())
    }

    /// Appends a packet or connection mark (host byte order).
    #[must_use]
    pub fn mark(self, mark: u32) -> Self {
        self.part(&mark.to_ne_bytes())
    }

    /// Appends a link-layer address, padded to 8 bytes.
    #[must_use]
    pub fn mac(self, address: [u8; 6]) -> Self {
        self.part(&address)
    }

    /// Appends a port (network byte order), padded to 4 bytes.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.part(&port.to_be_bytes())
    }

    /// Appends a protocol number, padded to 4 bytes.
    #[must_use]
    pub fn proto(self, number: u8) -> Self {
        self.part(&[number])
    }

    /// Appends an interface name, padded with zeros to 16 bytes (`IFNAMSIZ`).
    #[must_use]
    pub fn ifname(self, name: &str) -> Self {
        let mut padded = [0; 16];
        // The last byte stays the terminating NUL.
        for (place, byte) in padded.iter_mut().take(15).zip(name.bytes()) {
            *place = byte;
        }
        self.part(&padded)
    }

    /// Reads an IPv4 address at byte `at`.
    pub fn ipv4_at(&self, at: usize) -> Option<Ipv4Addr> {
        self.array_at(at).map(|octets: [u8; 4]| octets.into())
    }

    /// Reads an IPv6 address at byte `at`.
    pub fn ipv6_at(&self, at: usize) -> Option<Ipv6Addr> {
        self.array_at(at).map(|octets: [u8; 16]| octets.into())
    }

    /// Reads a host-endian 32-bit number (interface index, mark) at byte `at`.
    pub fn u32_at(&self, at: usize) -> Option<u32> {
        self.array_at(at).map(u32::from_ne_bytes)
    }

    /// Reads a link-layer address at byte `at`.
    pub fn mac_at(&self, at: usize) -> Option<[u8; 6]> {
        self.array_at(at)
    }

    /// Reads a port at byte `at`.
    pub fn port_at(&self, at: usize) -> Option<u16> {
        self.array_at(at).map(u16::from_be_bytes)
    }

    fn array_at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.as_slice().get(at..)?.first_chunk::<N>().copied()
    }

    /// The value plus one, as the exclusive end of an interval; `None` after the last value.
    #[must_use]
    pub fn successor(mut self) -> Option<Self> {
        let len = usize::from(self.len);
        for byte in self.bytes.get_mut(..len)?.iter_mut().rev() {
            let (next, carry) = byte.overflowing_add(1);
            *byte = next;
            if !carry {
                return Some(self);
            }
        }
        None
    }

    /// Writes a `NFTA_DATA_VALUE` inside an attribute of the given type.
    pub(crate) fn encode(&self, w: &mut Writer, kind: u16) {
        w.nest(kind, |w| w.bytes(NFTA_DATA_VALUE, self.as_slice()));
    }

    /// Reads the content of an attribute that holds a value.
    pub(crate) fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        for attr in attrs(nested) {
            let attr = attr?;
            if attr.kind == NFTA_DATA_VALUE {
                return Ok(Self::unpadded(attr.data));
            }
        }
        Err(Malformed("data without a value"))
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Data {}

impl PartialOrd for Data {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Data {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl std::hash::Hash for Data {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("0x")?;
        self.as_slice()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<Ipv4Addr> for Data {
    fn from(address: Ipv4Addr) -> Self {
        Self::new().ipv4(address)
    }
}

impl From<Ipv6Addr> for Data {
    fn from(address: Ipv6Addr) -> Self {
        Self::new().ipv6(address)
    }
}

impl From<IpAddr> for Data {
    fn from(address: IpAddr) -> Self {
        Self::new().ip(address)
    }
}

/// A link-layer address at its own 6 bytes.
impl From<[u8; 6]> for Data {
    fn from(address: [u8; 6]) -> Self {
        Self::unpadded(&address)
    }
}

/// A host-endian 32-bit number: an interface index, a mark, a connection's state bits.
impl From<u32> for Data {
    fn from(number: u32) -> Self {
        Self::unpadded(&number.to_ne_bytes())
    }
}

/// A 16-bit number in network byte order: a port, an ethertype.
impl From<u16> for Data {
    fn from(number: u16) -> Self {
        Self::unpadded(&number.to_be_bytes())
    }
}

/// A single byte: a protocol, a direction.
impl From<u8> for Data {
    fn from(number: u8) -> Self {
        Self::unpadded(&[number])
    }
}

/// An interface name in 16 bytes, or other text: the same layout in `nf_tables`.
impl From<&str> for Data {
    fn from(name: &str) -> Self {
        Self::new().ifname(name)
    }
}

/// What an immediate loads and what a map yields.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Datum {
    /// A value.
    Value(Data),
    /// A verdict.
    Verdict(Verdict),
}

impl Datum {
    pub(crate) fn encode(&self, w: &mut Writer, kind: u16) {
        match self {
            Self::Value(value) => value.encode(w, kind),
            Self::Verdict(verdict) => {
                w.nest(kind, |w| w.nest(NFTA_DATA_VERDICT, |w| verdict.encode(w)));
            }
        }
    }

    pub(crate) fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_DATA_VALUE => return Ok(Self::Value(Data::unpadded(attr.data))),
                NFTA_DATA_VERDICT => return Verdict::decode(attr.data).map(Self::Verdict),
                _ => {}
            }
        }
        Err(Malformed("data without value or verdict"))
    }
}

impl<T: Into<Data>> From<T> for Datum {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

impl From<Verdict> for Datum {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

#[cfg(test)]
mod tests;
