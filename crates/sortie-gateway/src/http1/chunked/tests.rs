//! Chunked bodies: their ends, for any split, and what is refused.

use proptest::prelude::*;

use super::*;

const BODY: &[u8] = b"5\r\nhello\r\n0aF;ext=\"v\"\r\n";

fn whole(body: &[u8]) -> Result<usize, Refused> {
    Chunked::new().read(body)
}

/// Reads a body in parts; how much of it there is, and whether it ended.
fn in_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<(usize, bool), Refused> {
    let mut chunked = Chunked::new();
    let mut length = 0;
    for part in parts {
        length += chunked.read(part)?;
    }
    Ok((length, chunked.is_done()))
}

fn example() -> Vec<u8> {
    let mut body = BODY.to_vec();
    body.extend([b'\n'; 0xaf]);
    body.extend(b"\r\n000\r\nX-Sum: 1;\t\xe9\r\nEmpty:\r\n\r\n");
    body
}

#[test]
fn a_body_ends_where_it_ends_for_every_split() {
    let mut body = example();
    let length = body.len();
    body.extend(b"GET / HTTP/1.1\r\n");
    for first in 0..=body.len() {
        let (one, other) = body.split_at(first);
        assert_eq!(in_parts([one, other]), Ok((length, true)), "{first}");
    }
    assert_eq!(in_parts(body.chunks(1)), Ok((length, true)));
    for end in 0..length {
        assert_eq!(in_parts([&body[..end]]), Ok((end, false)), "{end}");
    }
}

#[test]
fn what_is_no_chunk_is_refused() {
    let long_extension = format!("1;{}\r\n", "x".repeat(MAX_EXTENSIONS + 1));
    let long_trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(MAX_TRAILERS));
    for body in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1 ;a\r\n",
        ";a\r\n",
        "11111111111111111\r\n",
        "1\n",
        "1;a\n",
        "1;a\rb\r\n",
        "1\rx",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\rx",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\nX\r\n",
        "0\r\n: y\r\n",
        "0\r\n X: y\r\n",
        "0\r\nX: y\n",
        "0\r\nX: y\0\r\n",
        "0\r\nX : y\r\n",
        "1;\x01\r\n",
        &long_extension,
        &long_trailer,
    ] {
        assert!(whole(body.as_bytes()).is_err(), "{body:?}");
    }
    assert_eq!(whole(b"ffffffffffffffff\r\nabc"), Ok(21));
}

proptest! {
    #[test]
    fn splits_change_nothing(
        body in prop_oneof![
            prop::collection::vec(prop::sample::select(&b"0159aF;x:\r\n \n"[..]), 0..40),
            Just(example()),
        ],
        cuts in prop::collection::vec(0_usize..260, 0..5),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let parts = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]);
        prop_assert_eq!(in_parts(parts), in_parts([&body[..]]));
    }

    #[test]
    fn what_was_written_in_chunks_is_read_whole(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend(format!("{:x}\r\n", chunk.len()).bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        let length = body.len();
        body.extend(b"next");
        prop_assert_eq!(in_parts([&body[..]]), Ok((length, true)));
    }
}
