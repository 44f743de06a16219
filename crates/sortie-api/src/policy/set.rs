//! The policies of a host: all files of its policy folder together.

use std::collections::BTreeMap;

use super::parse::parse_with_places;
use super::{EgressPolicy, PolicyName};
use crate::problem::{Fault, FileErrors, Problem, Source, Span, quoted};

/// The policies of several files; every name is there once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySet {
    /// In the order in which they were read.
    pub files: Vec<PolicyFile>,
}

/// The policies of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// As the caller named it.
    pub name: String,
    /// In the order of the file, at least one.
    pub policies: Vec<EgressPolicy>,
}

impl PolicySet {
    /// Reads files, given as names and texts, in an order that does not change.
    ///
    /// One bad file refuses the set; [`FileErrors::files`] names the bad ones. Whoever has
    /// their last good texts loads again with those. Of two files that hold one policy name,
    /// the later is the bad one.
    pub fn load<N: AsRef<str>, T: AsRef<str>>(
        files: impl IntoIterator<Item = (N, T)>,
    ) -> Result<Self, FileErrors> {
        let files: Vec<(N, T)> = files.into_iter().collect();
        let mut set = Self::default();
        let mut problems: Vec<Problem> = Vec::new();
        let mut places: BTreeMap<PolicyName, (Source<'_>, Span)> = BTreeMap::new();
        for (name, text) in &files {
            let source = Source {
                file: name.as_ref(),
                text: text.as_ref(),
            };
            let policies = match parse_with_places(source.file, source.text) {
                Ok(policies) => policies,
                Err(errors) => {
                    problems.extend_from_slice(errors.problems());
                    continue;
                }
            };
            for (policy, place) in &policies {
                if let Some((first, at)) = places.get(&policy.name) {
                    let message = format!("a second policy is named {}", quoted(&policy.name.0));
                    let (file, line) = (first.file, first.line(at.offset));
                    let help = format!("the first is in {file}:{line}: rename one of them");
                    problems.push(source.problem(*place, Fault::new(message, help)));
                } else {
                    places.insert(policy.name.clone(), (source, *place));
                }
            }
            set.files.push(PolicyFile {
                name: source.file.to_owned(),
                policies: policies.into_iter().map(|(policy, _)| policy).collect(),
            });
        }
        if problems.is_empty() {
            Ok(set)
        } else {
            Err(FileErrors::new(problems))
        }
    }

    /// Every policy, in the order of the files.
    pub fn policies(&self) -> impl Iterator<Item = &EgressPolicy> {
        self.files.iter().flat_map(|file| &file.policies)
    }
}

#[cfg(test)]
mod tests;
