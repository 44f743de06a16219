//! What can be said of others' rules without a packet.

use nfnetlink::Rule;
use nfnetlink::expr::{Cmp, CmpOp, Expr, Meta, MetaKey};

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
