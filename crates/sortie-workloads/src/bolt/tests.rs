//! Databases that are made by hand, page by page.

use std::fs;
use std::path::PathBuf;

use super::{BRANCH, BUCKET, Bolt, Bucket, HEADER, LEAF, MAGIC, VERSION, checksum};

const PAGE: usize = 4096;

fn page(number: u64, kind: u16, count: usize, body: &[u8]) -> Vec<u8> {
    let count = u16::try_from(count).unwrap();
    let more = u32::try_from((HEADER + body.len()).div_ceil(PAGE).max(1) - 1).unwrap();
    let mut page = number.to_ne_bytes().to_vec();
    page.extend(kind.to_ne_bytes());
    page.extend(count.to_ne_bytes());
    page.extend(more.to_ne_bytes());
    page.extend(body);
    page.resize((more as usize + 1) * PAGE, 0);
    page
}

fn number(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_ne_bytes()
}

/// Elements are (flags, key, value).
fn leaf(elements: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
    let mut heads = Vec::new();
    let mut tail = Vec::new();
    for (place, (flags, key, value)) in elements.iter().enumerate() {
        heads.extend(flags.to_ne_bytes());
        heads.extend(number((elements.len() - place) * HEADER + tail.len()));
        heads.extend(number(key.len()));
        heads.extend(number(value.len()));
        tail.extend([*key, *value].concat());
    }
    [heads, tail].concat()
}

fn branch(elements: &[(&[u8], u64)]) -> Vec<u8> {
    let mut heads = Vec::new();
    let mut tail = Vec::new();
    for (place, (key, page)) in elements.iter().enumerate() {
        heads.extend(number((elements.len() - place) * HEADER + tail.len()));
        heads.extend(number(key.len()));
        heads.extend(page.to_ne_bytes());
        tail.extend(*key);
    }
    [heads, tail].concat()
}

fn meta(number: u64, root: u64, transaction: u64) -> Vec<u8> {
    let mut meta = MAGIC.to_ne_bytes().to_vec();
    meta.extend(VERSION.to_ne_bytes());
    meta.extend(u32::try_from(PAGE).unwrap().to_ne_bytes());
    meta.extend(0_u32.to_ne_bytes());
    for number in [root, 0, 2, 9, transaction] {
        meta.extend(number.to_ne_bytes());
    }
    let sum = checksum(&meta);
    meta.extend(sum.to_ne_bytes());
    page(number, 4, 0, &meta)
}

/// A bucket's value: its root, and a sequence that nobody asks for.
fn bucket(root: u64) -> Vec<u8> {
    [root.to_ne_bytes(), [0; 8]].concat()
}

/// Two buckets: `large` is a branch with two leaves, `small` is inline.
fn database() -> Vec<u8> {
    let value = vec![b'x'; PAGE];
    let mut inline = bucket(0);
    inline.extend(&page(0, LEAF, 1, &leaf(&[(0, b"k", b"v")]))[..HEADER + HEADER + 2]);
    let root = leaf(&[(BUCKET, b"large", &bucket(4)), (BUCKET, b"small", &inline)]);
    [
        meta(0, 3, 8),
        // An older transaction, whose root is another page.
        meta(1, 2, 7),
        page(2, LEAF, 0, &[]),
        page(3, LEAF, 2, &root),
        page(4, BRANCH, 2, &branch(&[(b"a", 5), (b"m", 6)])),
        page(5, LEAF, 2, &leaf(&[(0, b"a", b"1"), (0, b"c", b"2")])),
        page(6, LEAF, 1, &leaf(&[(0, b"m", &value)])),
    ]
    .concat()
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bolt_state.db");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[tokio::test]
async fn values_are_found_in_trees_and_inline() {
    let (_folder, path) = written(&database());
    let bolt = Bolt::open(&path).await.unwrap();
    let within = |name: &[u8]| bolt.bucket(&bolt.root(), name).unwrap();
    let large = within(b"large").unwrap();
    assert_eq!(bolt.value(&large, b"c").unwrap().unwrap(), b"2");
    let overflown = bolt.value(&large, b"m").unwrap().unwrap();
    assert_eq!(overflown.len(), PAGE);
    for nowhere in [&b"0"[..], b"b", b"d", b"z"] {
        assert_eq!(bolt.value(&large, nowhere).unwrap(), None);
    }
    assert_eq!(bolt.keys(&large).unwrap(), [b"a", b"c", b"m"]);
    let small = within(b"small").unwrap();
    assert!(matches!(small, Bucket::Inline(_)));
    assert_eq!(bolt.value(&small, b"k").unwrap().unwrap(), b"v");
    assert_eq!(bolt.keys(&small).unwrap(), [b"k"]);
    assert!(within(b"other").is_none());
    assert!(bolt.bucket(&large, b"a").unwrap().is_none(), "a value");
    assert!(bolt.value(&bolt.root(), b"large").unwrap().is_none());
}

#[tokio::test]
async fn the_newest_whole_meta_page_counts() {
    let mut bytes = database();
    // Torn while it was written: the one before still stands, with an empty root.
    bytes[HEADER + 48] ^= 1;
    let (_folder, path) = written(&bytes);
    let bolt = Bolt::open(&path).await.unwrap();
    assert!(bolt.keys(&bolt.root()).unwrap().is_empty());
}

#[tokio::test]
async fn what_is_damaged_is_an_error() {
    for cut in [0, 10, PAGE] {
        let (_folder, path) = written(&database()[..cut]);
        let opened = Bolt::open(&path).await;
        let empty = opened.and_then(|bolt| bolt.keys(&bolt.root()));
        assert!(empty.is_err(), "{cut}");
    }
    // Each byte of the root, of the branch and of a leaf.
    for place in (3 * PAGE..3 * PAGE + 128).chain(4 * PAGE..4 * PAGE + 64) {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = database();
            bytes[place] ^= flip;
            let (_folder, path) = written(&bytes);
            let bolt = Bolt::open(&path).await.unwrap();
            let found = bolt.bucket(&bolt.root(), b"large");
            // Whatever it says, it comes to an end.
            if let Ok(Some(large)) = found {
                let _ = bolt.value(&large, b"m");
                let _ = bolt.keys(&large);
            }
        }
    }
}

#[tokio::test]
async fn a_writer_is_waited_for() {
    let (_folder, path) = written(&database());
    let writer = fs::File::options().write(true).open(&path).unwrap();
    writer.lock().unwrap();
    let opened = tokio::spawn({
        let path = path.clone();
        async move { Bolt::open(&path).await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    assert!(!opened.is_finished());
    writer.unlock().unwrap();
    opened.await.unwrap().unwrap();
}
