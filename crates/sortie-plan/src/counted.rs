//! A set that remembers how many hold each member.

use std::collections::BTreeMap;

/// Members with how many hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted<T>(BTreeMap<T, usize>);

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Counted<T> {
    /// One more holds it; true for the first.
    pub fn hold(&mut self, member: T) -> bool {
        let count = self.0.entry(member).or_default();
        *count += 1;
        *count == 1
    }

    /// How many hold it.
    pub fn holders(&self, member: &T) -> usize {
        self.0.get(member).copied().unwrap_or_default()
    }

    /// One fewer holds it; true when that was the last.
    pub fn release(&mut self, member: &T) -> bool {
        let Some(count) = self.0.get_mut(member) else {
            return false;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.0.remove(member);
        }
        last
    }

    /// Ascending.
    pub fn members(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }
}
