//! A look into a `BoltDB` file, the database that Podman keeps its containers in: buckets within
//! buckets, each a tree of pages with sorted keys (go.etcd.io/bbolt, page.go and bucket.go).

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// What both meta pages begin with, after the page's own header.
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// The headers of a page, of a bucket, and of each element of a page, in bytes.
const HEADER: usize = 16;
/// Kinds of pages.
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// An element of a leaf whose value is a bucket.
const BUCKET: u32 = 1;
/// The first meta page is at 0, the second one page behind it; pages have 1 KiB to 16 MiB.
const PAGES: std::ops::RangeInclusive<u32> = 10..=24;
/// Of a page with its overflow, and so of a value: a damaged file must not ask for more, in bytes.
const LARGEST: usize = 16 << 20;
/// Levels of a tree.
const DEEPEST: usize = 32;
/// How long somebody else's change may take. Podman opens the file for each one, and closes it again.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// An open database that nobody changes meanwhile.
#[derive(Debug)]
pub(crate) struct Bolt {
    file: File,
    page_size: u64,
    root: u64,
}

/// A bucket: its tree, or its one page where that is small.
#[derive(Debug)]
pub(crate) enum Bucket {
    Tree(u64),
    Inline(Vec<u8>),
}

/// An element of a leaf.
struct Element<'a> {
    is_bucket: bool,
    key: &'a [u8],
    value: &'a [u8],
}

impl Bolt {
    /// Waits until nobody writes, with the lock that writers hold: `flock` on the file itself.
    pub(crate) async fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let begin = Instant::now();
        while let Err(error) = file.try_lock_shared() {
            match error {
                TryLockError::Error(error) => return Err(error),
                TryLockError::WouldBlock if begin.elapsed() > LIMIT => {
                    let why = format!("another process has locked it for {} s", LIMIT.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                TryLockError::WouldBlock => tokio::time::sleep(PAUSE).await,
            }
        }
        let places = std::iter::once(0).chain(PAGES.map(|bits| 1 << bits));
        let metas = places.filter_map(|place| meta(&file, place));
        let (_, page_size, root) = metas
            .max_by_key(|(transaction, ..)| *transaction)
            .ok_or_else(|| damaged("it has no meta page"))?;
        Ok(Self {
            file,
            page_size,
            root,
        })
    }

    /// The bucket that all others are in.
    pub(crate) fn root(&self) -> Bucket {
        Bucket::Tree(self.root)
    }

    /// A bucket within a bucket; none where there is none of that name.
    pub(crate) fn bucket(&self, within: &Bucket, name: &[u8]) -> io::Result<Option<Bucket>> {
        self.find(within, name, |element| {
            if !element.is_bucket {
                return Ok(None);
            }
            let root = u64_at(element.value, 0)?;
            let inline = || Bucket::Inline(element.value[HEADER..].to_vec());
            Ok(Some(if root == 0 {
                inline()
            } else {
                Bucket::Tree(root)
            }))
        })
    }

    /// The value of a key; none where there is none.
    pub(crate) fn value(&self, within: &Bucket, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.find(within, key, |element| {
            Ok((!element.is_bucket).then(|| element.value.to_vec()))
        })
    }

    /// All keys, in their order.
    pub(crate) fn keys(&self, within: &Bucket) -> io::Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        match within {
            Bucket::Inline(page) => keys_of(page, &mut keys)?,
            Bucket::Tree(root) => self.collect(*root, DEEPEST, &mut keys)?,
        }
        Ok(keys)
    }

    fn collect(&self, page: u64, levels: usize, keys: &mut Vec<Vec<u8>>) -> io::Result<()> {
        let page = self.page(page)?;
        if kind(&page)? == LEAF {
            return keys_of(&page, keys);
        }
        let deeper = levels.checked_sub(1).ok_or_else(too_deep)?;
        for place in 0..count(&page)? {
            self.collect(branch(&page, place)?.1, deeper, keys)?;
        }
        Ok(())
    }

    /// From the bucket's root down to the one leaf that may have the key: a branch's key is the
    /// lowest of its page.
    fn find<T>(
        &self,
        within: &Bucket,
        key: &[u8],
        found: impl FnOnce(&Element<'_>) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let mut page = match within {
            Bucket::Inline(page) => page.clone(),
            Bucket::Tree(root) => self.page(*root)?,
        };
        for _ in 0..DEEPEST {
            if kind(&page)? == LEAF {
                for place in 0..count(&page)? {
                    let element = leaf(&page, place)?;
                    if element.key == key {
                        return found(&element);
                    }
                }
                return Ok(None);
            }
            let mut next = None;
            for place in 0..count(&page)? {
                let (lowest, below) = branch(&page, place)?;
                if lowest > key && next.is_some() {
                    break;
                }
                next = Some(below);
            }
            page = self.page(next.ok_or_else(|| damaged("a branch without pages"))?)?;
        }
        Err(too_deep())
    }

