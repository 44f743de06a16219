//! Where a chunked body ends, byte by byte and for any split of the input (RFC 9112 §7.1).

use memchr::memchr;

use super::Refused;

/// The most bytes of one chunk's extensions.
const MAX_EXTENSIONS: usize = 256;

/// The most bytes of all trailers together.
const MAX_TRAILERS: usize = 8 * 1024;

/// Reads a chunked body as it comes. Nothing is kept of it: the bytes are forwarded as they are.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    state: State,
    /// Bytes of the present line's extensions, or of all trailers.
    bytes: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Before a chunk's size.
    #[default]
    Size,
    /// In a size, with its value so far and its number of digits.
    Digits(u64, u8),
    /// In extensions of a chunk of this size.
    Extension(u64),
    /// After the carriage return of the size's line.
    SizeEnd(u64),
    /// In data, with so many bytes to come.
    Data(u64),
    /// Behind the data.
    DataEnd,
    /// Behind the data and a carriage return.
    DataEndLine,
    /// At the beginning of a trailer's line.
    Trailer,
    /// In a trailer's name.
    Name,
    /// In a trailer's value.
    Value,
    /// After the carriage return of a trailer.
    TrailerEnd,
    /// After the carriage return of the empty line.
    LastLine,
    /// Behind the body.
    Done,
}

impl Chunked {
    /// Before a body.
    pub const fn new() -> Self {
        Self {
            state: State::Size,
            bytes: 0,
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many bytes of `input` belong to the body. All of them, unless it ends here.
    ///
    /// # Errors
    /// [`Refused`] for a size that is no number, more extensions or trailers than the limits, and
    /// lines that do not end in CR LF. Nothing of `input` should be forwarded then.
    pub fn read(&mut self, input: &[u8]) -> Result<usize, Refused> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let step = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(input.len() - at);
                at += step;
                let left = left - step as u64;
                self.state = if left == 0 {
                    State::DataEnd
                } else {
                    State::Data(left)
                };
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// The state after one byte that is no data.
    fn step(&mut self, byte: u8) -> Result<State, Refused> {
        const LINE: Refused = Refused::bad("a line of a chunked body does not end with CR LF");
        const SIZE: Refused = Refused::bad("a chunk's size is not a number");
        const TRAILER: Refused = Refused::bad("a trailer is not a field");
        Ok(match (self.state, byte) {
            (State::Size, _) => State::Digits(hexadecimal(byte).ok_or(SIZE)?, 1),
            (State::Digits(size, _) | State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Digits(size, _), b';') => {
                self.bytes = 0;
                State::Extension(size)
            }
            (State::Digits(size, digits), _) => {
                let digit = hexadecimal(byte).ok_or(SIZE)?;
                if digits == 16 {
                    return Err(SIZE);
                }
                State::Digits(size << 4 | digit, digits + 1)
            }
            (State::Extension(size), _) if is_text(byte) => {
                self.count(
                    MAX_EXTENSIONS,
                    "a chunk's extensions are larger than the limit",
                )?;
                State::Extension(size)
            }
            (State::Extension(_), _) => {
                return Err(Refused::bad("a control character in a chunk's extension"));
            }
            (State::SizeEnd(0), b'\n') => {
                self.bytes = 0;
                State::Trailer
            }
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::DataEnd, b'\r') => State::DataEndLine,
            (State::DataEnd, _) => {
                return Err(Refused::bad("a chunk is longer than its size"));
            }
            (State::DataEndLine, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::LastLine,
            (State::Name, b':') => self.trailer(State::Value)?,
            (State::Trailer | State::Name, _) if is_token(byte) => self.trailer(State::Name)?,
            (State::Value, b'\r') => State::TrailerEnd,
            (State::Value, _) if is_text(byte) => self.trailer(State::Value)?,
            (State::Trailer | State::Name | State::Value, _) => return Err(TRAILER),
            (State::TrailerEnd, b'\n') => State::Trailer,
            (State::LastLine, b'\n') => State::Done,
            (State::SizeEnd(_) | State::DataEndLine | State::TrailerEnd | State::LastLine, _) => {
                return Err(LINE);
            }
            (State::Data(_) | State::Done, _) => self.state,
        })
    }

    fn trailer(&mut self, next: State) -> Result<State, Refused> {
        self.count(MAX_TRAILERS, "trailers are larger than the limit")?;
        Ok(next)
    }

    fn count(&mut self, limit: usize, reason: &'static str) -> Result<(), Refused> {
        self.bytes += 1;
        if self.bytes > limit {
            return Err(Refused::bad(reason));
        }
        Ok(())
    }
}

fn hexadecimal(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// What a field's value may have (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// What a name may have (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || memchr(byte, b"!#$%&'*+-.^_`|~").is_some()
}

#[cfg(test)]
mod tests;
