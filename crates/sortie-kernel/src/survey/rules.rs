//! What can be said of others' rules without a packet.

use nfnetlink::expr::{Bitwise, Cmp, CmpOp, Expr, Immediate, Meta, MetaKey};
use nfnetlink::{Data, Datum, Rule};
use sortie_api::mark_mask::MarkMask;
use sortie_plan::doctor::facts::MarkUse;

/// The length of an interface's name in a register, its closing zero among it (`IFNAMSIZ`).
const NAME: usize = 16;

/// The interfaces that rules name, those ending in `*` for all that begin so; none when a rule
/// looks interfaces up in a set, or asks an extension of iptables that may do so.
pub(super) fn interfaces(rules: &[Rule]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for rule in rules {
        let mut exprs = rule.exprs.iter().peekable();
        while let Some(expr) = exprs.next() {
            match expr {
                Expr::Meta(Meta::Load { key, .. }) if is_name(*key) => match exprs.peek() {
                    Some(Expr::Cmp(cmp)) => names.extend(name(cmp)),
                    _ => return None,
                },
                Expr::Meta(Meta::Load { key, .. }) if is_index(*key) => return None,
                Expr::Unknown { name, .. } if name == "match" => return None,
                _ => {}
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    Some(names)
}

fn is_name(key: MetaKey) -> bool {
    key == MetaKey::IIFNAME || key == MetaKey::OIFNAME
}

/// Numbers, kinds and groups of interfaces.
fn is_index(key: MetaKey) -> bool {
    [
        MetaKey::IIF,
        MetaKey::OIF,
        MetaKey::IIFKIND,
        MetaKey::OIFKIND,
        MetaKey::IIFGROUP,
        MetaKey::OIFGROUP,
    ]
    .contains(&key)
}

/// A comparison with fewer bytes than a name has is with how names begin.
fn name(cmp: &Cmp) -> Option<String> {
    if cmp.op != CmpOp::EQ {
        return None;
    }
    let bytes = cmp.data.as_slice();
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\0');
    let whole = bytes.len() == NAME || bytes.last() == Some(&0);
    Some(if whole {
        text.to_owned()
    } else {
        format!("{text}*")
    })
}

/// Where rules set packet marks.
pub(super) fn marks(rules: &[Rule], ours: MarkMask) -> Vec<MarkUse> {
    let mut found = Vec::new();
    for rule in rules {
        let by = format!("{} {} {}", rule.family, rule.table, rule.chain);
        for (bits, value) in changes(&rule.exprs, ours.bits()) {
            let mark = MarkUse {
                by: by.clone(),
                bits,
                value,
            };
            if !found.contains(&mark) {
                found.push(mark);
            }
        }
    }
    found
}

/// What a rule's expressions do to the mark: the bits, and what they become.
fn changes(exprs: &[Expr], ours: u32) -> Vec<(u32, Option<u32>)> {
    let mut found = Vec::new();
    // What is in the register that a mark is set from: all of it unknown, until something says more.
    let mut next = (u32::MAX, None);
    for expr in exprs {
        match expr {
            Expr::Immediate(Immediate {
                data: Datum::Value(value),
                ..
            }) => next = (u32::MAX, number(value)),
            Expr::Bitwise(Bitwise::MaskXor { mask, xor, .. }) => {
                if let (Some(mask), Some(xor)) = (number(mask), number(xor)) {
                    next = change(!mask, xor, ours);
                }
            }
            Expr::Meta(Meta::Set { key, .. }) if *key == MetaKey::MARK => found.push(next),
            Expr::Meta(Meta::Load { .. }) | Expr::Ct(_) | Expr::Lookup(_) => {
                next = (u32::MAX, None);
            }
            Expr::Unknown { name, data } if name == "target" => found.extend(target(data, ours)),
            _ => {}
        }
    }
    found
}

/// `mark = (mark & !cleared) ^ flipped`. Our bits that are only cleared have no value of ours.
fn change(cleared: u32, flipped: u32, ours: u32) -> (u32, Option<u32>) {
    let known = cleared == u32::MAX || cleared & ours & !flipped == 0;
    (cleared | flipped, known.then_some(flipped))
}

fn number(data: &Data) -> Option<u32> {
    Some(u32::from_ne_bytes(data.as_slice().try_into().ok()?))
}

/// An extension of iptables that changes the mark: MARK (`xt_mark_tginfo2`), or CONNMARK that
/// restores it (`xt_connmark_tginfo1` and `2`, which differ in where the mode is), as iptables-nft
/// writes them.
fn target(data: &[u8], ours: u32) -> Option<(u32, Option<u32>)> {
    const NAME: u16 = 1;
    const REVISION: u16 = 2;
    const INFO: u16 = 3;
    const RESTORE: u8 = 2;
    let info = attribute(data, INFO)?;
    let word = |index: usize| {
        let bytes = info.get(4 * index..4 * index + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    match attribute(data, NAME)?.split(|byte| *byte == 0).next()? {
        b"MARK" => Some(change(word(1)?, word(0)?, ours)),
        b"CONNMARK" => {
            let mode = match attribute(data, REVISION)? {
                [0, 0, 0, 1] => 12,
                _ => 14,
            };
            (info.get(mode) == Some(&RESTORE)).then_some((word(2)?, None))
        }
        _ => None,
    }
}

/// An attribute's value: two bytes of length, two of its kind, both as the host writes them.
fn attribute(mut data: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = u16::from_ne_bytes(data.get(..2)?.try_into().ok()?);
        let kind = u16::from_ne_bytes(data.get(2..4)?.try_into().ok()?);
        let length = usize::from(length).max(4);
        if kind & 0x3fff == wanted {
            return data.get(4..length);
        }
        data = data.get(length.next_multiple_of(4)..)?;
    }
}