    /// A page, with the ones that it flows over into.
    fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        let place = number.checked_mul(self.page_size);
        let place = place.ok_or_else(|| damaged("a page is nowhere"))?;
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, place)?;
        let more = u64::from(u32_at(&header, 12)?);
        let size = usize::try_from((more + 1).saturating_mul(self.page_size)).unwrap_or(LARGEST);
        if size >= LARGEST {
            return Err(damaged("a page is too large"));
        }
        let mut page = vec![0; size];
        self.file.read_exact_at(&mut page, place)?;
        Ok(page)
    }
}

/// Transaction, page size and root of the meta page at this place, if one is there and whole.
fn meta(file: &File, place: u64) -> Option<(u64, u64, u64)> {
    let mut page = [0; HEADER + 64];
    file.read_exact_at(&mut page, place).ok()?;
    let meta = &page[HEADER..];
    let is_meta = u32_at(meta, 0).ok()? == MAGIC && u32_at(meta, 4).ok()? == VERSION;
    let whole = u64_at(meta, 56).ok()? == checksum(&meta[..56]);
    let numbers = || {
        let size = u64::from(u32_at(meta, 8).ok()?);
        Some((u64_at(meta, 48).ok()?, size, u64_at(meta, 16).ok()?))
    };
    (is_meta && whole).then(numbers)?
}

/// FNV-1a, 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn kind(page: &[u8]) -> io::Result<u16> {
    match u16_at(page, 8)? {
        kind @ (BRANCH | LEAF) => Ok(kind),
        _ => Err(damaged("a page is of no kind")),
    }
}

fn count(page: &[u8]) -> io::Result<usize> {
    Ok(usize::from(u16_at(page, 10)?))
}

fn keys_of(page: &[u8], keys: &mut Vec<Vec<u8>>) -> io::Result<()> {
    for place in 0..count(page)? {
        keys.push(leaf(page, place)?.key.to_vec());
    }
    Ok(())
}

/// Flags, place (counted from the element itself), size of key and value.
fn leaf(page: &[u8], place: usize) -> io::Result<Element<'_>> {
    let element = HEADER + place * HEADER;
    let number = |at| Ok::<_, io::Error>(u32_at(page, element + at)? as usize);
    let key = element + number(4)?;
    let value = key + number(8)?;
    let end = value + number(12)?;
    let is_bucket = u32_at(page, element)? & BUCKET != 0;
    let value_of = page.get(value..end).ok_or_else(out_of_page)?;
    if is_bucket && value_of.len() < HEADER {
        return Err(out_of_page());
    }
    Ok(Element {
        is_bucket,
        key: page.get(key..value).ok_or_else(out_of_page)?,
        value: value_of,
    })
}

/// Place, size of the key, page.
fn branch(page: &[u8], place: usize) -> io::Result<(&[u8], u64)> {
    let element = HEADER + place * HEADER;
    let key = element + u32_at(page, element)? as usize;
    let end = key + u32_at(page, element + 4)? as usize;
    let lowest = page.get(key..end).ok_or_else(out_of_page)?;
    Ok((lowest, u64_at(page, element + 8)?))
}

fn bytes_at<const N: usize>(bytes: &[u8], place: usize) -> io::Result<[u8; N]> {
    let bytes = bytes.get(place..).and_then(|rest| rest.first_chunk());
    bytes.copied().ok_or_else(out_of_page)
}

/// The file is in the byte order of the host that wrote it.
fn u16_at(bytes: &[u8], place: usize) -> io::Result<u16> {
    Ok(u16::from_ne_bytes(bytes_at(bytes, place)?))
}

fn u32_at(bytes: &[u8], place: usize) -> io::Result<u32> {
    Ok(u32::from_ne_bytes(bytes_at(bytes, place)?))
}

fn u64_at(bytes: &[u8], place: usize) -> io::Result<u64> {
    Ok(u64::from_ne_bytes(bytes_at(bytes, place)?))
}

fn damaged(why: &str) -> io::Error {
    let why = format!("not a BoltDB database, or a damaged one: {why}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn out_of_page() -> io::Error {
    damaged("an element is outside of its page")
}

fn too_deep() -> io::Error {
    damaged("a tree has no end")
}

#[cfg(test)]
mod tests;
