//! The one spelling of a path: what policies are asked, and what the origin gets.

use std::borrow::Cow;

use super::Refused;

/// The path of a request in its one spelling, so that a policy's prefix cannot be passed by.
///
/// 1. Refused: an escape that is none, and what origins do not agree on: `%2F`, `%5C`, `%00`,
///    `\`, and `;`, behind which some servers see parameters and drop them.
/// 2. Escapes of unreserved characters (RFC 3986 §2.3) become the characters; of the others the
///    digits are in upper case (§6.2.2.1).
/// 3. Empty segments and `.` go, and `..` takes the segment before it; above the root there is
///    nothing to take. A slash at the end stays.
///
/// `path` begins with `/` and has no query. Borrowed when nothing changes. Doing it twice is doing
/// it once.
///
/// # Errors
/// [`Refused`] by the first step.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, Refused> {
    let unescaped = unescape(path)?;
    if is_normal(&unescaped) {
        return Ok(unescaped);
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut is_folder = false;
    for segment in unescaped.split('/') {
        is_folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(unescaped.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if is_folder {
        normal.push('/');
    }
    Ok(normal.into())
}

/// Whether the third step has nothing to do: one look at each slash, which most paths pass.
fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    let starts_odd = |at: usize| {
        matches!(
            &bytes[at..],
            [b'/', ..] | [b'.'] | [b'.', b'.'] | [b'.', b'/', ..] | [b'.', b'.', b'/', ..]
        )
    };
    bytes.first() == Some(&b'/')
        && !memchr::memchr_iter(b'/', bytes).any(|slash| starts_odd(slash + 1))
}

/// The first and second step.
fn unescape(path: &str) -> Result<Cow<'_, str>, Refused> {
    let bytes = path.as_bytes();
    if memchr::memchr3(b'%', b'\\', b';', bytes).is_none() {
        return Ok(path.into());
    }
    let mut out = String::with_capacity(bytes.len());
    let mut rest = path;
    while let Some(at) = memchr::memchr3(b'%', b'\\', b';', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'\\' => return Err(Refused::bad("a backslash in the path")),
            b';' => return Err(Refused::bad("a semicolon in the path")),
            _ => push_escape(&mut out, rest.as_bytes().get(at + 1..at + 3))?,
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Ok(if out == path { path.into() } else { out.into() })
}

fn push_escape(out: &mut String, digits: Option<&[u8]>) -> Result<(), Refused> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let Some([high, low]) = digits else {
        return Err(Refused::bad("an escape in the path is cut off"));
    };
    let (Some(upper), Some(lower)) = (digit(*high), digit(*low)) else {
        return Err(Refused::bad("an escape in the path is none"));
    };
    match char::from_u32(upper * 16 + lower) {
        Some('/') => Err(Refused::bad("an escaped slash in the path")),
        Some('\\') => Err(Refused::bad("an escaped backslash in the path")),
        Some('\0') => Err(Refused::bad("an escaped NUL in the path")),
        Some(c) if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~') => {
            out.push(c);
            Ok(())
        }
        _ => {
            out.push('%');
            out.push(char::from(high.to_ascii_uppercase()));
            out.push(char::from(low.to_ascii_uppercase()));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
