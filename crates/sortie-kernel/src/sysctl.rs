//! Kernel settings: read, changed with the old value kept in a file, put back.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sortie_plan::state::Sysctl;

use crate::error::Error;
use crate::notes;

/// The file's name in the state folder.
const FILE: &str = "sysctls.json";

/// What we found and what we made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    before: String,
    ours: String,
}

/// The settings that we changed. Losing the file does no harm but that they are not put back.
///
/// Settings below `net` are those of the calling thread's network namespace.
#[derive(Debug)]
pub(crate) struct Changes {
    file: PathBuf,
    changes: BTreeMap<String, Change>,
}

/// Today's value, without the line's end.
pub fn read(sysctl: &Sysctl) -> Result<String, Error> {
    match fs::read_to_string(path(sysctl)?) {
        Ok(value) => Ok(value.trim_end().to_owned()),
        Err(source) => Err(Error::Sysctl {
            operation: "read",
            name: sysctl.0.clone(),
            source,
        }),
    }
}

fn write(sysctl: &Sysctl, value: &str) -> Result<(), Error> {
    fs::write(path(sysctl)?, value).map_err(|source| Error::Sysctl {
        operation: "write",
        name: sysctl.0.clone(),
        source,
    })
}

fn path(Sysctl(name): &Sysctl) -> Result<PathBuf, Error> {
    let plain = !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if plain {
        Ok(Path::new("/proc/sys").join(name))
    } else {
        Err(Error::SysctlName { name: name.clone() })
    }
}

impl Changes {
    /// Those noted in a state folder; none when there is no file, or one that cannot be understood.
    pub(crate) fn load(state: &Path) -> Result<Self, Error> {
        let file = state.join(FILE);
        let changes = notes::load(&file, "changed settings stay as they are")?;
        Ok(Self { file, changes })
    }

    /// Changes a setting. The value before is noted first, once.
    pub(crate) fn set(&mut self, sysctl: &Sysctl, value: &str) -> Result<(), Error> {
        let current = read(sysctl)?;
        let change = Change {
            before: match self.changes.get(&sysctl.0) {
                Some(known) => known.before.clone(),
                None => current.clone(),
            },
            ours: value.to_owned(),
        };
        if self.changes.get(&sysctl.0) != Some(&change) {
            self.changes.insert(sysctl.0.clone(), change);
            self.save()?;
        }
        if current == value {
            return Ok(());
        }
        write(sysctl, value)
    }

    /// Puts the value from before us back, unless somebody else changed it meanwhile or the setting
    /// is gone with its interface.
    pub(crate) fn restore(&mut self, sysctl: &Sysctl) -> Result<(), Error> {
        let Some(change) = self.changes.get(&sysctl.0) else {
            return Ok(());
        };
        match read(sysctl) {
            Ok(current) if current == change.ours && current != change.before => {
                write(sysctl, &change.before)?;
            }
            Ok(_) => {}
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
        self.changes.remove(&sysctl.0);
        self.save()
    }

    /// The value from before us, where putting it back would change something.
    pub(crate) fn former(&self, sysctl: &Sysctl) -> Result<Option<String>, Error> {
        let Some(change) = self.changes.get(&sysctl.0) else {
            return Ok(None);
        };
        let ours = change.ours != change.before && read(sysctl)? == change.ours;
        Ok(ours.then(|| change.before.clone()))
    }

    /// The value stays, and is not ours any more.
    pub(crate) fn leave(&mut self, sysctl: &Sysctl) -> Result<(), Error> {
        self.changes.remove(&sysctl.0);
        self.save()
    }

    /// Those that we changed, with today's values.
    pub(crate) fn observe(&self) -> Result<BTreeMap<Sysctl, String>, Error> {
        let mut found = BTreeMap::new();
        for name in self.changes.keys() {
            let sysctl = Sysctl(name.clone());
            match read(&sysctl) {
                Ok(value) => found.insert(sysctl, value),
                // Gone with its interface; still ours to forget.
                Err(error) if error.errno() == Some(libc::ENOENT) => {
                    found.insert(sysctl, String::new())
                }
                Err(error) => return Err(error),
            };
        }
        Ok(found)
    }

    fn save(&self) -> Result<(), Error> {
        notes::save(&self.file, &self.changes)
    }
}
