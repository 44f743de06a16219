//! Tables, JSON and YAML on standard output.

mod table;

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::error::CliError;
pub(crate) use table::{Columns, dash, list, table};

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    // For people.
    #[default]
    Table,
    // For programs; streams give one object a line.
    Json,
    // For both; streams give one document an item.
    Yaml,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// How to print the answer
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub(crate) format: Format,
}

impl Output {
    /// Prints one answer; `as_table` makes the text for people.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        as_table: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Table => write(&as_table(value)),
            Format::Json => write(&json(value)?),
            Format::Yaml => write(&yaml(value)?),
        }
    }

    /// Prints one item of a stream; `as_row` makes its line for people.
    pub(crate) fn item<T: Serialize>(
        self,
        value: &T,
        as_row: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Table => write(&as_row(value)),
            Format::Json => {
                let text = serde_json::to_string(value).map_err(|e| no_form("JSON", &e))?;
                write(&(text + "\n"))
            }
            Format::Yaml => write(&format!("---\n{}", yaml(value)?)),
        }
    }

    pub(crate) fn is_table(self) -> bool {
        self.format == Format::Table
    }
}

/// What somebody should know whose own wish was done, on standard error.
pub(crate) fn warn(warning: Option<&str>) {
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
    }
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| no_form("JSON", &e))?;
    Ok(text + "\n")
}

pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String, CliError> {
    let mut text = serde_saphyr::to_string(value).map_err(|e| no_form("YAML", &e))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn no_form(format: &'static str, error: &dyn std::error::Error) -> CliError {
    let detail = error.to_string();
    CliError::Format { format, detail }
}

/// All at once, so that a line of a stream is seen when it is there.
pub(crate) fn write(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::Closed,
        _ => CliError::Write(error),
    })
}
