//! Reads typed fields from a YAML tree and gathers everything that is wrong with them.

use crate::problem::{Fault, FileErrors, Note, Problem, Source, Span, quoted};
use crate::suggest::nearest;
use crate::yaml::{Entry, Node, Special, Value, is_null, special};

/// Problems told about one file; whoever made more mends these first.
const MAX_PROBLEMS: usize = 50;

/// What an absent list of conditions means, for the help about an empty one.
pub(crate) const ANY: &str = "; without the field there is no such condition";

pub(crate) struct Reader<'s> {
    source: Source<'s>,
    problems: Vec<Problem>,
    omitted: usize,
    notes: Vec<Note>,
}

/// The fields that a mapping may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// Read by this version.
    pub(crate) known: &'static [&'static str],
    /// Of the language, but not in this version.
    pub(crate) later: &'static [&'static str],
}

/// A mapping whose field names have been checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    names: Names,
    /// Where a missing field is reported: the mapping's own key, or its first token.
    at: Span,
}

/// A string and its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'n> {
    pub(crate) text: &'n str,
    pub(crate) span: Span,
}

impl Names {
    fn all(self) -> impl Iterator<Item = &'static str> {
        self.known.iter().chain(self.later).copied()
    }

    fn here(self) -> String {
        match self.known {
            [only] => format!("the only field here is `{only}`"),
            known => format!("fields here are {}", list(known, "and")),
        }
    }
}

