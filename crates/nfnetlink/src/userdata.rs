//! User data: comments and type names that nft keeps in the kernel beside its objects.
//!
//! A run of type, length, value, one byte each but the value (libnftnl's `udata.h`). The
//! kernel stores up to 256 bytes and does not look inside.

/// The comment's type number in tables, chains and objects.
pub(crate) const OBJECT_COMMENT: u8 = 0;
/// The comment's type number in rules and elements.
pub(crate) const RULE_COMMENT: u8 = 0;
/// The comment's type number in sets.
pub(crate) const SET_COMMENT: u8 = 7;
/// The byte order of a set's key: 1 host, 2 network (nft's `enum byteorder`).
pub(crate) const SET_KEY_BYTEORDER: u8 = 0;
/// The byte order of a map's data.
pub(crate) const SET_DATA_BYTEORDER: u8 = 1;

/// The longest comment nft writes and reads, in bytes (`NFTNL_UDATA_COMMENT_MAXLEN`).
pub const COMMENT_MAX: usize = 128;

/// Appends a comment with its terminating NUL, cut to the length nft accepts.
pub(crate) fn push_comment(userdata: &mut Vec<u8>, kind: u8, comment: &str) {
    let mut end = comment.len().min(COMMENT_MAX - 1);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let text = comment.get(..end).unwrap_or_default();
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    push(userdata, kind, &value);
}

/// Appends one item; values too long for their length byte are left out.
pub(crate) fn push(userdata: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if let Ok(len) = u8::try_from(value.len()) {
        userdata.extend([kind, len]);
        userdata.extend(value);
    }
}

/// The comment in `userdata`, if there is one.
pub(crate) fn comment(userdata: &[u8], kind: u8) -> Option<String> {
    let value = items(userdata).find_map(|(found, value)| (found == kind).then_some(value))?;
    let text = value.split(|&byte| byte == 0).next().unwrap_or(&[]);
    Some(String::from_utf8_lossy(text).into_owned())
}

fn items(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, len], behind) = rest.split_first_chunk::<2>()?;
        let (value, next) = behind.split_at_checked(usize::from(len))?;
        rest = next;
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests;
