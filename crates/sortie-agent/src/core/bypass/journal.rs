//! One JSON line for each begin and end of a bypass, in a file of bounded size.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use sortie_api::workload::WorkloadId;

use super::Record;
use crate::Error;

/// In the state folder.
const FILE: &str = "bypass.log";
/// A file of that many bytes becomes `bypass.log.1`, in place of the one before.
const LARGEST: u64 = 1 << 20;

/// The file; none in a core that keeps nothing.
#[derive(Debug, Default)]
pub(super) struct Journal(PathBuf);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    time: String,
    event: &'a str,
    id: &'a WorkloadId,
    #[serde(flatten)]
    record: &'a Record,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

impl Journal {
    pub(super) fn in_folder(state: &Path) -> Self {
        Self(state.join(FILE))
    }

    /// What cannot be written is in the agent's log anyway.
    pub(super) fn write(&self, event: &str, id: &WorkloadId, record: &Record, why: Option<&str>) {
        let line = Line {
            time: Timestamp::now().to_string(),
            event,
            id,
            record,
            why,
        };
        if let Err(error) = self.append(&line) {
            tracing::warn!(%error, "a line is missing in the file of bypasses");
        }
    }

    fn append(&self, line: &Line<'_>) -> Result<(), Error> {
        let file = &self.0;
        let failed = || Error::file("write", file);
        let mut text = serde_json::to_vec(line).map_err(|error| failed()(error.into()))?;
        text.push(b'\n');
        if fs::metadata(file).is_ok_and(|known| known.len() >= LARGEST) {
            fs::rename(file, file.with_extension("log.1")).map_err(failed())?;
        }
        let mut open = fs::OpenOptions::new();
        let mut opened = open
            .create(true)
            .append(true)
            .open(file)
            .map_err(failed())?;
        opened.write_all(&text).map_err(failed())
    }
}
