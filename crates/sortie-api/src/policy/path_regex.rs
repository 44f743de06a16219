//! `pathRegex`: the part of RE2's syntax that both RE2 and this program's engine read the same.

use std::fmt;
use std::hash::{Hash, Hasher};

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ast::{
    AssertionKind, Ast, ClassSetBinaryOp, ClassSetItem, Flag, Flags, FlagsItemKind, GroupKind,
    HexLiteralKind, Literal, LiteralKind, Repetition, RepetitionKind, RepetitionRange, Span,
    Visitor, parse::Parser, visit,
};
use serde::{Deserialize, Serialize};

use crate::problem::{Fault, quoted};

/// Longest expression, in bytes.
const LENGTH_MAX: usize = 1024;
/// Largest compiled expression, in bytes.
const SIZE_MAX: usize = 1 << 20;
/// Most repetitions (RE2's `kMaxRepeat`, re2/parse.cc).
const REPEAT_MAX: u32 = 1000;

/// A regular expression that a path matches as a whole, in ASCII: paths have no other characters
/// (RFC 3986).
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathRegex {
    text: String,
    /// How many characters at the beginning are fixed.
    fixed: usize,
    whole: Regex,
}

impl PathRegex {
    /// Refuses what RE2 does not read, or reads as something else; `field` is for messages.
    pub(crate) fn read(field: &str, text: &str) -> Result<Self, Fault> {
        let fault = |why: &str, help: &str| {
            Err(Fault::new(
                format!("`{field}` {} {why}", quoted(text)),
                help,
            ))
        };
        if text.is_empty() {
            return fault(
                "matches no path",
                "write an expression that begins with `/`",
            );
        }
        if text.len() > LENGTH_MAX {
            return fault("is too long", "write at most 1024 characters");
        }
        if !text.bytes().all(|c| c.is_ascii_graphic() || c == b' ') {
            let help = "paths have printable ASCII characters only: write others as `%C3%A4`";
            return fault("has characters that no path has", help);
        }
        let ast = match Parser::new().parse(text) {
            Ok(ast) => ast,
            Err(error) => {
                let why = format!("is no regular expression: {}", error.kind());
                return fault(
                    &why,
                    "write it in RE2's syntax (github.com/google/re2/wiki/Syntax)",
                );
            }
        };
        if let Err(differs) = visit(&ast, AsRe2 { text }) {
            let why = format!("has {}", differs.what);
            return fault(&why, differs.help);
        }
        let whole = RegexBuilder::new(&format!(r"\A(?:{text})\z"))
            .unicode(false)
            .size_limit(SIZE_MAX)
            .build();
        let Ok(whole) = whole else {
            return fault(
                "is too large",
                "write fewer repetitions, or several entries of `match`",
            );
        };
        Ok(Self {
            text: text.to_owned(),
            fixed: fixed(&ast),
            whole,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many characters of a path that matches are fixed from its beginning: those in front of
    /// the expression's first part that is no character.
    pub fn fixed(&self) -> usize {
        self.fixed
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        self.whole.is_match(path.as_bytes())
    }
}

/// What RE2 does not read, or reads as something else.
struct Differs {
    what: &'static str,
    help: &'static str,
}

struct AsRe2<'t> {
    text: &'t str,
}

impl Visitor for AsRe2<'_> {
    type Output = ();
    type Err = Differs;

    fn finish(self) -> Result<(), Differs> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Differs> {
        match ast {
            Ast::Flags(set) => flags(&set.flags),
            Ast::Group(group) => match &group.kind {
                GroupKind::NonCapturing(set) => flags(set),
                GroupKind::CaptureIndex(_) | GroupKind::CaptureName { .. } => Ok(()),
            },
            Ast::Literal(one) => literal(one),
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText
                | AssertionKind::WordBoundary
                | AssertionKind::NotWordBoundary => Ok(()),
                _ => differs(
                    "a word boundary that RE2 does not have",
                    "write `\\b` or `\\B`",
                ),
            },
            Ast::Repetition(repetition) => self.repetition(repetition),
            Ast::ClassUnicode(_) => unicode(),
            Ast::Empty(_)
            | Ast::Dot(_)
            | Ast::ClassPerl(_)
            | Ast::ClassBracketed(_)
            | Ast::Alternation(_)
            | Ast::Concat(_) => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Differs> {
        match item {
            ClassSetItem::Bracketed(_) => {
                differs("a class inside a class", "write `\\[` for the character")
            }
            ClassSetItem::Unicode(_) => unicode(),
            ClassSetItem::Literal(one) => literal(one),
            ClassSetItem::Range(range) => literal(&range.start).and_then(|()| literal(&range.end)),
            ClassSetItem::Empty(_)
            | ClassSetItem::Ascii(_)
            | ClassSetItem::Perl(_)
            | ClassSetItem::Union(_) => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), Differs> {
        let help = "write a `\\` before the second `&`, `-` or `~`";
        differs("`&&`, `--` or `~~` inside a class", help)
    }
}

impl AsRe2<'_> {
    fn repetition(&self, repetition: &Repetition) -> Result<(), Differs> {
        if matches!(*repetition.ast, Ast::Repetition(_)) {
            return differs(
                "a repetition of a repetition",
                "put parentheses around the inner one",
            );
        }
        let RepetitionKind::Range(range) = &repetition.op.kind else {
            return Ok(());
        };
        let Span { start, end } = repetition.op.span;
        let written = self.text.get(start.offset..end.offset).unwrap_or_default();
        let counts = written
            .bytes()
            .all(|c| c.is_ascii_digit() || b"{},?".contains(&c));
        if written.starts_with("{,") || !counts {
            return differs(
                "a repetition that RE2 takes for characters",
                "write it as `{0,3}`",
            );
        }
        let most = match range {
            RepetitionRange::Exactly(most)
            | RepetitionRange::AtLeast(most)
            | RepetitionRange::Bounded(_, most) => *most,
        };
        if most > REPEAT_MAX {
            return differs("more than 1000 repetitions", "write at most 1000");
        }
        Ok(())
    }
}

fn differs(what: &'static str, help: &'static str) -> Result<(), Differs> {
    Err(Differs { what, help })
}

fn unicode() -> Result<(), Differs> {
    differs(
        "a Unicode class",
        "paths are ASCII: write `[A-Za-z]` or the like",
    )
}

fn flags(flags: &Flags) -> Result<(), Differs> {
    let known = |kind: &FlagsItemKind| match kind {
        FlagsItemKind::Negation => true,
        FlagsItemKind::Flag(flag) => matches!(
            flag,
            Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed
        ),
    };
    if flags.items.iter().all(|item| known(&item.kind)) {
        return Ok(());
    }
    differs(
        "a flag that RE2 does not have",
        "the flags are `i`, `m`, `s` and `U`",
    )
}

fn literal(literal: &Literal) -> Result<(), Differs> {
    let known = match &literal.kind {
        LiteralKind::Verbatim
        | LiteralKind::Meta
        | LiteralKind::Special(_)
        | LiteralKind::HexFixed(HexLiteralKind::X)
        | LiteralKind::HexBrace(HexLiteralKind::X) => true,
        LiteralKind::Superfluous => literal.c != '_',
        LiteralKind::Octal | LiteralKind::HexFixed(_) | LiteralKind::HexBrace(_) => false,
    };
    if !known {
        return differs(
            "an escape that RE2 does not have",
            "write the character, or `\\x2F`",
        );
    }
    if !literal.c.is_ascii() {
        return unicode();
    }
    Ok(())
}

/// The characters at the beginning, up to the first part that is none.
fn fixed(ast: &Ast) -> usize {
    match ast {
        Ast::Literal(_) => 1,
        Ast::Concat(concat) => {
            let mut parts = concat
                .asts
                .iter()
                .skip_while(|part| matches!(part, Ast::Assertion(_)));
            let literals = parts
                .by_ref()
                .take_while(|part| matches!(part, Ast::Literal(_)));
            literals.count()
        }
        _ => 0,
    }
}

impl TryFrom<String> for PathRegex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read("pathRegex", &text).map_err(|fault| fault.message)
    }
}

impl From<PathRegex> for String {
    fn from(regex: PathRegex) -> Self {
        regex.text
    }
}

impl fmt::Debug for PathRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathRegex {}

impl PartialOrd for PathRegex {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PathRegex {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for PathRegex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests;
