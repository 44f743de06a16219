//! The policies of a host: all files of its policy folder together.

use std::collections::BTreeMap;

use super::parse::{Parsed, parse_with_places};
use super::{EgressPolicy, PolicyName, parse};
use crate::problem::{Fault, FileErrors, Note, Problem, Source, Span, quoted};

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
    /// What whoever wrote it should know.
    pub notes: Vec<Note>,
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
            let Parsed { policies, notes } = match parse_with_places(source.file, source.text) {
                Ok(parsed) => parsed,
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
                notes,
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

/// A file's text without the document that this policy is from; the others stay as they were
/// written. None where none is left, or where the file does not hold the policy.
///
/// A line that begins with `---` begins a document, wherever it is (YAML 1.2.2, 9.1.2).
pub fn without(text: &str, policy: &str) -> Option<String> {
    let mut documents: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        match documents.last_mut() {
            Some(document) if !begins_document(line) => document.push_str(line),
            _ => documents.push(line.to_owned()),
        }
    }
    let (gone, rest): (Vec<String>, Vec<String>) = documents
        .into_iter()
        .partition(|document| holds(document, Some(policy)));
    let left = rest.iter().any(|document| holds(document, None));
    (left && !gone.is_empty()).then(|| rest.concat())
}

fn begins_document(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a document is one of a policy: of this one, or of any.
fn holds(document: &str, policy: Option<&str>) -> bool {
    let policies = parse("", document).unwrap_or_default();
    policies
        .iter()
        .any(|found| policy.is_none_or(|policy| found.name.0 == policy))
}

#[cfg(test)]
mod tests;
