//! What a bench writes: `docs/benchmarks/NAME.json`, and its table in `docs/benchmarks.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Failure;
use crate::record::{Record, Spread};

/// What a bench has in the documents.
pub(crate) struct Part {
    /// `host`, `gateway`.
    pub(crate) name: &'static str,
    /// What the sizes count.
    pub(crate) sizes: &'static str,
    /// Whether figures of former runs stay, where this one has none.
    pub(crate) keeps: bool,
    /// What is said below the table.
    pub(crate) remarks: fn(&[Record]) -> String,
}

/// Puts new figures in the place of the old ones.
pub(crate) fn update(part: &Part, new: &[Record]) -> Result<(), Failure> {
    let json = docs().join(format!("benchmarks/{}.json", part.name));
    let old: Vec<Value> = serde_json::from_str(&fs::read_to_string(&json)?)?;
    let old = old.iter().filter_map(Record::read);
    let mut records: Vec<Record> = old
        .filter(|old| part.keeps && !new.iter().any(|new| new.same_figure(old)))
        .chain(new.iter().cloned())
        .collect();
    records.sort_by(|a, b| (&a.bench, a.n, &a.peer).cmp(&(&b.bench, b.n, &b.peer)));
    let lines: Vec<String> = records
        .iter()
        .map(|record| record.json().to_string())
        .collect();
    fs::write(&json, format!("[\n{}\n]\n", lines.join(",\n")))?;

    let path = docs().join("benchmarks.md");
    let text = fs::read_to_string(&path)?;
    let [begin, end] = ["begin", "end"].map(|mark| format!("<!-- {}: {mark} -->\n", part.name));
    let outside = |text: &str| -> Option<(String, String)> {
        let (before, rest) = text.split_once(&begin)?;
        let (_, after) = rest.split_once(&end)?;
        Some((before.to_owned(), after.to_owned()))
    };
    let (before, after) = outside(&text)
        .ok_or_else(|| format!("docs/benchmarks.md has no part for the {}", part.name))?;
    let table = table(part.sizes, &records)?;
    let remarks = (part.remarks)(&records);
    fs::write(
        &path,
        format!("{before}{begin}{table}{remarks}{end}{after}"),
    )?;
    Ok(())
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn table(sizes: &str, records: &[Record]) -> Result<String, Failure> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let (_, model) = model.unwrap_or(("", "unknown CPU"));
    let cores = std::thread::available_parallelism()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = release.trim().split('-').next().unwrap_or_default();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let mut text = format!(
        "{cores} cores, {model}; Linux {kernel}; {date}. Median (lowest–highest) of all rounds.\n\n\
         | Bench | {sizes} | Sortie | Beside | Theirs | Ours ÷ theirs |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    for record in records {
        let (peer, theirs, ratio) = match (&record.peer, record.beside) {
            (Some(peer), Some((theirs, ratio))) => (
                peer.as_str(),
                quantity(theirs, &record.unit),
                plain(ratio, ""),
            ),
            _ => ("–", "–".to_owned(), "–".to_owned()),
        };
        let ours = quantity(record.ours, &record.unit);
        let Record { bench, n, .. } = record;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {bench} | {n} | {ours} | {peer} | {theirs} | {ratio} |"
        );
    }
    Ok(text)
}

/// With the unit that people read best.
fn quantity(spread: Spread, unit: &str) -> String {
    let (by, unit) = match unit {
        "ns" => match spread.median {
            ..1e4 => (1.0, "ns"),
            ..1e6 => (1e3, "µs"),
            ..1e9 => (1e6, "ms"),
            _ => (1e9, "s"),
        },
        "bytes" => (f64::from(1 << 20), "MiB"),
        other => (1.0, other),
    };
    let scaled = Spread {
        min: spread.min / by,
        median: spread.median / by,
        max: spread.max / by,
    };
    plain(scaled, unit)
}

fn plain(Spread { min, median, max }: Spread, unit: &str) -> String {
    let digits = match median {
        ..0.1 => 4,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let unit = if unit.is_empty() {
        String::new()
    } else {
        format!(" {unit}")
    };
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$}){unit}")
}
