//! YAML text as a tree in which every value knows its place.
//!
//! The tree is built from the parser's events, not through serde: only so a file's problems
//! can all be told at once, each with its place, and `1` be told from `"1"`.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError};

use crate::problem::{Fault, Span, quoted};
use crate::reader::Reader;

/// Largest file that is read, in bytes: about 10,000 policies.
const MAX_FILE: usize = 4 << 20;
/// Deepest nesting; a policy needs seven levels.
const MAX_DEPTH: usize = 32;
/// Nodes that all aliases of a file may stand for.
const MAX_ALIASED: usize = 10_000;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// A scalar whole; a list or mapping by its first token.
    pub(crate) span: Span,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Already reported; nothing more is said about it.
    Bad,
}

/// One field of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// What a plain scalar means that is no string in YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Null,
    Boolean,
    Number,
}

/// The YAML 1.2 core schema, and what YAML 1.1 readers (Kubernetes) take for booleans.
pub(crate) fn special(text: &str) -> Option<Special> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Special::Null),
        _ => {}
    }
    let lower = text.get(..text.len().min(6))?.to_ascii_lowercase();
    if lower.len() == text.len() && ["true", "false", "yes", "no", "on", "off"].contains(&&*lower) {
        return Some(Special::Boolean);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.replace('_', "");
    let radix = |prefix: &str, radix: u32| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(radix)))
    };
    let number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && (digits.parse::<f64>().is_ok()
            || radix("0x", 16)
            || radix("0o", 8)
            || radix("0b", 2)
            || [".inf", ".nan"].contains(&&*digits.to_ascii_lowercase()));
    number.then_some(Special::Number)
}

/// The file's documents, empty ones left out. Syntax errors, duplicate keys and whatever
/// else is no plain data are reported; after a syntax error, the documents before it are
/// returned.
pub(crate) fn documents(reader: &mut Reader<'_>) -> Vec<Node> {
    let text = reader.source().text;
    if text.len() > MAX_FILE {
        reader.report(
            Span { offset: 0, len: 0 },
            Fault::new(
                format!(
                    "the file has {} bytes; at most {MAX_FILE} are read",
                    text.len()
                ),
                "split it into several files",
            ),
        );
        return Vec::new();
    }
    let mut options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        disallow_directives: true,
    };
    options.set_emit_comments(false);
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        reader,
        anchors: BTreeMap::new(),
        aliased: 0,
    };
    let mut documents = Vec::new();
    while let Ok(event) = builder.next() {
        match event {
            (Event::StreamEnd, _) => break,
            (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
            (event, span) => match builder.node(event, span, 0) {
                Ok(node) => documents.push(node),
                Err(Stop) => break,
            },
        }
    }
    documents.retain(|node| !is_null(node));
    documents
}

/// A field without a value, or an empty document.
pub(crate) fn is_null(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if special(text) == Some(Special::Null))
}

/// The rest of the file cannot be read; the reason is reported.
struct Stop;

struct Builder<'s, 'r> {
    parser: Parser<'s, granit_parser::StrInput<'s>>,
    reader: &'r mut Reader<'s>,
    /// Finished anchored nodes, with the number of nodes in each and their depth.
    anchors: BTreeMap<usize, (Node, usize, usize)>,
    aliased: usize,
}

impl<'s> Builder<'s, '_> {
    fn next(&mut self) -> Result<(Event<'s>, Span), Stop> {
        match self.parser.next() {
            None => Err(Stop),
            Some(Ok((event, span))) => {
                let range = span.byte_range().unwrap_or_default();
                let span = Span {
                    offset: range.start,
                    len: range.len(),
                };
                Ok((event, span))
            }
            Some(Err(error)) => {
                let (span, fault) = syntax(self.reader.source().text, &error);
                self.reader.report(span, fault);
                Err(Stop)
            }
        }
    }

    fn node(&mut self, event: Event<'s>, span: Span, depth: usize) -> Result<Node, Stop> {
        if depth > MAX_DEPTH {
            return self.too_deep(span);
        }
        let (value, span, anchor, tagged) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = Value::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                (value, span, anchor, tag.is_some())
            }
            Event::SequenceStart(_, anchor, tag) => {
                (self.list(depth)?, first(span), anchor, tag.is_some())
            }
            Event::MappingStart(_, anchor, tag) => {
                let (value, key) = self.map(depth)?;
                // A block mapping has no token of its own.
                let span = if span.len == 0 {
                    key.unwrap_or(span)
                } else {
                    first(span)
                };
                (value, span, anchor, tag.is_some())
            }
            Event::Alias(anchor) => return self.alias(anchor, span, depth),
            // No other event starts a node.
            _ => (Value::Bad, span, 0, false),
        };
        let mut node = Node { span, value };
        if tagged {
            self.reader.report(
                node.span,
                Fault::new(
                    "a tag (`!…`) has no meaning here",
                    "remove the tag; put quotes around the value if it is meant as a string",
                ),
            );
            node.value = Value::Bad;
        }
        if anchor != 0 {
            let (nodes, height) = (count(&node), height(&node));
            self.anchors.insert(anchor, (node.clone(), nodes, height));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Stop> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(list)),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    /// The mapping, and the place of its first key.
    fn map(&mut self, depth: usize) -> Result<(Value, Option<Span>), Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut first_key = None;
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok((Value::Map(entries), first_key));
            }
            let key = self.node(event, span, depth + 1)?;
            first_key = first_key.or(Some(key.span));
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            match key.value {
                Value::Scalar { text, plain } if text == "<<" && plain => self.reader.report(
                    key.span,
                    Fault::new("merge keys (`<<`) are not read", "write the fields out"),
                ),
                Value::Scalar { text, plain } => {
                    let before = seen.get(&text);
                    let line = before.map(|offset| self.reader.source().line(*offset));
                    if let Some(fault) = key_fault(&text, plain, line) {
                        self.reader.report(key.span, fault);
                    }
                    if line.is_none() {
                        seen.insert(text.clone(), key.span.offset);
                        entries.push(Entry {
                            key: text,
                            key_span: key.span,
                            value,
                        });
                    }
                }
                Value::Bad => {}
                Value::List(_) | Value::Map(_) => self.reader.report(
                    key.span,
                    Fault::new("a key must be a string", "write `KEY: VALUE`"),
                ),
            }
        }
    }

    fn alias(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, Stop> {
        let Some((node, nodes, height)) = self.anchors.get(&anchor) else {
            self.reader.report(
                span,
                Fault::new(
                    "an alias inside its own anchor never ends",
                    "write the value out",
                ),
            );
            return Ok(Node {
                span,
                value: Value::Bad,
            });
        };
        self.aliased += nodes;
        if self.aliased > MAX_ALIASED {
            let message = format!("the file's aliases stand for more than {MAX_ALIASED} values");
            self.reader
                .report(span, Fault::new(message, "write the values out"));
            return Err(Stop);
        }
        if depth + height > MAX_DEPTH {
            return self.too_deep(span);
        }
        Ok(node.clone())
    }

    fn too_deep(&mut self, span: Span) -> Result<Node, Stop> {
        self.reader.report(first(span), too_deep());
        Err(Stop)
    }
}

