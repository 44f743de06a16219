//! TCP ports: cut where what is asked changes, and as expressions for what is behind a name's colon.

use sortie_api::policy::{PortRange, Protocol};
use sortie_plan::precedence::Candidate;

/// First and last, both included.
pub(crate) type Ports = (u16, u16);

/// Where TLS is.
pub(crate) const HTTPS: Ports = (443, 443);

/// Every port there is.
pub(crate) const ALL: Ports = (1, u16::MAX);

/// All ports, cut so that within a part the same candidates are asked; 443 is one by itself.
pub(crate) fn parts(candidates: &[Candidate<'_>]) -> Vec<Ports> {
    let ranges = candidates.iter().flat_map(Candidate::ports);
    let ranges = ranges.filter(|range| range.protocol == Protocol::Tcp);
    let mut begins: Vec<u16> = ranges
        .flat_map(|range| [Some(range.first), range.last.checked_add(1)])
        .flatten()
        .chain([ALL.0, HTTPS.0, HTTPS.0 + 1])
        .collect();
    begins.sort_unstable();
    begins.dedup();
    let ends = begins.iter().skip(1).map(|next| next - 1).chain([ALL.1]);
    begins.iter().copied().zip(ends).collect()
}

/// The TCP ports of a candidate; none where it is for all.
pub(crate) fn of(ranges: &[PortRange]) -> Option<Vec<Ports>> {
    let tcp = ranges.iter().filter(|it| it.protocol == Protocol::Tcp);
    (!ranges.is_empty()).then(|| tcp.map(|it| (it.first, it.last)).collect())
}

/// Parts of all ports with the same answer, put together. Who is asked in this order may ask the
/// last, which has most of them, for all.
pub(crate) fn grouped<T: PartialEq>(
    parts: impl IntoIterator<Item = (T, Ports)>,
) -> Vec<(T, Vec<Ports>)> {
    let mut groups: Vec<(T, Vec<Ports>)> = Vec::new();
    for (answer, part) in parts {
        match groups.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, parts)) => parts.push(part),
            None => groups.push((answer, vec![part])),
        }
    }
    let many = |parts: &[Ports]| -> u32 {
        let each = parts
            .iter()
            .map(|(first, last)| u32::from(last - first) + 1);
        each.sum()
    };
    groups.sort_by_key(|(_, parts)| many(parts));
    for (_, parts) in &mut groups {
        *parts = joined(std::mem::take(parts));
    }
    if let Some((_, parts)) = groups.last_mut() {
        *parts = vec![ALL];
    }
    groups
}

/// Neighbours put together.
pub(crate) fn joined(mut ports: Vec<Ports>) -> Vec<Ports> {
    ports.sort_unstable();
    let mut joined: Vec<Ports> = Vec::new();
    for (first, last) in ports {
        match joined.last_mut() {
            Some(before) if before.1.saturating_add(1) >= first => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// An expression for an authority with one of these ports; one without a port has `default`.
pub(crate) fn authority(ports: &[Ports], default: Option<u16>) -> String {
    let host = r"(?:\[[^\]]*\]|[^:]*)";
    let numbers: Vec<String> = ports.iter().map(|ports| numbers(*ports)).collect();
    let is_default =
        |(first, last): &Ports| default.is_some_and(|it| (*first..=*last).contains(&it));
    let optional = if ports.iter().any(is_default) {
        "?"
    } else {
        ""
    };
    format!("{host}(?::(?:{})){optional}", numbers.join("|"))
}

/// An expression for decimal numbers from `first` to `last`.
pub(crate) fn numbers((first, last): Ports) -> String {
    let mut parts: Vec<String> = Vec::new();
    let (mut first, last) = (u32::from(first), u32::from(last));
    while first <= last {
        // The largest block of numbers that differ in their last digits only.
        let mut size = 1;
        while first % (size * 10) == 0 && first + size * 10 - 1 <= last && first >= size * 10 {
            size *= 10;
        }
        // As many of these as the next digit has.
        let digit = first / size % 10;
        let most = (9 - digit).min((last + 1 - first) / size - 1);
        let front = match first / size / 10 {
            0 => String::new(),
            front => front.to_string(),
        };
        let class = match most {
            0 => digit.to_string(),
            _ => format!("[{digit}-{}]", digit + most),
        };
        parts.push(front + &class + &"[0-9]".repeat(size.ilog10() as usize));
        first += size * (most + 1);
    }
    parts.join("|")
}

#[cfg(test)]
mod tests;
