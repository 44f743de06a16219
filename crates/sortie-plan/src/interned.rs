//! Values that many hold, once in memory.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Looked through for what nobody holds any more once there are so many, then twice as many as
/// are left.
const FIRST_SWEEP: usize = 64;

/// Every value that somebody holds, and some that nobody does any more.
#[derive(Debug, Clone)]
pub(crate) struct Interned<T> {
    known: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            known: HashSet::new(),
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl<T: Eq + Hash> Interned<T> {
    /// The value that is known as this one already, else this one.
    pub(crate) fn share(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.known.get(&value) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = FIRST_SWEEP.max(2 * self.known.len());
        }
        let value = Arc::new(value);
        self.known.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests;
