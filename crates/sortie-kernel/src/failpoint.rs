//! Named places where a test makes a step fail, the process die, the kernel look older, or a rule be
//! missing.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr;

use sortie_plan::nft::Family;
use sortie_plan::op::NftOp;

use crate::error::Error;
use crate::probe::Feature;

/// What is armed; nothing by default. Parsed from a list such as
/// `before:nft=abort,after:add-route=error,probe:persist=unsupported,rule:inet/guard/1=absent`,
/// `before:nft=abort-unless:PATH` (once: the file is made first) and `tables:version=another`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failpoints {
    armed: BTreeMap<(When, Step), Action>,
    absent: BTreeSet<Feature>,
    /// Family, chain, and the rule's place in it, from 0.
    rules: BTreeSet<(String, String, usize)>,
    /// Our tables are those of another version.
    another_version: bool,
}

/// What the tag of a table of another version ends with.
const ANOTHER: &str = " (another version)";

/// Before or after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Nothing of the step is done yet.
    Before,
    /// All of it is done.
    After,
}

/// What happens at an armed failpoint, every time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// The process ends at once, as by `kill -9`.
    Abort,
    /// The same unless there is this file, which is made.
    AbortUnless(PathBuf),
    /// The step fails.
    Error,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident = $name:literal,)*) => {
        /// The kinds of step that change something.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        impl Step {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// As failpoints, counters and the audit log name it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)*
                }
            }
        }
    };
}

steps! {
    /// A transaction of our tables.
    Nft = "nft",
    /// Deletion of tracked flows.
    ForgetFlows = "forget-flows",
    /// Packets dropped that wait for a next hop.
    DropWaiting = "drop-waiting",
    /// Packets on their way waited for.
    LetPass = "let-pass",
    /// A route more.
    AddRoute = "add-route",
    /// A route less.
    DeleteRoute = "delete-route",
    /// A routing rule more.
    AddRule = "add-rule",
    /// A routing rule less.
    DeleteRule = "delete-rule",
    /// A proxy neighbour more.
    AddNeighbour = "add-neighbour",
    /// A proxy neighbour less.
    DeleteNeighbour = "delete-neighbour",
    /// A kernel setting changed.
    SetSysctl = "set-sysctl",
    /// A kernel setting put back.
    RestoreSysctl = "restore-sysctl",
    /// Accept rules in other programs' forward chains.
    AddForwarded = "add-forwarded",
    /// Those rules gone.
    DeleteForwarded = "delete-forwarded",
    /// A container given an address of its own.
    AddOwn = "add-own-address",
    /// That address taken back.
    DeleteOwn = "delete-own-address",
    /// A workload's lookups and connections led to the resolver and the gateway.
    AddRedirect = "add-redirect",
    /// That taken back.
    DeleteRedirect = "delete-redirect",
    /// A veth pair of `run` or `attach` made.
    CreateLink = "create-link",
    /// Its inner end given its address and routes.
    ConfigureLink = "configure-link",
    /// The pair removed.
    DeleteLink = "delete-link",
    /// The gate that closes behind `sortie run`.
    AddGate = "add-gate",
    /// The gate gone.
    DeleteGate = "delete-gate",
    /// Neighbours told of an address.
    Announce = "announce",
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl When {
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

impl Failpoints {
    /// Whether a feature must look absent.
    pub(crate) fn hides(&self, feature: Feature) -> bool {
        self.absent.contains(&feature)
    }

    /// The tag that a kept one stands for; one of another version stands for itself.
    pub(crate) fn meant_tag(&self, kept: String) -> String {
        match kept.strip_suffix(ANOTHER) {
            Some(tag) if self.another_version => tag.to_owned(),
            None if self.another_version => format!("another than {kept}"),
            _ => kept,
        }
    }

    /// An operation as a test wants it: without some rules, with another tag.
    pub(crate) fn altered<'a>(&self, family: Family, op: &'a NftOp) -> Cow<'a, NftOp> {
        if let NftOp::AddTable(tag) = op
            && self.another_version
        {
            return Cow::Owned(NftOp::AddTable(format!("{tag}{ANOTHER}")));
        }
        let (false, NftOp::AddRules(name, chain)) = (self.rules.is_empty(), op) else {
            return Cow::Borrowed(op);
        };
        let mut missing = self
            .rules
            .iter()
            .filter(|(of, chain, _)| *of == family.to_string() && chain == name);
        let mut chain = chain.clone();
        // From the last on, so that places stay right.
        while let Some((_, _, place)) = missing.next_back() {
            if *place < chain.rules.len() {
                chain.rules.remove(*place);
            }
        }
        Cow::Owned(NftOp::AddRules(name.clone(), chain))
    }

    /// Runs one step between its two failpoints.
    pub(crate) fn around<T>(
        &self,
        step: Step,
        run: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.pass(When::Before, step)?;
        let done = run()?;
        self.pass(When::After, step)?;
        Ok(done)
    }

    fn pass(&self, when: When, step: Step) -> Result<(), Error> {
        match self.armed.get(&(when, step)) {
            None => Ok(()),
            Some(Action::Abort) => std::process::abort(),
            Some(Action::AbortUnless(file)) => match File::create_new(file) {
                Ok(_) => std::process::abort(),
                Err(_) => Ok(()),
            },
            Some(Action::Error) => Err(Error::Injected {
                point: format!("{}:{step}", when.name()),
            }),
        }
    }
}