fn too_deep() -> Fault {
    let message = format!("more than {MAX_DEPTH} levels of nesting");
    Fault::new(
        message,
        "no field is nested that deeply; remove some levels",
    )
}

/// `before` is the line in which the key was written already.
fn key_fault(key: &str, plain: bool, before: Option<usize>) -> Option<Fault> {
    if let Some(line) = before {
        let message = format!("{} is written twice here", quoted(key));
        let help = format!("remove this one or the one in line {line}");
        return Some(Fault::new(message, help));
    }
    let other = plain && special(key).is_some();
    let help = format!("put quotes around it: \"{key}\"");
    other.then(|| Fault::new("a key must be a string", help))
}

/// The first character of a span.
fn first(span: Span) -> Span {
    Span {
        len: span.len.min(1),
        ..span
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(list) => list.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|e| count(&e.value)).sum(),
        Value::Scalar { .. } | Value::Bad => 0,
    }
}

fn height(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(list) => list.iter().map(height).max().unwrap_or(0),
        Value::Map(entries) => entries.iter().map(|e| height(&e.value)).max().unwrap_or(0),
        Value::Scalar { .. } | Value::Bad => 0,
    }
}

/// A syntax error in words for those who write policies.
fn syntax(text: &str, error: &ScanError) -> (Span, Fault) {
    let offset = error
        .marker()
        .byte_offset()
        .unwrap_or_default()
        .min(text.len());
    // Nothing is at the end of the text.
    let character = text.get(offset..).and_then(|rest| rest.chars().next());
    let len = character.map_or(0, char::len_utf8);
    let span = Span { offset, len };
    let help = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar => {
            // The parser may have gone past it.
            let tab = text.as_bytes().get(offset) == Some(&b'\t');
            let before = text.get(..offset).and_then(|t| t.rfind('\t'));
            let offset = before.filter(|_| !tab).unwrap_or(offset);
            let fault = Fault::new("a tab where YAML wants spaces", "indent with spaces");
            return (Span { offset, len: 1 }, fault);
        }
        ErrorKind::RecursionLimitExceeded => return (span, too_deep()),
        ErrorKind::UnknownAnchor | ErrorKind::MissingAnchorOrAliasName => {
            "put quotes around a value that begins with `*` or `&`, such as \"*\""
        }
        ErrorKind::UnexpectedCharacter { .. } | ErrorKind::BlockEntryInFlowCollection => {
            "put quotes around a value that begins with this character"
        }
        ErrorKind::UnclosedQuotedScalar
        | ErrorKind::InvalidTrailingSingleQuotedScalar
        | ErrorKind::InvalidTrailingDoubleQuotedScalar => "close the quotes around the value",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::MismatchedFlowCollectionEnd { .. }
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator => {
            "each `[` needs its `]`, each `{` its `}`, and a comma stands between two values"
        }
        ErrorKind::DirectiveDisallowed => "remove the line that begins with `%`",
        ErrorKind::MappingValueNotAllowed => {
            "put quotes around a value that contains `: `, and give each field a line of its own"
        }
        _ => {
            "check the indentation: fields of one mapping begin in one column, `KEY: VALUE` with a space behind the colon"
        }
    };
    (
        span,
        Fault::new(format!("not YAML: {}", error.kind()), help),
    )
}

#[cfg(test)]
mod tests;
