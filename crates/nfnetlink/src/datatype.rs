//! nft's data types: how `nft` prints a set's keys and a map's data.
//!
//! The kernel stores the numbers and does not look at them; `nft` reads them back. The ids
//! are those of nft's `enum datatypes` (`include/datatype.h`), part of its ABI.

/// A type of values: nft's id and the length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DataType {
    id: u8,
    len: u8,
    /// Numbers lie in the host's byte order.
    host_order: bool,
}

macro_rules! data_types {
    ($($name:ident = $id:literal, $len:literal, $host:literal, $nft:literal;)*) => {
        impl DataType {
            $(
                #[doc = concat!("`", $nft, "`")]
                pub const $name: Self = Self { id: $id, len: $len, host_order: $host };
            )*

            fn of_id(id: u8) -> Option<Self> {
                match id {
                    $($id => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

data_types! {
    NF_PROTO = 2, 1, true, "nf_proto";
    IPV4_ADDR = 7, 4, false, "ipv4_addr";
    IPV6_ADDR = 8, 16, false, "ipv6_addr";
    ETHER_ADDR = 9, 6, false, "ether_addr";
    ETHER_TYPE = 10, 2, false, "ether_type";
    ARP_OP = 11, 2, false, "arp_op";
    INET_PROTO = 12, 1, false, "inet_proto";
    INET_SERVICE = 13, 2, false, "inet_service";
    ICMP_TYPE = 14, 1, false, "icmp_type";
    TCP_FLAG = 15, 1, false, "tcp_flag";
    MARK = 19, 4, true, "mark";
    IFINDEX = 20, 4, true, "iface_index";
    IFTYPE = 21, 2, true, "iface_type";
    UID = 24, 4, true, "uid";
    GID = 25, 4, true, "gid";
    CT_STATE = 26, 4, true, "ct_state";
    CT_DIR = 27, 1, true, "ct_dir";
    CT_STATUS = 28, 4, true, "ct_status";
    ICMPV6_TYPE = 29, 1, false, "icmpv6_type";
    CT_LABEL = 30, 16, true, "ct_label";
    PKT_TYPE = 31, 1, true, "pkt_type";
    DEVGROUP = 35, 4, true, "devgroup";
    FIB_ADDRTYPE = 38, 4, true, "fib_addrtype";
    BOOLEAN = 39, 1, true, "boolean";
    IFNAME = 41, 16, true, "ifname";
    CGROUPV2 = 46, 8, true, "cgroupsv2";
}

impl DataType {
    /// nft's `integer` of some bytes, for what has no type of its own.
    pub const fn integer(len: u8, host_order: bool) -> Self {
        Self {
            id: 4,
            len,
            host_order,
        }
    }

    /// Length in bytes, without padding.
    pub fn len(self) -> usize {
        self.len.into()
    }

    /// Whether values have no bytes; only an `integer` of length 0.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// The type of a set's keys or a map's data: one [`DataType`], or a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Type {
    /// nft's id; six bits a part for a concatenation (`TYPE_BITS`).
    pub id: u32,
    /// Length in registers, in bytes.
    pub len: u32,
    host_order: bool,
}

/// Bits of one part's id within a concatenation's (nft's `TYPE_BITS`).
const TYPE_BITS: u32 = 6;
const TYPE_MASK: u32 = (1 << TYPE_BITS) - 1;

impl Type {
    /// A concatenation; a single part stands for itself. Five parts fit the id.
    pub fn concat(parts: &[DataType]) -> Self {
        if let [single] = parts {
            return (*single).into();
        }
        let id = parts
            .iter()
            .fold(0, |id, part| id << TYPE_BITS | u32::from(part.id));
        let len = parts
            .iter()
            .map(|part| u32::from(part.len).next_multiple_of(4));
        Self {
            id,
            len: len.sum(),
            host_order: false,
        }
    }

    /// The type with this id and length, as the kernel lists it.
    pub fn from_raw(id: u32, len: u32) -> Self {
        let single = u8::try_from(id).ok().and_then(DataType::of_id);
        Self {
            id,
            len,
            host_order: single.is_some_and(|single| single.host_order),
        }
    }

    /// The lengths of the parts, in bytes without padding; `None` when a part's type has
    /// no length of its own or is unknown.
    pub fn parts(self) -> Option<Vec<u32>> {
        if self.id <= TYPE_MASK {
            return Some(vec![self.len]);
        }
        let mut lens = Vec::new();
        let mut rest = self.id;
        while rest != 0 {
            let part = u8::try_from(rest & TYPE_MASK)
                .ok()
                .and_then(DataType::of_id)?;
            lens.push(part.len.into());
            rest >>= TYPE_BITS;
        }
        lens.reverse();
        Some(lens)
    }

    /// Whether it has several parts.
    pub fn is_concat(self) -> bool {
        self.id > TYPE_MASK
    }

    /// nft's number for the byte order: 1 host, 2 network.
    pub(crate) fn byteorder(self) -> u32 {
        if self.host_order { 1 } else { 2 }
    }
}

impl From<DataType> for Type {
    fn from(single: DataType) -> Self {
        Self {
            id: single.id.into(),
            len: single.len.into(),
            host_order: single.host_order,
        }
    }
}

impl<const N: usize> From<[DataType; N]> for Type {
    fn from(parts: [DataType; N]) -> Self {
        Self::concat(&parts)
    }
}

#[cfg(test)]
mod tests;
