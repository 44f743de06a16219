//! What workloads were told of names, kept for the next agent: a program that has looked a name up
//! once may never do it again, and must go on leaving with the name's address.
//!
//! A line is appended before the name is in the kernel and answered. The file is in the folder that a
//! reboot empties, since a reboot ends all workloads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sortie_api::workload::WorkloadId;
use sortie_plan::planner::{Known, Planner, Told};

use crate::Error;
use crate::api::Learned;
use crate::policies::write_whole;

const FILE: &str = "names.jsonl";
/// So many lines more than twice as many as are needed, and the file is written anew.
const SLACK: usize = 16_384;

/// The file; none where nothing is kept.
#[derive(Debug, Default)]
pub struct LearnedNames {
    path: Option<PathBuf>,
    file: Option<File>,
    /// Lines that are to be written together.
    pending: String,
    lines: usize,
    /// How many of them were needed when it was written anew last.
    needed: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    workload: WorkloadId,
    pid: u32,
    name: String,
    real: IpAddr,
    answer: IpAddr,
}

impl Line {
    fn known(&self) -> Known<'_> {
        Known {
            workload: &self.workload,
            pid: self.pid,
            name: &self.name,
            real: self.real,
            answer: self.answer,
        }
    }

    fn of(known: &Known<'_>) -> Self {
        Self {
            workload: known.workload.clone(),
            pid: known.pid,
            name: known.name.to_owned(),
            real: known.real,
            answer: known.answer,
        }
    }

    fn write(&self, text: &mut String) {
        // Strings, numbers and addresses can always be written.
        text.push_str(&serde_json::to_string(self).unwrap_or_default());
        text.push('\n');
    }
}

impl LearnedNames {
    /// Those of the agent whose notes are in this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            path: Some(folder.join(FILE)),
            ..Self::default()
        }
    }

    /// Tells the planner what a former agent has told, before any workload is there. A line that its
    /// death cut off was never answered.
    pub(super) fn recall(&mut self, planner: &mut Planner) {
        let Some(path) = &self.path else {
            return;
        };
        let text = fs::read_to_string(path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(file = %path.display(), %error, "names that were looked up before are not known any more: they have to be looked up again");
            }
            String::new()
        });
        for line in text.lines() {
            if let Ok(line) = serde_json::from_str::<Line>(line) {
                planner.recall_name(line.known());
            }
        }
    }

    /// What of a look-up is new is written with the next [`LearnedNames::keep`].
    pub(super) fn note(&mut self, planner: &Planner, learned: &Learned, told: &[Told]) {
        let Some(pid) = planner.named_process(&learned.workload) else {
            return;
        };
        for told in told.iter().filter(|told| told.new) {
            let Some(answer) = told.answer else {
                continue;
            };
            self.lines += 1;
            let line = Line {
                workload: learned.workload.clone(),
                pid,
                name: learned.name.clone(),
                real: told.real,
                answer,
            };
            line.write(&mut self.pending);
        }
    }

    /// Writes what was noted.
    pub(super) fn keep(&mut self, planner: &Planner) -> Result<(), Error> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.file.is_none() || self.lines > 2 * self.needed + SLACK {
            return self.write_anew(planner);
        }
        let lines = mem::take(&mut self.pending);
        let written = match &mut self.file {
            Some(file) => file.write_all(lines.as_bytes()),
            None => Ok(()),
        };
        written.map_err(|error| {
            // Perhaps in part: the next time all is written.
            self.file = None;
            Error::file("write", path)(error)
        })
    }

    /// Writes all that the planner knows, and nothing else.
    pub(super) fn write_anew(&mut self, planner: &Planner) -> Result<(), Error> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut text = String::new();
        self.needed = 0;
        for known in planner.known_names() {
            Line::of(&known).write(&mut text);
            self.needed += 1;
        }
        self.file = None;
        write_whole(path, &text)?;
        let file = OpenOptions::new().append(true).open(path);
        self.file = Some(file.map_err(Error::file("open", path))?);
        self.lines = self.needed;
        self.pending.clear();
        Ok(())
    }

    /// Takes the file away: once nothing is led to the resolver, what is known grows old.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", path)(error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
