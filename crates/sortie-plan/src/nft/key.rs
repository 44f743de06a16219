//! A set element's key or an address as data, in the layout of nftables registers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sortie_api::workload::{CgroupId, IfIndex, MacAddress};

/// Up to 40 bytes: the concatenated parts of a key, each padded to a multiple of 4 (the registers'
/// layout, `NFT_REG32_SIZE`). Addresses are in network order, interface indexes in the host's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    len: u8,
    bytes: [u8; Self::CAPACITY],
}

impl Key {
    /// The longest key: two IPv6 addresses and an interface, with room to spare.
    pub const CAPACITY: usize = 40;

    /// A key without parts.
    pub const fn new() -> Self {
        Self {
            len: 0,
            bytes: [0; Self::CAPACITY],
        }
    }

    /// The key as read from the kernel; none when it is longer than any of ours.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut key = Self::new();
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        key.len = u8::try_from(bytes.len()).ok()?;
        Some(key)
    }

    /// Appends an interface.
    #[must_use]
    pub fn interface(self, index: IfIndex) -> Self {
        self.part(&index.0.to_ne_bytes())
    }

    /// Appends an interface's name, padded with zeros to 16 bytes (`IFNAMSIZ`).
    #[must_use]
    pub fn interface_name(self, name: &str) -> Self {
        let mut padded = [0; 16];
        // The last byte stays the terminating NUL.
        for (place, byte) in padded.iter_mut().take(15).zip(name.bytes()) {
            *place = byte;
        }
        self.part(&padded)
    }

    /// Appends an Ethernet address: 6 bytes and 2 of padding.
    #[must_use]
    pub fn mac(self, mac: MacAddress) -> Self {
        self.part(&mac.0)
    }

    /// Appends an address of either family.
    #[must_use]
    pub fn ip(self, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => self.part(&v4.octets()),
            IpAddr::V6(v6) => self.part(&v6.octets()),
        }
    }

    /// Appends a cgroup's id as a packet's socket has it (`socket cgroupv2`), and a flow in the upper
    /// half of its label.
    #[must_use]
    pub fn cgroup(self, cgroup: CgroupId) -> Self {
        self.part(&cgroup.0.to_ne_bytes())
    }

    fn part(mut self, part: &[u8]) -> Self {
        let start = usize::from(self.len);
        // All parts are constants of this file: the sum of the longest combination fits.
        self.bytes[start..start + part.len()].copy_from_slice(part);
        self.len += u8::try_from(part.len().next_multiple_of(4)).unwrap_or(u8::MAX);
        self
    }

    /// As the kernel wants it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The address in this key, if that is all there is in it.
    pub fn as_ip(&self) -> Option<IpAddr> {
        match *self.as_bytes() {
            [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
            _ => <[u8; 16]>::try_from(self.as_bytes())
                .ok()
                .map(|v6| Ipv6Addr::from(v6).into()),
        }
    }
}

impl Key {
    /// The parts of a key (address, address, interface), as of `drains4` and `drains6`.
    pub fn drain_parts(&self) -> Option<(IpAddr, IpAddr, IfIndex)> {
        let (addresses, index) = self.as_bytes().split_last_chunk::<4>()?;
        let (source, address) = addresses.split_at(addresses.len() / 2);
        let ip = |bytes| Self::from_bytes(bytes)?.as_ip();
        Some((
            ip(source)?,
            ip(address)?,
            IfIndex(u32::from_ne_bytes(*index)),
        ))
    }

    /// The cgroup in this key, if that is all there is in it.
    pub fn as_cgroup(&self) -> Option<CgroupId> {
        let id = self.as_bytes().try_into().ok()?;
        Some(CgroupId(u64::from_ne_bytes(id)))
    }

    /// The address in a binding, the key (interface, MAC, address) of `bound4` and `bound6`.
    pub fn bound_ip(&self) -> Option<IpAddr> {
        Self::from_bytes(self.as_bytes().get(12..)?)?.as_ip()
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

impl From<IpAddr> for Key {
    fn from(ip: IpAddr) -> Self {
        Self::new().ip(ip)
    }
}

impl From<IfIndex> for Key {
    fn from(index: IfIndex) -> Self {
        Self::new().interface(index)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
