//! The one who writes addresses into the kernel, and what his answer means for the client's.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::IpAddr;

use sortie_api::workload::WorkloadId;

use crate::name::DnsName;
use crate::names::Learning;

/// The one writer (the agent). Asked before an answer goes back.
pub trait Learn: Send + Sync + 'static {
    /// Puts a name's addresses into the kernel for a workload, and says for each, in their order,
    /// what the client is told. The same addresses may be told often.
    fn learned(
        &self,
        workload: &WorkloadId,
        name: &DnsName,
        addresses: &[IpAddr],
    ) -> impl Future<Output = Result<Vec<Answered>, NotLearned>> + Send;
}

/// What the client is told of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answered {
    /// The address itself.
    Kept,
    /// This one instead, that the kernel leads to it.
    Replaced(IpAddr),
    /// Nothing.
    LeftOut,
}

/// Why addresses are not in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLearned {
    /// Nobody is there to ask: what was learned before still holds.
    #[error(
        "the agent does not answer: {0}; see `systemctl status sortie`, or start `sortie agent`"
    )]
    Away(String),
    /// It was tried.
    #[error("the agent could not put the addresses into the kernel: {0}; see its log")]
    Refused(String),
}

/// What becomes of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// With each address as it is told, in their order.
    Told(Vec<Answered>),
    /// As the server wrote it.
    Unchanged,
    /// Not at all, and why.
    Failed(String),
}

/// Decides, in this order:
///
/// 1. The writer has answered for each address: so.
/// 2. He is away, and each address was learned for this name before: as then.
/// 3. A policy names the host: no answer.
/// 4. Else as the server wrote it.
pub fn settle(
    learning: Learning,
    count: usize,
    outcome: Result<Vec<Answered>, NotLearned>,
    before: impl FnOnce() -> Option<Vec<Answered>>,
) -> Settled {
    let why = match outcome {
        Ok(told) if told.len() == count => return Settled::Told(told),
        Ok(told) => format!("the agent answered for {} of {count} addresses", told.len()),
        Err(not) => {
            if matches!(not, NotLearned::Away(_))
                && let Some(told) = before()
            {
                return Settled::Told(told);
            }
            not.to_string()
        }
    };
    match learning {
        Learning::Required => Settled::Failed(why),
        Learning::Offered | Learning::Unneeded => Settled::Unchanged,
    }
}
