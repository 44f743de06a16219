//! The end of a head, found line by line: every line must end with CR LF, and nothing else may.

use memchr::{memchr, memchr2};

use super::{Limits, Parsed, Refused};

const TOO_LARGE: Refused = Refused {
    status: 431,
    reason: "the head is larger than the limit",
};

/// How many bytes of empty lines stand before a start line (RFC 9112 §2.2). Two lines at most: some
/// old clients send one after a body.
pub(super) fn empty_lines(input: &[u8]) -> usize {
    let is_empty = |start: usize| input.get(start..start + 2) == Some(b"\r\n");
    match (is_empty(0), is_empty(2)) {
        (false, _) => 0,
        (true, false) => 2,
        (true, true) => 4,
    }
}

/// The head's length with its empty line.
///
/// 1. A line feed without a carriage return before it is refused, and so is a carriage return
///    without a line feed after it: some readers take either for the end of a line.
/// 2. An empty line is the end.
/// 3. A head that is larger than the limit is refused, complete or not.
pub(super) fn head_length(input: &[u8], limits: Limits) -> Parsed<usize> {
    let mut line = 0;
    while let Some(length) = memchr2(b'\r', b'\n', &input[line..]) {
        let end = line + length;
        match (input[end], input.get(end + 1)) {
            (b'\r', Some(b'\n')) => {}
            (b'\r', None) => break,
            (b'\r', Some(_)) => {
                return Parsed::Refused(Refused::bad("a carriage return without a line feed"));
            }
            _ => return Parsed::Refused(Refused::bad("a line feed without a carriage return")),
        }
        if end + 2 > limits.head {
            return Parsed::Refused(TOO_LARGE);
        }
        if length == 0 {
            return Parsed::Head(end + 2);
        }
        line = end + 2;
    }
    if input.len() >= limits.head {
        return Parsed::Refused(TOO_LARGE);
    }
    // A NUL is never part of a head, and bytes that are none would else be waited for.
    if memchr(0, &input[line..]).is_some() {
        return Parsed::Refused(Refused::bad("a NUL in the head"));
    }
    Parsed::Incomplete
}

/// What `httparse` has found in a head, in our words.
pub(super) fn refusal(error: httparse::Error, head: &[u8]) -> Refused {
    use httparse::Error;
    let reason = match error {
        Error::HeaderName => {
            "a field's name is not a token: folded lines and spaces around names are refused"
        }
        Error::HeaderValue => "a control character in a field's value",
        Error::NewLine => "a line does not end with CR LF",
        Error::Status => "the status line cannot be read",
        Error::Token => "the request line cannot be read",
        Error::TooManyHeaders => {
            return Refused {
                status: 431,
                reason: "more fields than the limit",
            };
        }
        Error::Version if !names_a_version(head) => "the start line has not three parts",
        Error::Version => {
            return Refused {
                status: 505,
                reason: "neither HTTP/1.1 nor HTTP/1.0",
            };
        }
    };
    Refused::bad(reason)
}

/// Whether the start line has `HTTP/2.0` or the like at its beginning or end.
fn names_a_version(head: &[u8]) -> bool {
    let end = memchr(b'\r', head).unwrap_or(head.len());
    let words: Vec<&[u8]> = head[..end].split(|byte| *byte == b' ').collect();
    words.len() == 3
        && [words[0], words[2]]
            .iter()
            .any(|word| word.starts_with(b"HTTP/"))
}
