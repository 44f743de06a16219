//! The bits of packet marks that are ours, and nobody else's: `markMask`, 0xf0 where nothing is
//! said. No other file knows the values.
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
//! With the usual mask the lowest four bits are left to administrators. The registry of marks, where these are
//! collected: <https://github.com/fwmark/registry>.

use std::fmt;

use sortie_api::mark_mask::MarkMask;

/// Whole marks that others set: with what they have in our bits our rules would take their packets.
const WHOLE: [u32; 2] = [0xca6c, 0x00d0_c4e3];

/// One value of our bits of a packet's mark: names an uplink, but for [`Mark::PASS`] and
/// [`Mark::gateway`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    value: u32,
    mask: u32,
}

impl Mark {
    /// Says that the guard has let a packet of `sortie run` through; names no uplink. `run` without
    /// an agent reads no `agent.yaml`, so its bits are always the same.
    pub const PASS: Self = Self {
        value: 0xe0,
        mask: 0xf0,
    };

    /// How many uplinks can be told apart.
    pub fn count(mask: MarkMask) -> usize {
        uplinks(mask).count()
    }

    /// The one with this number, from 0.
    pub fn nth(mask: MarkMask, number: usize) -> Option<Self> {
        let value = uplinks(mask).nth(number)?;
        let mask = mask.bits();
        Some(Self { value, mask })
    }

    /// What the gateway's sockets have towards an uplink that the host's routes lead to: the source
    /// that they are bound to is theirs. Names no uplink.
    pub fn gateway(mask: MarkMask) -> Self {
        let bits = mask.bits();
        Self {
            value: values(mask).last().unwrap_or(bits),
            mask: bits,
        }
    }

    /// As a routing rule has it, whatever mask it was made with.
    pub fn of_rule(value: u32, mask: u32) -> Self {
        Self { value, mask }
    }

    /// Whether this value of our bits names an uplink, or is the gateway's.
    pub fn is_given_out(mask: MarkMask, value: u32) -> bool {
        values(mask).any(|known| known == value)
    }

    /// Its bits.
    pub fn value(self) -> u32 {
        self.value
    }

    /// The bits that it is one value of.
    pub fn mask(self) -> u32 {
        self.mask
    }
}

/// Every value that names an uplink, in the order in which they are given out. With the usual mask
/// those with the bit of the AWS VPC CNI come last.
fn uplinks(mask: MarkMask) -> impl Iterator<Item = u32> {
    let gateway = Mark::gateway(mask);
    values(mask).filter(move |value| *value != gateway.value)
}

/// The same, and last the gateway's.
fn values(mask: MarkMask) -> impl Iterator<Item = u32> {
    let (bits, lowest) = (mask.bits(), mask.lowest());
    let values = (1..=bits / lowest).map(move |number| number * lowest);
    values.filter(move |value| WHOLE.iter().all(|whole| whole & bits != *value))
}

impl fmt::Display for Mark {
    /// As `ip rule` writes it behind `fwmark`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

#[cfg(test)]
mod tests;
