//! Field lines of a head: where each is, which are forwarded, and which are for one connection only.

use std::mem::MaybeUninit;

use httparse::Header;

use super::{MAX_FIELDS, Refused, Version};

/// Room for the fields of one head, so that reading one allocates nothing.
pub struct FieldSpace<'a>(pub(super) [MaybeUninit<Header<'a>>; MAX_FIELDS]);

impl FieldSpace<'_> {
    /// Empty room.
    pub const fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; MAX_FIELDS])
    }
}

impl Default for FieldSpace<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The fields of a head, as they came, and which of them go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields<'h, 'a> {
    input: &'a [u8],
    headers: &'h [Header<'a>],
    /// One bit for each field that goes on.
    kept: u128,
    /// Where the fields end: the empty line.
    end: usize,
}

impl<'h, 'a> Fields<'h, 'a> {
    /// All fields kept. `input` is the whole head, `headers` slices of it.
    pub(super) fn new(input: &'a [u8], headers: &'h [Header<'a>]) -> Self {
        Self {
            input,
            headers,
            kept: u128::MAX,
            end: input.len() - 2,
        }
    }

    pub(super) fn headers(&self) -> &'h [Header<'a>] {
        self.headers
    }

    pub(super) fn remove(&mut self, index: usize) {
        self.kept &= !(1 << index);
    }

    fn is_kept(&self, index: usize) -> bool {
        self.kept & (1 << index) != 0
    }

    /// Values of the fields of a name that go on, in their order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .enumerate()
            .filter(move |(index, header)| {
                self.is_kept(*index) && header.name.eq_ignore_ascii_case(name)
            })
            .map(|(_, header)| header.value)
    }

    /// Where the first field begins, which is where the start line ends.
    pub(super) fn start(&self) -> usize {
        self.headers
            .first()
            .map_or(self.end, |header| self.offset(header))
    }

    fn offset(&self, header: &Header<'a>) -> usize {
        header.name.as_ptr() as usize - self.input.as_ptr() as usize
    }

    /// Where a field's line begins, and where the next one does.
    fn line(&self, index: usize) -> (usize, usize) {
        let next = self.headers.get(index + 1);
        let end = next.map_or(self.end, |header| self.offset(header));
        (self.offset(&self.headers[index]), end)
    }

    /// Appends the lines that go on, each as it came. The field at `replaced` becomes `line`.
    pub(super) fn write(&self, out: &mut Vec<u8>, replaced: Option<usize>, line: &[&[u8]]) {
        // Neighbours are one copy.
        let mut run: Option<(usize, usize)> = None;
        for index in 0..self.headers.len() {
            let is_replaced = replaced == Some(index);
            if self.is_kept(index) && !is_replaced {
                let (start, end) = self.line(index);
                run = Some((run.map_or(start, |(first, _)| first), end));
                continue;
            }
            if let Some((start, end)) = run.take() {
                out.extend_from_slice(&self.input[start..end]);
            }
            if is_replaced {
                out.extend(line.concat());
            }
        }
        if let Some((start, end)) = run {
            out.extend_from_slice(&self.input[start..end]);
        }
    }
}

/// Fields that `Connection` names wherever they are meant: they are looked at by their own.
const APART: [&[u8]; 2] = [b"te", b"upgrade"];

fn is_one_of(option: &[u8], names: &[&[u8]]) -> bool {
    names.iter().any(|name| option.eq_ignore_ascii_case(name))
}

/// What a head says about its own connection, gathered field by field.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "options of a field, each there or not"
)]
pub(super) struct Hop {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// A `Connection` field names other fields.
    names: bool,
}

impl Hop {
    /// Whether the connection can go on after this message (RFC 9112 §9.3).
    pub(super) fn persists(self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    /// Reads the value of a `Connection` field.
    pub(super) fn read(&mut self, value: &[u8]) {
        for option in tokens(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !is_one_of(option, &APART) {
                self.names = true;
            }
        }
    }

    /// Removes the fields that `Connection` names. Those that say where a message goes or ends are
    /// not a connection's own (RFC 9110 §7.6.1); naming them is an attack.
    pub(super) fn remove_named(self, fields: &mut Fields<'_, '_>) -> Result<(), Refused> {
        const ESSENTIAL: [&[u8]; 4] = [
            b"host",
            b"content-length",
            b"transfer-encoding",
            b"content-type",
        ];
        if !self.names {
            return Ok(());
        }
        let headers = fields.headers();
        let options = headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("connection"))
            .flat_map(|header| tokens(header.value));
        for option in options.filter(|option| !is_one_of(option, &APART)) {
            if is_one_of(option, &ESSENTIAL) {
                return Err(Refused::bad(
                    "Connection names a field that is not the connection's own",
                ));
            }
            for (index, header) in headers.iter().enumerate() {
                if header.name.as_bytes().eq_ignore_ascii_case(option) {
                    fields.remove(index);
                }
            }
        }
        Ok(())
    }
}

/// The elements of a list, without spaces around them; empty ones left out (RFC 9110 §5.6.1).
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Whether a field is for one connection only, by its name alone. `Connection`, `TE` and `Upgrade`
/// are looked at by their own.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let starts_with_proxy = || {
        name.get(..6)
            .is_some_and(|start| start.eq_ignore_ascii_case("proxy-"))
    };
    match name.len() {
        10 if is("keep-alive") => true,
        // For whoever comes next (RFC 9209).
        12 if is("proxy-status") => false,
        14 if is("http2-settings") => true,
        _ => starts_with_proxy(),
    }
}

/// A `Content-Length`: digits only, and a number that a body can have (RFC 9112 §6.2).
pub(super) fn content_length(value: &[u8]) -> Result<u64, Refused> {
    let wrong = Refused::bad("Content-Length is not a number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    let text = std::str::from_utf8(value).map_err(|_| wrong)?;
    text.parse().map_err(|_| wrong)
}
