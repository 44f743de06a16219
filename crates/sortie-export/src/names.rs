//! The names of policies as classes: within one, the same candidates are asked.

use std::collections::BTreeSet;

use sortie_api::policy::HostPattern;
use sortie_plan::precedence::Candidate;

/// A label that no policy has, for a name of which only the end matters.
const SOME: &str = "some-name-of-sortie-export";

/// The names that a pattern means and no more specific one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Class {
    /// Those of this pattern.
    Of(HostPattern),
    /// Names that no pattern means.
    Unnamed,
}

impl Class {
    /// All that there are, the most specific first.
    pub(crate) fn all(candidates: &[Candidate<'_>]) -> Vec<Self> {
        let patterns: BTreeSet<&HostPattern> =
            candidates.iter().filter_map(Candidate::host).collect();
        let mut patterns: Vec<&HostPattern> = patterns.into_iter().collect();
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.specificity()));
        let mut classes: Vec<Self> = patterns.into_iter().cloned().map(Self::Of).collect();
        if classes.last() != Some(&Self::Of(HostPattern::Any)) {
            classes.push(Self::Unnamed);
        }
        classes
    }

    /// One name of it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Of(HostPattern::Exact(name)) => name.clone(),
            Self::Of(HostPattern::Below(suffix)) => format!("{SOME}.{suffix}"),
            Self::Of(HostPattern::Any) | Self::Unnamed => SOME.to_owned(),
        }
    }

    /// Whether it has every name that no other class has, and addresses.
    pub(crate) fn is_rest(&self) -> bool {
        matches!(self, Self::Unnamed | Self::Of(HostPattern::Any))
    }

    /// As Envoy writes domains; a name may have a dot at its end.
    pub(crate) fn domains(&self) -> Vec<String> {
        match self {
            Self::Of(pattern) if !self.is_rest() => {
                vec![format!("{pattern}"), format!("{pattern}.")]
            }
            _ => vec!["*".to_owned()],
        }
    }

    /// For people.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Of(HostPattern::Any) | Self::Unnamed => "other names".to_owned(),
            Self::Of(pattern) => pattern.to_string(),
        }
    }
}
