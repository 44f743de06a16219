//! What is wrong in a file: where, what, what to write instead, and how that is printed.

use std::fmt;

use serde::Serialize;

/// Longest part of a source line that is printed, in characters.
const EXCERPT: usize = 100;
/// Longest value that is repeated in a message, in characters.
const QUOTED: usize = 60;
/// Longest message and help, in characters.
const SENTENCE: usize = 400;

/// A place in a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Of the first byte.
    pub offset: usize,
    /// Zero where something is missing.
    pub len: usize,
}

/// One mistake in one file.
///
/// Printed as `FILE:LINE:COLUMN: MESSAGE`, the source line, a caret and the help; as JSON
/// it is `{file, line, column, message, help}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// As the caller named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
    /// The offending token.
    #[serde(skip)]
    pub span: Span,
    #[serde(skip)]
    excerpt: Excerpt,
}

/// Something to know of a file in which it is no mistake. Printed as `FILE:LINE: MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// As the caller named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In words.
    pub message: String,
}

/// The printable part of the source line, and where the carets go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    indent: usize,
    carets: usize,
}

/// Everything that is wrong in the files that were read; at least one problem.
///
/// Its `Display` is the text that people get, from the CLI and in the agent's log alike;
/// it ends with a line break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<String>())]
pub struct FileErrors {
    problems: Vec<Problem>,
}

impl FileErrors {
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// In the order of the files, and of their lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The files that are refused, each once, in order.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.problems.iter().map(|p| p.file.as_str()).collect();
        files.dedup();
        files
    }
}

/// What is wrong with a value, wherever it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

/// A file's name and text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'s> {
    pub(crate) file: &'s str,
    pub(crate) text: &'s str,
}

impl Source<'_> {
    pub(crate) fn problem(&self, span: Span, fault: Fault) -> Problem {
        let (line, start) = self.line_of(span.offset);
        let rest = &self.text[start..];
        let end = start + rest.find(['\n', '\r']).unwrap_or(rest.len());
        let offset = self.boundary(span.offset.clamp(start, end));
        let until = self.boundary((offset + span.len).min(end));
        let column = self.text[start..offset].chars().count() + 1;
        Problem {
            file: self.file.to_owned(),
            line,
            column,
            message: sentence(fault.message),
            help: sentence(fault.help),
            span,
            excerpt: excerpt(
                &self.text[start..end],
                column - 1,
                self.text[offset..until].chars().count(),
            ),
        }
    }

    /// The line's number from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.line_of(offset).0
    }

    /// The line's number from 1, and the offset of its first character. YAML ends a line at
    /// CR LF, LF or CR (YAML 1.2.2, 5.4).
    fn line_of(&self, offset: usize) -> (usize, usize) {
        let bytes = self.text.as_bytes();
        let mark = '\u{feff}';
        let mut line = 1;
        // A byte order mark has no width.
        let mut start = if self.text.starts_with(mark) {
            mark.len_utf8()
        } else {
            0
        };
        for at in 0..offset.min(bytes.len()) {
            if bytes[at] == b'\n' || (bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n')) {
                line += 1;
                start = at + 1;
            }
        }
        (line, start)
    }

    /// The nearest character boundary at or before `offset`.
    fn boundary(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }
}

/// Cuts a long line around its carets, and replaces what would disturb a terminal.
fn excerpt(line: &str, column: usize, carets: usize) -> Excerpt {
    let cut = column.saturating_sub(EXCERPT / 2);
    let skip = if line.chars().nth(EXCERPT).is_some() {
        cut
    } else {
        0
    };
    let text: String = line.chars().skip(skip).take(EXCERPT).map(visible).collect();
    let indent = column - skip;
    let room = text.chars().count().saturating_sub(indent);
    Excerpt {
        text: text.trim_end().to_owned(),
        indent,
        carets: carets.min(room).max(1),
    }
}

/// One column wide, and without effect on a terminal.
fn visible(c: char) -> char {
    match c {
        '\t' => '→',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A value in backquotes, as it appears in a message.
pub(crate) fn quoted(value: &str) -> String {
    if value.is_empty() {
        return "an empty string".to_owned();
    }
    format!("`{}`", shortened(value, QUOTED))
}

/// A message that quotes a value may be as long as the value, and as wild.
fn sentence(text: String) -> String {
    if text.chars().nth(SENTENCE).is_none() && text.chars().all(|c| visible(c) == c) {
        return text;
    }
    shortened(&text, SENTENCE)
}

fn shortened(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).map(visible).collect();
    if text.chars().nth(most).is_some() {
        short.push('…');
    }
    short
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file: String = self.file.chars().map(visible).collect();
        write!(f, "{file}:{}: {}", self.line, self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Excerpt {
            text,
            indent,
            carets,
        } = &self.excerpt;
        let file: String = self.file.chars().map(visible).collect();
        writeln!(f, "{file}:{}:{}: {}", self.line, self.column, self.message)?;
        writeln!(f, "{:>5} | {text}", self.line)?;
        writeln!(f, "      | {:indent$}{}", "", "^".repeat(*carets))?;
        writeln!(f, "  help: {}", self.help)
    }
}

#[cfg(test)]
mod tests;
