//! Policy files as users name them: files, folders, and `-` for standard input.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sortie_agent::api::{File, Files};
use sortie_api::policy::PolicySet;

use crate::error::CliError;

/// Largest policy file, in bytes.
const LARGEST: u64 = 16 << 20;
/// How standard input is called in messages.
const STDIN: &str = "<stdin>";

/// Reads what the user named; a folder gives its `*.yaml`, by name.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<File>, CliError> {
    let mut files = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            files.push(File {
                name: STDIN.to_owned(),
                text: text(Path::new(STDIN), io::stdin())?,
            });
        } else if path.is_dir() {
            for path in folder(path)? {
                files.push(file(&path)?);
            }
        } else {
            files.push(file(path)?);
        }
    }
    Ok(files)
}

/// Reads and checks, so that mistakes show without an agent and nothing wrong is sent.
pub(crate) fn checked(paths: &[PathBuf]) -> Result<(Files, PolicySet), CliError> {
    let mut files = read(paths)?;
    let set = PolicySet::load(files.iter().map(|file| (&file.name, &file.text)))?;
    for (file, parsed) in files.iter_mut().zip(&set.files) {
        // The agent keeps it by a name; the first policy's is as good as any.
        if let (STDIN, Some(policy)) = (file.name.as_str(), parsed.policies.first()) {
            file.name = format!("{}.yaml", policy.name.0.replace('/', "-"));
        }
    }
    unique(&files)?;
    tell_notes(&set);
    Ok((Files { files }, set))
}

/// What whoever wrote a file should know, on standard error: it is no part of any answer.
pub(crate) fn tell_notes(set: &PolicySet) {
    for note in set.files.iter().flat_map(|file| &file.notes) {
        eprintln!("note: {note}");
    }
}

/// The last part of a name is what the agent keeps the file by.
fn unique(files: &[File]) -> Result<(), CliError> {
    let mut kept: BTreeMap<&OsStr, &Path> = BTreeMap::new();
    for file in files {
        let path = Path::new(&file.name);
        let name = path.file_name().unwrap_or(path.as_os_str());
        if let Some(first) = kept.insert(name, path) {
            return Err(CliError::SameName {
                first: first.to_owned(),
                second: path.to_owned(),
                name: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    let failed = |source| CliError::Read {
        path: path.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension() == Some(OsStr::new("yaml")) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(CliError::EmptyFolder {
            path: path.to_owned(),
        });
    }
    paths.sort();
    Ok(paths)
}

fn file(path: &Path) -> Result<File, CliError> {
    let opened = fs::File::open(path).map_err(|source| CliError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(File {
        name: path.to_string_lossy().into_owned(),
        text: text(path, opened)?,
    })
}

fn text(path: &Path, from: impl Read) -> Result<String, CliError> {
    let path = path.to_owned();
    let mut text = String::new();
    match from.take(LARGEST + 1).read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > LARGEST => Err(CliError::TooLarge {
            path,
            limit: LARGEST,
        }),
        Ok(_) => Ok(text),
        Err(source) => Err(CliError::Read { path, source }),
    }
}
