//! What is made of files: once, and anew when one of them has changed.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How soon files are looked at again, and those that cannot be used.
pub(super) const LOOKED_AT: Duration = Duration::from_mins(1);
pub(super) const TRIED: Duration = Duration::from_secs(5);

/// The bits of a mode that let others than the owner in.
const OTHERS: u32 = 0o077;

pub(in crate::gateway) enum File {
    Open(PathBuf),
    /// Nobody but root may read it.
    Secret(PathBuf),
}

pub(in crate::gateway) struct Made<T> {
    pub(in crate::gateway) made: T,
    /// When it can be used no longer.
    pub(in crate::gateway) until: Option<SystemTime>,
}

pub(in crate::gateway) struct Followed<T> {
    /// None while it cannot be made.
    made: Option<Made<T>>,
    /// What it was made from.
    texts: Vec<Vec<u8>>,
    /// Why it is not made from the files as they are now.
    fault: Option<String>,
    again: Option<Instant>,
}

impl<T> Default for Followed<T> {
    fn default() -> Self {
        Self {
            made: None,
            texts: Vec::new(),
            fault: None,
            again: None,
        }
    }
}

impl<T: Clone> Followed<T> {
    /// As the files say, which are looked at now and then. Where they are not good, what was made of
    /// them before, while it can be used.
    pub(super) fn now(
        &mut self,
        now: Instant,
        files: impl FnOnce() -> Vec<File>,
        make: impl FnOnce(&[Vec<u8>]) -> Result<Made<T>, String>,
    ) -> Option<T> {
        if self.again.is_none_or(|again| again <= now) {
            let fault = self.look(&files(), make).err();
            if let Some(why) = fault.as_ref().filter(|_| fault != self.fault) {
                tracing::warn!(why, "certificates of a policy cannot be used; trying again");
            }
            self.again = Some(now + if fault.is_none() { LOOKED_AT } else { TRIED });
            self.fault = fault;
        }
        self.made.as_ref().map(|it| it.made.clone())
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.fault.clone()
    }

    /// What was made of the files as they were good last, while it can be used.
    pub(in crate::gateway) fn made(&self) -> Option<&T> {
        self.made.as_ref().map(|it| &it.made)
    }

    /// Looks at the files. An error says why nothing can be made of them.
    pub(in crate::gateway) fn look(
        &mut self,
        files: &[File],
        make: impl FnOnce(&[Vec<u8>]) -> Result<Made<T>, String>,
    ) -> Result<(), String> {
        let ended = |it: &mut Made<T>| it.until.is_some_and(|until| until < SystemTime::now());
        self.made.take_if(ended);
        let texts: Result<Vec<_>, _> = files.iter().map(File::read).collect();
        let texts = texts?;
        if self.made.is_some() && self.texts == texts {
            return Ok(());
        }
        let new = make(&texts).map_err(|why| {
            let files: Vec<String> = files
                .iter()
                .map(|it| it.path().display().to_string())
                .collect();
            match &files[..] {
                [] => why,
                files => format!("{}: {why}", files.join(" and ")),
            }
        })?;
        (self.made, self.texts) = (Some(new), texts);
        Ok(())
    }
}

impl File {
    fn path(&self) -> &Path {
        match self {
            Self::Open(path) | Self::Secret(path) => path,
        }
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        let path = self.path().display();
        let told = |error: std::io::Error| format!("cannot read {path}: {error}");
        let mut file = fs::File::open(self.path()).map_err(told)?;
        let it = file.metadata().map_err(told)?;
        if matches!(self, Self::Secret(_)) && (it.uid() != 0 || it.mode() & OTHERS != 0) {
            return Err(format!(
                "others than root may read the key {path}: chown root:root {path}; chmod 600 {path}"
            ));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(told)?;
        Ok(text)
    }
}
