//! Policies that change under traffic: another address, another mode, audited only, another address
//! of a path. What their containers may be seen with changes with them.

use std::time::{Duration, SystemTime};

use sortie_lab::Result;

use super::tally::{Allowed, Tally};
use super::wave::{DIRECT, EGRESS, addresses};
use crate::stage::Stage;

/// What a policy says at one time. Addresses are named by their last number.
enum Says {
    /// Translated to one that the host has.
    Translate(u8),
    /// One that the container has itself, and the host has not.
    Direct(u8),
    /// Nothing is done, and what would be is counted.
    Audit(u8),
}

/// One policy.
struct Changing {
    name: &'static str,
    says: &'static [Says],
    /// Containers whose names begin so; those of its own name where it is empty.
    selects: &'static [&'static str],
    /// What else is in its `spec`.
    more: &'static str,
}

/// For all destinations of the containers whose names begin with its own.
const fn everywhere(name: &'static str, says: &'static [Says]) -> Changing {
    Changing {
        name,
        says,
        selects: &[],
        more: "",
    }
}

/// Where containers that ask by name look names up: nobody's own destination.
pub(super) const NAME_SERVER: &str = "192.0.2.53";

/// What follows the agent needs until it knows of a change; then what is on its way ends.
const FOLLOWS: Duration = Duration::from_secs(1);

/// Their places here are their numbers.
const POLICIES: [Changing; 5] = [
    everywhere("policy", &[Says::Translate(11), Says::Translate(12)]),
    everywhere(
        "mode",
        &[
            Says::Translate(11),
            Says::Direct(DIRECT[0]),
            Says::Direct(DIRECT[1]),
            Says::Translate(12),
            Says::Direct(DIRECT[0]),
        ],
    ),
    everywhere("audit", &[Says::Translate(13), Says::Audit(12)]),
    Changing {
        name: "paths",
        says: &[Says::Translate(11), Says::Translate(12)],
        selects: &["http", "web"],
        more: "  destinations:
  - hosts: [\"*.http.leak\", \"*.web.leak\"]
    ports: [{protocol: TCP, port: 80}]
    http: {match: [{pathPrefix: /api}]}
  - hosts: [\"*.tls.leak\"]
    ports: [{protocol: TCP, port: 443}]
",
    },
    Changing {
        name: "names",
        says: &[Says::Translate(13)],
        selects: &["http"],
        more: "  destinations:
  - hosts: [\"*.http.leak\"]
  - cidrs: [192.0.2.53/32]
  unlearned: Deny
",
    },
];

/// The one whose address changes.
pub(super) const ADDRESS: usize = 0;
/// The one whose mode changes: one container at a time has a direct address.
pub(super) const MODE: usize = 1;
/// The one that is enforced, or audited only.
pub(super) const ENFORCEMENT: usize = 2;

/// The one whose address of a path changes.
pub(super) const PATHS: usize = 3;
/// The one that is about all else that goes to a name, and denies what has none.
pub(super) const NAMES: usize = 4;

/// What each says now.
#[derive(Default)]
pub(super) struct Policies {
    now: [usize; POLICIES.len()],
}

/// What the containers of a policy are called.
pub(super) fn name(policy: usize) -> &'static str {
    POLICIES[policy].name
}

impl Policies {
    /// Applies all of them as they begin.
    pub(super) fn begin(&self, stage: &Stage, tally: &mut Tally) -> Result<()> {
        for number in 0..POLICIES.len() {
            tally.policy_gives(number, vec![self.says(number).allowed()]);
        }
        self.apply(stage)
    }

    /// A policy says something else from now on. Until that is in force its containers may be seen
    /// with what it gave and with what it will give, behind it with the latter only.
    pub(super) fn change(&mut self, number: usize, stage: &Stage, tally: &mut Tally) -> Result<()> {
        let before = self.says(number).allowed();
        self.now[number] = (self.now[number] + 1) % POLICIES[number].says.len();
        let now = self.says(number).allowed();
        tally.read(stage)?;
        tally.policy_gives(number, vec![before.clone(), now.clone()]);
        self.apply(stage)?;
        // What had left the guard by then has crossed the uplink.
        stage.lab.fence()?;
        tally.read(stage)?;
        tally.policy_gives(number, vec![now]);
        if number == PATHS {
            tally.policy_gave(number, before, SystemTime::now() + FOLLOWS);
        }
        Ok(())
    }

    fn says(&self, number: usize) -> &'static Says {
        &POLICIES[number].says[self.now[number]]
    }

    /// All in one file: another of its name would take its place.
    fn apply(&self, stage: &Stage) -> Result<()> {
        let documents = POLICIES.iter().zip(self.now);
        let documents = documents.map(|(policy, now)| policy.says[now].of(policy));
        let outcome = stage.apply(&documents.collect::<Vec<_>>().join("---\n"))?;
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
        Ok(())
    }
}

impl Says {
    fn of(&self, policy: &Changing) -> String {
        let (last, mode, enforcement) = match self {
            Self::Translate(last) => (last, "Translate", "Enforce"),
            Self::Direct(last) => (last, "Direct", "Enforce"),
            Self::Audit(last) => (last, "Translate", "Audit"),
        };
        let Changing { name, more, .. } = policy;
        let selects = match policy.selects {
            [] => &[policy.name],
            selects => selects,
        };
        let selects = selects.iter().map(|name| format!("\"{name}-*\""));
        let selects = selects.collect::<Vec<_>>().join(", ");
        format!(
            "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\n\
             spec:\n  workloads:\n  - containers: {{names: [{selects}]}}\n{more}  action: Egress\n  \
             egress: {{addresses: [203.0.113.{last}, \"2001:db8:113::{last}\"], mode: {mode}}}\n  \
             enforcement: {enforcement}\n"
        )
    }

    fn allowed(&self) -> Allowed {
        match self {
            Self::Translate(last) | Self::Direct(last) => Allowed::Only(addresses(&[*last])),
            Self::Audit(_) => Allowed::AnyBut(addresses(&[&EGRESS[..], &DIRECT[..]].concat())),
        }
    }
}