impl FromStr for Failpoints {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut failpoints = Self::default();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let wrong = |reason: String| Error::Failpoint {
                text: item.to_owned(),
                reason,
            };
            let (point, action) = item
                .split_once('=')
                .ok_or_else(|| wrong("there is no =ACTION".to_owned()))?;
            let (when, name) = point
                .split_once(':')
                .ok_or_else(|| wrong("there is no WHEN:".to_owned()))?;
            let when = match when {
                "before" => When::Before,
                "after" => When::After,
                "probe" => {
                    if action != "unsupported" {
                        return Err(wrong("a probe can only be unsupported".to_owned()));
                    }
                    let known = Feature::ALL.iter().find(|feature| feature.name() == name);
                    let feature = known.ok_or_else(|| wrong(format!("no feature {name:?}")))?;
                    failpoints.absent.insert(*feature);
                    continue;
                }
                "tables" => {
                    if (name, action) != ("version", "another") {
                        return Err(wrong(
                            "of tables only the version can be another".to_owned(),
                        ));
                    }
                    failpoints.another_version = true;
                    continue;
                }
                "rule" => {
                    failpoints.rules.insert(rule(name, action).map_err(wrong)?);
                    continue;
                }
                other => {
                    let known = "before, after, probe, rule or tables";
                    return Err(wrong(format!("{other:?} is not {known}")));
                }
            };
            let known = Step::ALL.iter().find(|step| step.name() == name);
            let step = known.ok_or_else(|| wrong(format!("no step {name:?}")))?;
            let action = match action.split_once(':').unwrap_or((action, "")) {
                ("abort", "") => Action::Abort,
                ("abort-unless", file) if !file.is_empty() => Action::AbortUnless(file.into()),
                ("error", "") => Action::Error,
                (other, _) => return Err(wrong(format!("{other:?} is not abort or error"))),
            };
            failpoints.armed.insert((when, *step), action);
        }
        Ok(failpoints)
    }
}

/// `FAMILY/CHAIN/PLACE`, which can only be absent.
fn rule(name: &str, action: &str) -> Result<(String, String, usize), String> {
    if action != "absent" {
        return Err("a rule can only be absent".to_owned());
    }
    let mut parts = name.split('/');
    match (parts.next(), parts.next(), parts.next().map(str::parse)) {
        (Some(family), Some(chain), Some(Ok(place))) => {
            Ok((family.to_owned(), chain.to_owned(), place))
        }
        _ => Err(format!("{name:?} is not FAMILY/CHAIN/PLACE")),
    }
}
