//! Label shortcuts: a policy, or the guard, written as labels of a container or network.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::address::{add_egress, egress_address};
use crate::labels::Labels;
use crate::policy::{
    Action, Egress, EgressPolicy, Enforcement, Mode, OnChange, OnUnavailable, Owner, PolicyName,
    Unlearned,
};
use crate::problem::{Fault, quoted};
use crate::reader::{list, not_in_this_version};
use crate::suggest::nearest;

const EGRESS: &str = "sortie.egress";
const ON_UNAVAILABLE: &str = "sortie.egress.on-unavailable";
const MODE: &str = "sortie.egress.mode";
const GUARD: &str = "sortie.guard";
/// What `sortie.egress` may be, for messages.
const EGRESS_HELP: &str = "write an address of this host, such as `203.0.113.11` or `203.0.113.11,2001:db8::11`, or `bypass`";

/// What carries labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Labelled {
    /// A container of an engine.
    Container,
    /// A network of an engine.
    Network,
}

/// One wrong label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{on} {}: label {}: {message}; {help}", quoted(.name), quoted(&format!("{}={}", .label, .value)))]
pub struct LabelError {
    /// What it is on.
    pub on: Labelled,
    /// The container's or network's name.
    pub name: String,
    /// The label's name.
    pub label: String,
    /// The label's value.
    pub value: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// Everything that is wrong with one container's or network's labels; at least one error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
#[error("{}", .errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct LabelErrors {
    errors: Vec<LabelError>,
}

impl LabelErrors {
    /// In the order of the labels' names.
    pub fn errors(&self) -> &[LabelError] {
        &self.errors
    }
}

/// What a network's labels say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkLabels {
    /// `sortie.guard`: the guard is on, off, or as the agent's configuration says.
    pub guard: Option<bool>,
    /// A policy for every container on this network. It has no selector: it belongs to the
    /// workloads with an endpoint on the network of this very name.
    pub policy: Option<EgressPolicy>,
}

/// The policy that a container's own labels make; none without a `sortie.` label.
///
/// It has no selector: it belongs to this container, and to no other that may get its name.
pub fn from_container_labels(
    name: &str,
    labels: &Labels,
) -> Result<Option<EgressPolicy>, LabelErrors> {
    let mut reader = LabelReader::new(Labelled::Container, name, labels.iter());
    if reader.labels.contains_key(GUARD) {
        let help = "write it on the container's network";
        reader.report(GUARD, Fault::new("the guard is for networks", help));
    }
    let policy = reader.policy(format!("label:{name}"), Owner::Workload);
    reader.finish(policy)
}

/// What a network's own labels say.
pub fn from_network_labels(
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<NetworkLabels, LabelErrors> {
    let labels = labels.iter().map(|(label, value)| (&**label, &**value));
    let mut reader = LabelReader::new(Labelled::Network, name, labels);
    let guard = reader.word(GUARD, &[("true", true), ("false", false)]);
    let policy = reader.policy(format!("network-label:{name}"), Owner::Network);
    reader.finish(NetworkLabels { guard, policy })
}

struct LabelReader<'l> {
    on: Labelled,
    name: &'l str,
    /// Those that are meant for Sortie.
    labels: BTreeMap<&'l str, &'l str>,
    errors: Vec<LabelError>,
}

impl<'l> LabelReader<'l> {
    /// Names that are ours and unknown are reported at once.
    fn new(on: Labelled, name: &'l str, labels: impl Iterator<Item = (&'l str, &'l str)>) -> Self {
        let mut reader = Self {
            on,
            name,
            labels: labels.filter(|(label, _)| is_ours(label)).collect(),
            errors: Vec::new(),
        };
        let known: &[&str] = match on {
            Labelled::Container => &[EGRESS, MODE, ON_UNAVAILABLE],
            Labelled::Network => &[EGRESS, MODE, ON_UNAVAILABLE, GUARD],
        };
        for label in reader.labels.clone().into_keys() {
            if known.contains(&label) || label == GUARD {
                continue;
            }
            // Kubernetes' annotation has another form.
            let written = label.replacen("sortie.dev/", "sortie.", 1);
            let help = match nearest(&written, known.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("labels of Sortie here are {}", list(known, "and")),
            };
            reader.report(label, Fault::new("Sortie has no such label", help));
        }
        reader
    }

