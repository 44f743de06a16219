//! What policies say about a name that a workload asks for.

use sortie_api::policy::PolicyName;
use sortie_api::workload::{Families, WorkloadId};

use crate::name::DnsName;

/// Answers for policies, as `named::interest` of the planner decides. Asked for each lookup, so it
/// must not wait.
pub trait Names: Send + Sync + 'static {
    /// What shall become of a workload's lookup. The name is the asked one: an alias' target, and
    /// the records of a service's port, are asked about by the host's name.
    fn question(&self, workload: &WorkloadId, name: &DnsName) -> Interest;

    /// The same, of a name that the workload looks up now: for who counts look-ups.
    fn look_up(&self, workload: &WorkloadId, name: &DnsName) -> Interest {
        self.question(workload, name)
    }
}

/// What becomes of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// This policy says `onlyTheseHosts`, and no policy names the host.
    Refused(PolicyName),
    /// The server that the workload asked is asked.
    Forward(Wanted),
}

/// Both families.
const BOTH: Families = Families { v4: true, v6: true };

/// What an answer must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Whether the kernel must know the addresses before the client does.
    pub learning: Learning,
    /// The families that the policy has an egress address for. Others are not answered.
    pub families: Families,
    /// The gateway must see the name in the client's TLS: no `ech`, no HTTP/3.
    pub sees_name: bool,
}

impl Wanted {
    /// No policy names it: the answer goes back as the server wrote it.
    pub const NOTHING: Self = Self {
        learning: Learning::Unneeded,
        families: BOTH,
        sees_name: false,
    };
}

/// Whether the kernel must know a name's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    /// No. They are remembered for a while, so that a new policy applies to them.
    Unneeded,
    /// It should: a policy says `unlearned: Deny`, or another name of the workload may have the same
    /// address and another decision. When that fails, the answer goes back as the server wrote it.
    Offered,
    /// A policy names it. When that fails there is no answer.
    Required,
}
