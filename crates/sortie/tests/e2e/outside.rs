//! Programs of the internet's, which tests start there.

use std::process::{Child, Command};

use sortie_lab::Result;

use crate::stage::Stage;

/// A program that ends with this value. Dropped before its namespace.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(stage: &Stage, command: &mut Command) -> Result<Self> {
        let started = stage.lab.internet().netns().run(|| command.spawn())?;
        Ok(Self(started.expect("the program runs")))
    }

    /// Ends it before that.
    pub(crate) fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