    fn report(&mut self, label: &str, fault: Fault) {
        self.errors.push(LabelError {
            on: self.on,
            name: self.name.to_owned(),
            label: label.to_owned(),
            value: self
                .labels
                .get(label)
                .copied()
                .unwrap_or_default()
                .to_owned(),
            message: fault.message,
            help: fault.help,
        });
    }

    fn finish<T>(mut self, value: T) -> Result<T, LabelErrors> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        self.errors.sort_by(|a, b| a.label.cmp(&b.label));
        Err(LabelErrors {
            errors: self.errors,
        })
    }

    /// None without `sortie.egress`; then the labels that refine it are errors.
    fn policy(&mut self, name: String, owner: Owner) -> Option<EgressPolicy> {
        let choices = [
            ("drop", OnUnavailable::Drop),
            ("node-address", OnUnavailable::NodeAddress),
        ];
        let on_unavailable = self.word(ON_UNAVAILABLE, &choices);
        let modes = [
            ("auto", Mode::Auto),
            ("translate", Mode::Translate),
            ("direct", Mode::Direct),
        ];
        let mode = self.word(MODE, &modes).unwrap_or_default();
        if mode == Mode::Direct {
            self.refuse_with_direct(on_unavailable);
        }
        let value = self.labels.get(EGRESS).map(|value| value.trim());
        let action = value.and_then(|value| self.action(value, mode));
        if value.is_none() || value == Some("bypass") {
            for label in [ON_UNAVAILABLE, MODE] {
                if self.labels.contains_key(label) {
                    let message = format!("it has no meaning without an address in `{EGRESS}`");
                    let help = format!("remove it, or write `{EGRESS}=ADDRESS`");
                    self.report(label, Fault::new(message, help));
                }
            }
        }
        Some(EgressPolicy {
            name: PolicyName(name),
            owner,
            priority: 0,
            workloads: Vec::new(),
            destinations: Vec::new(),
            action: action?,
            on_unavailable: on_unavailable.unwrap_or_default(),
            on_change: OnChange::Reset,
            enforcement: Enforcement::Enforce,
            unlearned: Unlearned::Sniff,
            only_these_hosts: false,
        })
    }

    /// What cannot be said of a container that has its address itself.
    fn refuse_with_direct(&mut self, on_unavailable: Option<OnUnavailable>) {
        if self.on == Labelled::Network {
            let message = "an address can be one container's own, not a network's";
            let help = "write it on the container, or write `translate`";
            self.report(MODE, Fault::new(message, help));
        }
        if on_unavailable == Some(OnUnavailable::NodeAddress) {
            let message =
                format!("with `{MODE}=direct` nothing but the container's own address leaves");
            let help = format!("remove it, or write `{MODE}=translate`");
            self.report(ON_UNAVAILABLE, Fault::new(message, help));
        }
    }

    fn action(&mut self, value: &str, mode: Mode) -> Option<Action> {
        if value == "bypass" {
            return Some(Action::Bypass);
        }
        let later = value == "published-address" || value.starts_with("pool/");
        let fault = if later {
            Some(not_in_this_version(&quoted(value), EGRESS_HELP))
        } else if value.is_empty() {
            Some(Fault::new("it has no value", EGRESS_HELP))
        } else {
            nearest(value, ["bypass"]).map(|word| {
                let message = format!("{} is no address", quoted(value));
                Fault::new(message, format!("did you mean `{word}`?"))
            })
        };
        if let Some(fault) = fault {
            self.report(EGRESS, fault);
            return None;
        }
        let mut egress = Egress {
            mode,
            ..Egress::without_address()
        };
        for text in value.split(',').map(str::trim) {
            let added = egress_address(text).and_then(|address| add_egress(&mut egress, address));
            if let Err(fault) = added {
                self.report(EGRESS, fault);
            }
        }
        Some(Action::Egress(egress))
    }

    fn word<T: Copy>(&mut self, label: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.labels.get(label)?.trim();
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == value) {
            return Some(*choice);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let all = format!("write {}", list(&words, "or"));
        let help = match nearest(value, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => all,
        };
        let fault = Fault::new(format!("it cannot be {}", quoted(value)), help);
        self.report(label, fault);
        None
    }
}

/// Whether a label is meant for Sortie, in whatever spelling.
fn is_ours(label: &str) -> bool {
    let ours = label.split(['.', '/']).next();
    ours.is_some_and(|ours| ours.eq_ignore_ascii_case("sortie"))
}

impl fmt::Display for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Network => "network",
        })
    }
}

#[cfg(test)]
mod tests;