impl<'n> Fields<'n> {
    pub(crate) fn get(&self, name: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|e| e.key == name)
    }

    /// A field that must be there. One that is only misspelt has been reported.
    pub(crate) fn require(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        help: &str,
    ) -> Option<&'n Entry> {
        let found = self.get(name);
        let misspelt = |e: &Entry| nearest(&e.key, self.names.all()) == Some(name);
        if found.is_none() && !reader.full() && !self.entries.iter().any(misspelt) {
            let message = format!("the field `{name}` is missing");
            reader.report(self.at, Fault::new(message, help));
        }
        found
    }

    /// Whether there is a field that this version does not support, which has been reported.
    pub(crate) fn any_later(&self) -> bool {
        self.names.later.iter().any(|name| self.get(name).is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn at(&self) -> Span {
        self.at
    }
}

impl<'s> Reader<'s> {
    pub(crate) fn new(file: &'s str, text: &'s str) -> Self {
        Self {
            source: Source { file, text },
            problems: Vec::new(),
            omitted: 0,
            notes: Vec::new(),
        }
    }

    pub(crate) fn source(&self) -> Source<'s> {
        self.source
    }

    /// Keeps a problem. The same one is kept once, though an alias may bring it up again.
    pub(crate) fn report(&mut self, span: Span, fault: Fault) {
        if self.full() {
            self.omitted += 1;
            return;
        }
        let problem = self.source.problem(span, fault);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Keeps something to know.
    pub(crate) fn note(&mut self, span: Span, message: &str) {
        self.notes.push(Note {
            file: self.source.file.to_owned(),
            line: self.source.line(span.offset),
            message: message.to_owned(),
        });
    }

    /// What there is to know, in the order in which it was noted.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// The value if nothing was reported, else all that was, in the order of the text.
    pub(crate) fn finish<T>(mut self, value: T) -> Result<T, FileErrors> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        self.problems.sort_by_key(|p| p.span.offset);
        if self.omitted > 0
            && let Some(last) = self.problems.last_mut()
        {
            last.help = format!(
                "{} (and {} problems more: mend these first)",
                last.help, self.omitted
            );
        }
        Err(FileErrors::new(self.problems))
    }

    /// Whether further problems are only counted.
    fn full(&self) -> bool {
        self.problems.len() == MAX_PROBLEMS
    }

    /// Whether anything was reported.
    pub(crate) fn failed(&self) -> bool {
        !self.problems.is_empty()
    }

    /// A mapping; `at` is where a missing field is reported, by default its first token.
    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node,
        at: Option<Span>,
        names: Names,
    ) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            // A list of a million wrong entries is not worth a million explanations.
            if self.full() {
                self.omitted += 1;
                return None;
            }
            let colon = matches!(&node.value, Value::Scalar { text, plain: true }
                if text.split_once(':').is_some_and(|(key, _)| names.known.contains(&key)));
            let help = if colon {
                "put a space behind the colon".to_owned()
            } else {
                names.here()
            };
            self.mismatch(node, "a mapping", &help);
            return None;
        };
        for entry in entries {
            self.field_name(entry, names);
        }
        Some(Fields {
            entries,
            names,
            at: at.unwrap_or(node.span),
        })
    }

    fn field_name(&mut self, entry: &Entry, names: Names) {
        let key = entry.key.as_str();
        if names.known.contains(&key) {
            return;
        }
        // Looking for a suggestion costs more than reading the field did.
        if self.full() {
            self.omitted += 1;
            return;
        }
        let known = names.here();
        if names.later.contains(&key) {
            let fault = not_in_this_version(&format!("`{key}`"), &known);
            self.report(entry.key_span, fault);
            return;
        }
        let help = match nearest(key, names.all()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => known,
        };
        self.report(
            entry.key_span,
            Fault::new(format!("unknown field {}", quoted(key)), help),
        );
    }

    /// Every key and value of a mapping of strings.
    pub(crate) fn strings<'n>(&mut self, entry: &'n Entry) -> Vec<(Text<'n>, Text<'n>)> {
        let help = format!("write `{}: {{KEY: VALUE}}`", entry.key);
        let mut strings = Vec::new();
        for pair in self.entries(entry, &help) {
            let key = Text {
                text: &pair.key,
                span: pair.key_span,
            };
            if let Some(value) = self.text(&pair.value) {
                strings.push((key, value));
            }
        }
        strings
    }

    /// The entries of a mapping that must not be empty.
    pub(crate) fn entries<'n>(&mut self, entry: &'n Entry, help: &str) -> &'n [Entry] {
        let Value::Map(entries) = &entry.value.value else {
            self.mismatch(&entry.value, "a mapping", help);
            return &[];
        };
        if entries.is_empty() {
            self.empty(entry, ANY);
        }
        entries
    }

    /// The entries of a list that must not be empty: whoever writes `[]` may mean none, and
    /// an absent field means something else, which `absent` tells.
    pub(crate) fn list<'n>(&mut self, entry: &'n Entry, absent: &str) -> &'n [Node] {
        let list = self.list_or_empty(entry);
        if matches!(&entry.value.value, Value::List(list) if list.is_empty()) {
            self.empty(entry, absent);
        }
        list
    }

    /// The entries of a list.
    pub(crate) fn list_or_empty<'n>(&mut self, entry: &'n Entry) -> &'n [Node] {
        if let Value::List(list) = &entry.value.value {
            return list;
        }
        let help = match &entry.value.value {
            Value::Scalar { text, .. } if !is_null(&entry.value) => {
                format!("write `{}: [{text}]`", entry.key)
            }
            _ => format!(
                "write each entry on a line of its own below `{}:`, behind `- `",
                entry.key
            ),
        };
        self.mismatch(&entry.value, "a list", &help);
        &[]
    }

    fn empty(&mut self, entry: &Entry, absent: &str) {
        let message = format!("`{}` is empty", entry.key);
        let help = format!("write at least one entry{absent}");
        self.report(entry.value.span, Fault::new(message, help));
    }

    /// A string, which may be empty.
    pub(crate) fn text<'n>(&mut self, node: &'n Node) -> Option<Text<'n>> {
        if let Value::Scalar { text, plain } = &node.value
            && !(*plain && special(text).is_some())
        {
            return Some(Text {
                text,
                span: node.span,
            });
        }
        let help = match &node.value {
            Value::Scalar { text, .. } if !is_null(node) => {
                format!("put quotes around it: \"{text}\"")
            }
            _ => "write a string; an empty one is \"\"".to_owned(),
        };
        self.mismatch(node, "a string", &help);
        None
    }

    /// A whole number in a range.
    pub(crate) fn integer(&mut self, entry: &Entry, least: u16, most: u16) -> Option<u16> {
        let field = &entry.key;
        let help = format!("write a whole number from {least} to {most}");
        let Value::Scalar { text, plain: true } = &entry.value.value else {
            let help = match &entry.value.value {
                Value::Scalar { text, .. } if text.parse::<u16>().is_ok() => {
                    format!("write it without quotes: `{field}: {text}`")
                }
                _ => help,
            };
            self.mismatch(&entry.value, "a number", &help);
            return None;
        };
        let value = text
            .parse::<u16>()
            .ok()
            // Neither `+1` nor `010`, which is 8 to some readers of YAML.
            .filter(|v| (least..=most).contains(v) && v.to_string() == *text);
        if value.is_none() {
            if special(text) == Some(Special::Number) {
                let message = format!("`{field}` cannot be {}", quoted(text));
                self.report(entry.value.span, Fault::new(message, help));
            } else {
                self.mismatch(&entry.value, "a number", &help);
            }
        }
        value
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, entry: &Entry) -> Option<bool> {
        match &entry.value.value {
            Value::Scalar { text, plain: true } if text == "true" => Some(true),
            Value::Scalar { text, plain: true } if text == "false" => Some(false),
            _ => {
                let help = format!("write `{0}: true` or `{0}: false`", entry.key);
                self.mismatch(&entry.value, "`true` or `false`", &help);
                None
            }
        }
    }

    /// One word of a few. Words of the language that are not in this version are in `later`.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        entry: &Entry,
        choices: &[(&str, T)],
        later: &[&str],
    ) -> Option<T> {
        let text = self.text(&entry.value)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.text) {
            return Some(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let all = format!("write {}", list(&words, "or"));
        let fault = if later.contains(&text.text) {
            not_in_this_version(&format!("`{}: {}`", entry.key, text.text), &all)
        } else {
            let help = match nearest(text.text, words.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => all,
            };
            Fault::new(
                format!("`{}` cannot be {}", entry.key, quoted(text.text)),
                help,
            )
        };
        self.report(text.span, fault);
        None
    }

    fn mismatch(&mut self, node: &Node, wanted: &str, help: &str) {
        let found = match &node.value {
            Value::Bad => return,
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar { text, plain } => match special(text).filter(|_| *plain) {
                Some(Special::Null) => {
                    let message = format!("there is no value here, where {wanted} is meant");
                    self.report(node.span, Fault::new(message, help));
                    return;
                }
                Some(Special::Boolean) => format!("{} is a boolean", quoted(text)),
                Some(Special::Number) => format!("{} is a number", quoted(text)),
                None => format!("{} is a string", quoted(text)),
            },
        };
        let found = match node.value {
            Value::Scalar { .. } => found,
            _ => format!("this is {found}"),
        };
        self.report(
            node.span,
            Fault::new(format!("{found}, where {wanted} is meant"), help),
        );
    }
}

/// Words in backquotes, the last behind `and` or `or`.
pub(crate) fn list(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [word] => format!("`{word}`"),
        [words @ .., word] => format!("`{}` {last} `{word}`", words.join("`, `")),
    }
}

/// For what the language has, and this version does not.
pub(crate) fn not_in_this_version(what: &str, help: &str) -> Fault {
    Fault::new(
        format!("{what} is not supported by this version of Sortie"),
        help,
    )
}
