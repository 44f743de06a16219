//! Why the kernel dropped a packet: the names of counters and NFLOG prefixes.

use crate::resolve::Refusal;

/// The NFLOG group that every drop of ours is reported to.
pub const LOG_GROUP: u16 = 83;

/// The NFLOG group that answers to look-ups are copied to.
pub const ANSWERS_GROUP: u16 = 84;

/// Why a packet was dropped.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A managed port with another (MAC, IP), or a managed IP from another port.
    Identity,
    /// A guarded network's source that belongs to no known workload.
    Unidentified,
    /// Connection tracking follows no flow that it could belong to.
    Untracked,
    /// A flow of before its policy, or of another workload's socket.
    Earlier,
    /// Neither the workload's own egress address nor anything else it may have.
    WrongSource,
    /// The right source on an uplink that is not the address's.
    WrongUplink,
    /// The egress address is not on this host.
    AddressLost,
    /// The policy has no egress address of this family.
    NoAddress,
    /// The policy says Deny, or its text cannot be read.
    Denied,
    /// The workload shall have its address itself, and cannot.
    NotDirect,
    /// The gateway decides about it, and it did not come from there.
    ByGateway,
    /// The workload was told this address for no name, and a policy asks for names only.
    Unlearned,
    /// An egress address that the sender has no right to.
    Borrowed,
    /// From outside to an egress address that `inbound` closes.
    Inbound,
    /// A workload's own address on an uplink.
    LastLine,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 15] = [
        Self::Identity,
        Self::Unidentified,
        Self::Untracked,
        Self::Earlier,
        Self::WrongSource,
        Self::WrongUplink,
        Self::AddressLost,
        Self::NoAddress,
        Self::Denied,
        Self::NotDirect,
        Self::ByGateway,
        Self::Unlearned,
        Self::Borrowed,
        Self::Inbound,
        Self::LastLine,
    ];

    /// The counter's name, and the NFLOG prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Unidentified => "unidentified",
            Self::Untracked => "untracked",
            Self::Earlier => "earlier",
            Self::WrongSource => "wrong-source",
            Self::WrongUplink => "wrong-uplink",
            Self::AddressLost => "address-lost",
            Self::NoAddress => "no-address",
            Self::Denied => "denied",
            Self::NotDirect => "not-direct",
            Self::ByGateway => "by-gateway",
            Self::Unlearned => "unlearned",
            Self::Borrowed => "borrowed",
            Self::Inbound => "inbound",
            Self::LastLine => "last-line",
        }
    }

    /// The reason that an NFLOG prefix names.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// For people: what it means and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Identity => "the frame claimed another workload's port, MAC or IP",
            Self::Unidentified => "no known workload has this source on a guarded network",
            Self::Untracked => {
                "no tracked flow that it could belong to (a reset, an error or a forged packet)"
            }
            Self::Earlier => {
                "its flow began before the policy; the agent ends that flow, and the next packet begins another"
            }
            Self::WrongSource => {
                "it would have left with an address that its policy does not allow"
            }
            Self::WrongUplink => "it would have left through another uplink than the address's",
            Self::AddressLost => "the egress address is not on this host",
            Self::NoAddress => "the policy has no egress address of this IP family",
            Self::Denied => "the policy denies this destination, or the label is wrong",
            Self::NotDirect => {
                "the container shall have its address itself, and cannot: `sortie status` says why"
            }
            Self::ByGateway => {
                "the gateway decides about it, and it went by the gateway: `sortie status` says whether one runs"
            }
            Self::Unlearned => {
                "no name was looked up for this address, and the policy says `unlearned: Deny`"
            }
            Self::Borrowed => "it claimed an egress address that it has no right to",
            Self::Inbound => {
                "it came from outside to an address that `inbound` closes, and answers nothing"
            }
            Self::LastLine => "it reached the uplink with the workload's own address",
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self::Denied,
            Refusal::NoAddressOfFamily => Self::NoAddress,
            Refusal::NotDirect => Self::NotDirect,
            Refusal::ByGateway => Self::ByGateway,
            Refusal::Unlearned => Self::Unlearned,
        }
    }
}
