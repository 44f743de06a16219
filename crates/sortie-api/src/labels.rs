//! The labels of one workload, in little memory: a host may have a hundred thousand workloads.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Names with their values, ascending by name; each name once.
///
/// One text and the places where its parts end: a tree has room for eleven labels in its smallest
/// form, and an allocation for each name and value.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels {
    /// Name, value, name, value, …
    text: Box<str>,
    /// Where each name and each value ends in `text`.
    ends: Box<[u32]>,
}

impl Labels {
    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.iter().find(|(label, _)| *label == name)?;
        Some(value)
    }

    /// Ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begin = 0;
        let mut part = move |end: u32| {
            let end = end as usize;
            let part = self.text.get(begin..end).unwrap_or_default();
            begin = end;
            part
        };
        self.ends
            .chunks_exact(2)
            .map(move |ends| (part(ends[0]), part(ends[1])))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(labels: I) -> Self {
        let labels = labels.into_iter();
        let labels: BTreeMap<String, String> = labels
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        labels.into()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        let mut text = String::new();
        let mut ends = Vec::with_capacity(2 * labels.len());
        for part in labels.iter().flat_map(|(name, value)| [name, value]) {
            text.push_str(part);
            // An engine's answer with labels of 4 GiB would not have come so far.
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        Self {
            text: text.into(),
            ends: ends.into(),
        }
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        labels.iter().map(owned).collect()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
