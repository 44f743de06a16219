//! The bits of packet marks that are ours, and nobody else's: no other file knows them.
//!
//! Who uses which bits of the 32 in a host's network namespace:
//!
//! | Bits | Who | Source |
//! |---|---|---|
//! | `0x0000_0080` | the AWS VPC CNI | amazon-vpc-cni-k8s, `AWS_VPC_K8S_CNI_CONNMARK` |
//! | `0x0000_0fff`, `0xffff_0000` | Cilium; of the lowest byte only cluster ids above 15 reach our bits | cilium, `pkg/datapath/linux/linux_defaults/mark.go` |
//! | `0x0000_1000`, `0x0000_2000` | netavark; portmap of the CNI plugins uses the second too | netavark, `src/firewall/varktables` |
//! | `0x0000_4000`, `0x0000_8000` | kube-proxy and kubelet | kubernetes, `masqueradeBit`, `dropBit` |
//! | `0x00ff_0000` | Tailscale | tailscale, `tsconst/linuxfw.go` |
//! | `0xffff_0000` | Calico | Felix's `IptablesMarkMask` |
//! | all | wg-quick marks its own packets 0xca6c; Docker Swarm's encrypted overlays 0xd0c4e3 | wireguard-tools, `wg-quick/linux.bash`; moby, `libnetwork/drivers/overlay/encryption.go` |
//!
//! The lowest four bits are left to administrators. The registry of marks, where these are
//! collected: <https://github.com/fwmark/registry>.

use std::fmt;

/// Our bits.
pub const MASK: u32 = 0xf0;

/// Every value that names an uplink, in the order in which they are given out. Two are missing: with them our
/// rules would take the packets that wg-quick (0xca6c) and Docker Swarm (0xd0c4e3) mark. Those with
/// the bit of the AWS VPC CNI come last.
const VALUES: [u32; 13] = [
    0x10, 0x20, 0x30, 0x40, 0x50, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xf0,
];

/// One value of our bits of a packet's mark: names an uplink, but for [`Mark::PASS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u32);

impl Mark {
    /// Says that the guard has let a packet of `sortie run` through; names no uplink.
    pub const PASS: Self = Self(0xe0);

    /// How many uplinks can be told apart.
    pub const COUNT: usize = VALUES.len();

    /// The one with this number, from 0.
    pub fn nth(number: usize) -> Option<Self> {
        VALUES.get(number).copied().map(Self)
    }

    /// The one with these bits.
    pub fn of_value(value: u32) -> Option<Self> {
        VALUES.contains(&value).then_some(Self(value))
    }

    /// Its bits.
    pub fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mark {
    /// As `ip rule` writes it behind `fwmark`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{MASK:#x}", self.0)
    }
}

#[cfg(test)]
mod tests;
