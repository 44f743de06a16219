//! What `explain` asks and answers of a name.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sortie_api::policy::{Protocol, Request};

use crate::explain::answer::{AuditNote, Considered, Verdict};

/// What is asked: a name, and what is known of the connection.
#[derive(Debug, Clone, Copy)]
pub struct ByName<'a> {
    /// The name.
    pub name: &'a str,
    /// Protocol and port.
    pub port: Option<(Protocol, u16)>,
    /// The request, where there is one; without, nothing is known of what is sent.
    pub request: Option<&'a Request<'a>>,
    /// Whether TLS hides it: `https`.
    pub encrypted: bool,
    /// Why the gateway refuses such a request wherever policies look at requests, if so: its path
    /// has no one spelling.
    pub malformed: Option<&'a str>,
}

/// The answer to `sortie explain` for a name. It is by the name; what becomes of the addresses that
/// the workload was told for it is beside it, and candidates for addresses say that it depends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameExplanation {
    /// The workload's name.
    pub workload: String,
    /// The name that was asked for.
    pub name: String,
    /// Destination port and protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Method and path, as policies see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Who decides.
    pub plane: Plane,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The policy that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The sources that the other side sees, one of each family; none where the engine decides or
    /// nothing leaves.
    pub sources: Vec<Leaving>,
    /// In words.
    pub reason: String,
    /// The line that mends it, where something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// What would become of it, if the policies that only audit were enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditNote>,
    /// What the resolver does with a look-up.
    pub lookup: String,
    /// What the workload was told for the name so far.
    pub addresses: Vec<Learned>,
    /// What else would be refused, and why.
    pub refused: Vec<Refused>,
    /// Every candidate, the one that is asked first first, with why it does not decide.
    pub candidates: Vec<Considered>,
}

impl NameExplanation {
    /// Where the workload knows addresses of the name, and all of them have another fate than the
    /// name, theirs is what happens.
    pub fn settle(&mut self) {
        let all = |verdict| {
            let mut known = self.addresses.iter();
            known.all(|it| it.verdict == verdict)
        };
        let verdict = match self.verdict {
            Verdict::Drop => return,
            _ if all(Verdict::Drop) => Verdict::Drop,
            Verdict::Egress if all(Verdict::AsWithoutSortie) => Verdict::AsWithoutSortie,
            _ => return,
        };
        let Some(known) = self.addresses.first() else {
            return;
        };
        self.verdict = verdict;
        self.policy.clone_from(&known.policy);
        self.reason = format!("{}: {}", known.address, known.reason);
        self.sources.clear();
    }
}

/// Who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// By the address that a look-up gave.
    Kernel,
    /// By the name in the look-up.
    Resolver,
    /// By what is sent.
    Gateway,
}

impl Plane {
    /// As commands show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Resolver => "resolver",
            Self::Gateway => "gateway",
        }
    }
}

/// A source, and the way out that is its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaving {
    /// What the other side sees.
    pub source: IpAddr,
    /// The interface it leaves through; none where the host has no way out for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
}

/// An address that the workload was told for the name, and what becomes of what goes there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    /// As the server said.
    pub address: IpAddr,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The policy that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The source that it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// In words.
    pub reason: String,
}

/// Something that would be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// What is not let through.
    pub what: String,
    /// Why, with the policy.
    pub why: String,
}
