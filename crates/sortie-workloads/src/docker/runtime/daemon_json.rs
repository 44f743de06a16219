//! The daemon's file, edited with care: everything else in it stays, in its order.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use sortie_api::workload::Engine;

use crate::Error;

const DEFAULT: &str = "default-runtime";
const RUNTIMES: &str = "runtimes";

/// The file as it was found, and as it is to be.
#[derive(Debug, Clone)]
pub(super) struct DaemonJson {
    path: PathBuf,
    /// None where there is no file yet.
    found: Option<String>,
    root: Map<String, Value>,
    before: Map<String, Value>,
}

impl DaemonJson {
    /// Reads it; a file that is not there is an empty one.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        match fs::read_to_string(path) {
            // Where it is a link, its target is edited.
            Ok(text) => Self::parse(&fs::canonicalize(path).unwrap_or(path.into()), Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::parse(path, None),
            Err(error) => Err(Error::File {
                operation: "read",
                path: path.to_owned(),
                detail: error.to_string(),
            }),
        }
    }

    fn parse(path: &Path, found: Option<String>) -> Result<Self, Error> {
        let refused = |detail: String| Error::NotInstalled {
            engine: Engine::Docker,
            why: format!("{} is not what {detail}", path.display()),
        };
        let root: Map<String, Value> = match found.as_deref() {
            None => Map::new(),
            // The daemon takes an empty file too.
            Some(text) if text.trim().is_empty() => Map::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| refused(format!("the daemon reads, a JSON object: {error}")))?,
        };
        let is_object = root.get(RUNTIMES).is_none_or(Value::is_object);
        if !is_object || root.get(DEFAULT).is_some_and(|it| !it.is_string()) {
            return Err(refused(format!(
                "it should be: {RUNTIMES:?} is an object, {DEFAULT:?} a text"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            before: root.clone(),
            found,
            root,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The default runtime's name, where the file has one.
    pub(super) fn default(&self) -> Option<&str> {
        self.root.get(DEFAULT)?.as_str()
    }

    pub(super) fn set_default(&mut self, name: Option<&str>) {
        match name {
            Some(name) => {
                self.root.insert(DEFAULT.to_owned(), name.into());
            }
            None => {
                self.root.shift_remove(DEFAULT);
            }
        }
    }

    fn runtime(&self, name: &str) -> Option<&Value> {
        self.root.get(RUNTIMES)?.get(name)
    }

    /// The program of a runtime; none for one that is a shim of containerd's.
    pub(super) fn path_of(&self, name: &str) -> Option<&str> {
        self.runtime(name)?.get("path")?.as_str()
    }

    /// What its program is given first.
    pub(super) fn arguments_of(&self, name: &str) -> Vec<String> {
        let arguments = self
            .runtime(name)
            .and_then(|it| it["runtimeArgs"].as_array());
        let words = arguments.into_iter().flatten().filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    }

    pub(super) fn set_runtime(&mut self, name: &str, entry: Value) -> Result<(), Error> {
        let runtimes = self
            .root
            .entry(RUNTIMES)
            .or_insert_with(|| Map::new().into());
        let Some(runtimes) = runtimes.as_object_mut() else {
            return Err(Error::NotInstalled {
                engine: Engine::Docker,
                why: format!("{RUNTIMES:?} in {} is no object", self.path.display()),
            });
        };
        runtimes.insert(name.to_owned(), entry);
        Ok(())
    }

    pub(super) fn remove_runtime(&mut self, name: &str) {
        if let Some(runtimes) = self.root.get_mut(RUNTIMES).and_then(Value::as_object_mut) {
            runtimes.shift_remove(name);
        }
    }

    pub(super) fn remove_empty_runtimes(&mut self) {
        let runtimes = self.root.get(RUNTIMES).and_then(Value::as_object);
        if runtimes.is_some_and(Map::is_empty) {
            self.root.shift_remove(RUNTIMES);
        }
    }

    /// As it is to be: as it was found where nothing changes, else indented as it was found.
    fn text(&self) -> String {
        if self.root == self.before
            && let Some(found) = &self.found
        {
            return found.clone();
        }
        let found = self.found.as_deref().unwrap_or_default();
        let indented = found.lines().find(|line| line.starts_with([' ', '\t']));
        let indent = indented.map_or("  ", |line| {
            &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
        });
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(indent.as_bytes());
        let written = self
            .root
            .serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
        debug_assert!(written.is_ok(), "a JSON value has a text");
        String::from_utf8_lossy(&bytes).into_owned() + "\n"
    }

    /// The lines that change, each after `-` or `+`, from the first to the last of them.
    pub(super) fn difference(&self) -> Vec<String> {
        let (old, new) = (self.found.as_deref().unwrap_or_default(), self.text());
        let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
        let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
        let head = old.iter().zip(&new).take_while(same).count();
        let (old, new) = (&old[head..], &new[head..]);
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(same);
        let tail = tail.count();
        let gone = old[..old.len() - tail]
            .iter()
            .map(|line| format!("- {line}"));
        let came = new[..new.len() - tail]
            .iter()
            .map(|line| format!("+ {line}"));
        gone.chain(came).collect()
    }

    /// Writes it, if it changes.
    pub(super) fn write(&self) -> Result<(), Error> {
        self.replace_with(&self.text())
    }

    /// Writes what was found.
    pub(super) fn put_back(&self) -> Result<(), Error> {
        match &self.found {
            Some(found) => self.replace_with(found),
            None => fs::remove_file(&self.path).map_err(|error| self.failed("remove", &error)),
        }
    }

    fn replace_with(&self, text: &str) -> Result<(), Error> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let written = fs::create_dir_all(folder).and_then(|()| replace(&self.path, text));
        written.map_err(|error| self.failed("write", &error))
    }

    fn failed(&self, operation: &'static str, error: &io::Error) -> Error {
        Error::File {
            operation,
            path: self.path.clone(),
            detail: error.to_string(),
        }
    }
}

/// Makes a file hold this text, whole or not at all, also after a crash; mode and owner stay.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.sortie"));
    let write = || {
        let mut file = File::create(&new)?;
        if let Ok(before) = fs::metadata(path) {
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
            file.set_permissions(Permissions::clone(&before.permissions()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        // What is left of the attempt is nobody's; the error that counts is the first.
        let _ = fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests;
