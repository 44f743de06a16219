//! Files in the state folder that say what was changed and how to take it back.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// What a file says; nothing when there is none, or one that cannot be understood: `lost` says what
/// that means.
pub(crate) fn load<T: Default + DeserializeOwned>(file: &Path, lost: &str) -> Result<T, Error> {
    match fs::read(file) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "notes are damaged: {lost}");
            T::default()
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(source) => Err(Error::State {
            operation: "read",
            path: file.to_owned(),
            source,
        }),
    }
}

/// Replaces a file as a whole, so that a crash leaves the old or the new one.
pub(crate) fn save(file: &Path, notes: &impl Serialize) -> Result<(), Error> {
    let failed = |source| Error::State {
        operation: "write",
        path: file.to_owned(),
        source,
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    let bytes = serde_json::to_vec_pretty(notes).map_err(|error| failed(error.into()))?;
    fs::create_dir_all(folder).map_err(failed)?;
    let mut new = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    new.write_all(&bytes).map_err(failed)?;
    new.as_file().sync_all().map_err(failed)?;
    new.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}
