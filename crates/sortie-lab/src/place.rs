//! Where traffic can come from: a host, a container, a process, the internet.

use crate::error::Result;
use crate::netns::Netns;

/// Something with a network namespace that packets can be sent from.
pub trait Place {
    /// What it is called in messages.
    fn name(&self) -> String;

    /// Its network namespace as it is now.
    ///
    /// # Errors
    /// When it has none, as a stopped container.
    fn place(&self) -> Result<Netns>;
}

impl Place for Netns {
    fn name(&self) -> String {
        Self::name(self).to_owned()
    }

    fn place(&self) -> Result<Netns> {
        Ok(self.clone())
    }
}
