//! The policy folder: read, checked and written whole, with the last good copy kept elsewhere so
//! that a file which goes bad changes nothing, across restarts too.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sortie_api::policy::{EgressPolicy, PolicySet};
use sortie_api::problem::FileErrors;

use crate::Error;
use crate::api;

/// The texts of policy files by their names in the folder, in order.
pub type Texts = BTreeMap<String, String>;

const LAST_GOOD: &str = "policies.last-good.json";

/// A folder of `*.yaml` and `*.yml` files.
#[derive(Debug)]
pub struct PolicyFolder {
    folder: PathBuf,
    last_good: PathBuf,
    /// What is in force.
    pub set: PolicySet,
    /// Why the folder as it is now is not in force.
    pub problem: Option<FileErrors>,
    /// Why the last good copy is not what is in force.
    pub unkept: Option<String>,
}

impl PolicyFolder {
    /// A folder with nothing read from it yet; `state` is where the last good copy is kept.
    pub fn new(folder: PathBuf, state: &Path) -> Self {
        Self {
            folder,
            last_good: state.join(LAST_GOOD),
            set: PolicySet::default(),
            problem: None,
            unkept: None,
        }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Reads the folder. A good one comes into force; a bad one leaves in force what was, which
    /// after a restart is the last good copy.
    pub fn reload(&mut self) -> Result<(), Error> {
        let texts = self.texts()?;
        match load(&self.folder, &texts) {
            Ok(set) => {
                self.problem = None;
                if set != self.set || !self.last_good.exists() || self.unkept.is_some() {
                    self.set = set;
                    // A full disk is no reason to run without the policies.
                    self.unkept = self.keep(&texts).err().map(|error| error.to_string());
                }
            }
            Err(problem) => {
                if self.set.files.is_empty() {
                    self.set = self.kept();
                }
                self.problem = Some(problem);
            }
        }
        Ok(())
    }

    /// The folder's texts with these files in it; refused whole when the result is not good.
    pub fn with(&self, files: &[api::File]) -> Result<(Texts, PolicySet), Error> {
        let mut texts = self.texts()?;
        for file in files {
            // The user's own name in messages first; then together with the others.
            let policies =
                sortie_api::policy::parse(&file.name, &file.text).map_err(Error::Policies)?;
            texts.insert(kept_name(&file.name, &policies), file.text.clone());
        }
        let set = load(&self.folder, &texts).map_err(Error::Policies)?;
        Ok((texts, set))
    }

    /// The folder's texts without this policy; its file goes with its last policy.
    pub fn without(&self, policy: &str) -> Result<(Texts, PolicySet), Error> {
        let mut texts = self.texts()?;
        let set = load(&self.folder, &texts).map_err(Error::Policies)?;
        let holds = |file: &&sortie_api::policy::PolicyFile| {
            file.policies.iter().any(|p| p.name.0 == policy)
        };
        let Some(file) = set.files.iter().find(holds) else {
            let message =
                format!("no policy is named {policy:?}; `sortie get policies` lists them");
            return Err(Error::Refused(message));
        };
        let name = Path::new(&file.name)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = texts.remove(&name).unwrap_or_default();
        if let Some(rest) = sortie_api::policy::without(&text, policy) {
            texts.insert(name, rest);
        }
        let set = load(&self.folder, &texts).map_err(Error::Policies)?;
        Ok((texts, set))
    }

    /// Makes the folder hold exactly these texts, file by file, each whole or not at all.
    pub fn write(&self, texts: &Texts) -> Result<(), Error> {
        fs::create_dir_all(&self.folder).map_err(Error::file("make", &self.folder))?;
        let before = self.texts()?;
        for (name, text) in texts
            .iter()
            .filter(|(name, text)| before.get(*name) != Some(text))
        {
            write_whole(&self.folder.join(name), text)?;
        }
        for name in before.keys().filter(|name| !texts.contains_key(*name)) {
            let path = self.folder.join(name);
            fs::remove_file(&path).map_err(Error::file("remove", path))?;
        }
        Ok(())
    }

    fn texts(&self) -> Result<Texts, Error> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Texts::new()),
            Err(error) => return Err(Error::file("read", &self.folder)(error)),
        };
        let mut texts = Texts::new();
        for entry in entries {
            let path = entry.map_err(Error::file("read", &self.folder))?.path();
            let is_yaml = path
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml");
            let Some(name) = path
                .file_name()
                .and_then(|name| name.to_str())
                .filter(|_| is_yaml)
            else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            texts.insert(
                name.to_owned(),
                fs::read_to_string(&path).map_err(Error::file("read", &path))?,
            );
        }
        Ok(texts)
    }

    fn keep(&self, texts: &Texts) -> Result<(), Error> {
        let json = serde_json::to_string(texts).unwrap_or_default();
        write_whole(&self.last_good, &json)
    }

    fn kept(&self) -> PolicySet {
        kept(&self.folder, &self.last_good)
    }
}

/// What was last in force, for those who must know while no agent runs.
pub fn last_good(state: &Path) -> PolicySet {
    kept(Path::new(""), &state.join(LAST_GOOD))
}

/// The last good copy; losing it loses nothing but this.
fn kept(folder: &Path, last_good: &Path) -> PolicySet {
    let texts = fs::read_to_string(last_good).ok();
    let texts: Option<Texts> = texts.and_then(|json| serde_json::from_str(&json).ok());
    texts
        .and_then(|texts| load(folder, &texts).ok())
        .unwrap_or_default()
}

fn load(folder: &Path, texts: &Texts) -> Result<PolicySet, FileErrors> {
    PolicySet::load(
        texts
            .iter()
            .map(|(name, text)| (folder.join(name).display().to_string(), text)),
    )
}

/// The last part of the user's file name; without one (standard input), the first policy's name.
fn kept_name(file: &str, policies: &[EgressPolicy]) -> String {
    let path = Path::new(file);
    let is_yaml = path
        .extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml");
    match path
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|_| is_yaml)
    {
        Some(name) => name.trim_start_matches('.').to_owned(),
        None => format!(
            "{}.yaml",
            policies
                .first()
                .map_or("policy", |policy| policy.name.0.as_str())
                .replace('/', "-")
        ),
    }
}

/// A reader sees the old text or the new one, also after a crash.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // What is left of the attempt is nobody's; the error that counts is the first.
        let _ = fs::remove_file(&temporary);
        Error::file("write", path)(error)
    })
}

#[cfg(test)]
mod tests;
