//! Elements in both directions: a range is one element of the plan and two of the kernel's.

use std::time::Duration;

use nfnetlink::elem::Flags;
use nfnetlink::{Datum, Element, Verdict as Lowered};
use sortie_plan::nft::Elements;
use sortie_plan::nft::key::Key;
use sortie_plan::nft::rule::Verdict;
use sortie_plan::nft::set::Data;

use super::rule::lower_verdict;

/// The plan's elements as the kernel wants them.
pub(crate) fn elements(elements: &[(Key, Data)]) -> impl Iterator<Item = Element> {
    elements.iter().flat_map(|(key, data)| {
        let first = lower_key(key);
        let (element, last) = match data {
            Data::None => (Element::new(first), None),
            // The kernel takes 0 for no end at all.
            Data::For(left) => {
                let left = (*left).max(Duration::from_millis(1));
                (Element::new(first).timeout(left), None)
            }
            Data::Value(value) => (Element::map(first, lower_key(value)), None),
            Data::Verdict(verdict) => (Element::map(first, lower_verdict(verdict)), None),
            Data::Through(last) => (Element::new(first), Some(last)),
            Data::ThroughVerdict(through) => {
                let (last, verdict) = &**through;
                (Element::map(first, lower_verdict(verdict)), Some(last))
            }
        };
        let end = last.and_then(|last| Element::new(first).interval(lower_key(last)).nth(1));
        [Some(element), end].into_iter().flatten()
    })
}

fn lower_key(key: &Key) -> nfnetlink::Data {
    nfnetlink::Data::unpadded(key.as_bytes())
}

fn lift_key(data: &nfnetlink::Data) -> Option<Key> {
    Key::from_bytes(data.as_slice())
}

/// The kernel's elements as the plan has them. What is none of the plan's kinds is left out: the
/// next comparison then finds it missing.
pub(crate) fn lift(elements: Vec<Element>, interval: bool) -> Elements {
    if interval {
        return lift_ranges(elements);
    }
    elements
        .iter()
        .filter_map(|element| {
            let data = match &element.data {
                None if element.timeout.is_some() => {
                    Data::For(element.expiration.unwrap_or_default())
                }
                None => Data::None,
                Some(Datum::Value(value)) => Data::Value(lift_key(value)?),
                Some(Datum::Verdict(verdict)) => Data::Verdict(lift_verdict(verdict)?),
            };
            Some((lift_key(&element.key)?, data))
        })
        .collect()
}

/// Each range begins with an element and ends, excluded, with one that is flagged; the highest
/// range may lack its end. The kernel lists them in any order.
fn lift_ranges(mut elements: Vec<Element>) -> Elements {
    let ends = |element: &Element| element.flags.contains(Flags::INTERVAL_END);
    // One range's end may be the next one's beginning: the end comes first.
    elements.sort_by(|a, b| a.key.cmp(&b.key).then(ends(b).cmp(&ends(a))));
    let mut ranges = Elements::new();
    let mut open: Option<&Element> = None;
    for element in &elements {
        if let Some(begin) = open.take() {
            ranges.extend(range(begin, predecessor(&element.key)));
        }
        if !ends(element) {
            open = Some(element);
        }
    }
    if let Some(begin) = open {
        let highest = vec![u8::MAX; begin.key.len()];
        ranges.extend(range(begin, Key::from_bytes(&highest)));
    }
    ranges
}

fn range(begin: &Element, last: Option<Key>) -> Option<(Key, Data)> {
    let data = match &begin.data {
        None => Data::Through(last?),
        Some(Datum::Verdict(verdict)) => {
            Data::ThroughVerdict(Box::new((last?, lift_verdict(verdict)?)))
        }
        Some(Datum::Value(_)) => return None,
    };
    Some((lift_key(&begin.key)?, data))
}

/// The value before this one, as a big-endian number.
fn predecessor(data: &nfnetlink::Data) -> Option<Key> {
    let mut bytes = data.as_slice().to_vec();
    for byte in bytes.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            return Key::from_bytes(&bytes);
        }
    }
    None
}

fn lift_verdict(verdict: &Lowered) -> Option<Verdict> {
    Some(match verdict {
        Lowered::Accept => Verdict::Accept,
        Lowered::Drop => Verdict::Drop,
        Lowered::Return => Verdict::Return,
        Lowered::Jump(chain) => Verdict::Jump(chain.clone().into()),
        Lowered::Goto(chain) => Verdict::Goto(chain.clone().into()),
        _ => return None,
    })
}
