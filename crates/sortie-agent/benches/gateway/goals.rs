//! What was wanted, and whether it was reached: said below the table, by the figures.

use std::fmt::Write as _;

use crate::record::Record;

/// A figure, the peer, and what the median of ours divided by the peer's was wanted to be at most.
const GOALS: [(&str, &str, f64); 3] = [
    ("gateway/keepalive/cpu", "haproxy", 0.9),
    ("gateway/keepalive/cpu", "envoy", 0.35),
    ("gateway/keepalive/rss", "envoy", 0.3),
];

/// One line for each goal.
pub(crate) fn told(records: &[Record]) -> String {
    let mut text = String::from("\nWhat was wanted, and came out as the median ratio:\n\n");
    for (bench, peer, most) in GOALS {
        let ratios: Vec<(u64, f64)> = records
            .iter()
            .filter(|record| record.bench == bench && record.peer.as_deref() == Some(peer))
            .filter_map(|record| Some((record.n, record.beside?.1.median)))
            .collect();
        let each: Vec<String> = ratios
            .iter()
            .map(|(sources, ratio)| format!("{ratio:.2} with {sources}"))
            .collect();
        let worst = ratios.iter().map(|(_, ratio)| *ratio).fold(0.0, f64::max);
        let verdict = if worst <= most {
            "met".to_owned()
        } else {
            format!("missed by up to {:.0} %", (worst / most - 1.0) * 100.0)
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "- *{bench}* at most {most} × {peer}'s: {} sources; {verdict}.",
            each.join(", ")
        );
    }
    text
}
