//! The command line of an OCI runtime, as containerd, conmon and people write it: flags for all
//! subcommands, the subcommand, its own flags and arguments.

use std::ffi::{OsStr, OsString};

/// Flags before the subcommand whose value may be the next word: runc's and crun's.
const WITH_VALUE: [&str; 7] = [
    "log",
    "log-format",
    "log-level",
    "root",
    "criu",
    "rootless",
    "cgroup-manager",
];

/// All words, and where the subcommand is among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) all: Vec<OsString>,
    /// The subcommand's place; none without one, as in `--version`.
    verb: Option<usize>,
}

impl CommandLine {
    pub(super) fn parse(all: Vec<OsString>) -> Self {
        let mut verb = None;
        let mut words = all.iter().enumerate();
        while let Some((place, word)) = words.next() {
            let Some(flag) = flag(word) else {
                verb = Some(place);
                break;
            };
            if WITH_VALUE.contains(&flag) {
                words.next();
            }
        }
        Self { all, verb }
    }

    /// The flags for all subcommands.
    pub(super) fn globals(&self) -> &[OsString] {
        &self.all[..self.verb.unwrap_or(self.all.len())]
    }

    /// The value of one of them.
    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        let globals = self.globals();
        globals.iter().enumerate().find_map(|(place, word)| {
            let text = flag(word)?;
            if text == name {
                return globals.get(place + 1).map(OsString::as_os_str);
            }
            let value = text.strip_prefix(name)?.strip_prefix('=')?;
            Some(OsStr::new(value))
        })
    }

    /// The container that is to be started, if one is.
    pub(super) fn started(&self) -> Option<&str> {
        let verb = self.verb?;
        if self.all[verb] != "start" {
            return None;
        }
        let mut words = self.all[verb + 1..].iter();
        words.find(|word| flag(word).is_none())?.to_str()
    }
}

/// A flag without its dashes.
fn flag(word: &OsStr) -> Option<&str> {
    let word = word.to_str()?;
    word.strip_prefix("--").or_else(|| word.strip_prefix('-'))
}

#[cfg(test)]
mod tests;
