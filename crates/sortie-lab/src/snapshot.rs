//! All network settings of a namespace as text, and what differs between two moments.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::error::Result;
use crate::netns::Netns;
use crate::place::Place;

/// The rules, addresses, routes and sysctls of a namespace at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    sections: BTreeMap<&'static str, Vec<String>>,
}

/// What is listed with `ip`. The order of its lines means nothing.
const LISTS: [(&str, &str); 9] = [
    ("links", "-o link"),
    ("addresses", "-o addr"),
    ("rules, IPv4", "-4 rule"),
    ("rules, IPv6", "-6 rule"),
    ("routes, IPv4", "-4 route show table all"),
    ("routes, IPv6", "-6 route show table all"),
    ("proxy neighbours, IPv4", "-4 neigh show proxy"),
    ("proxy neighbours, IPv6", "-6 neigh show proxy"),
    ("permanent neighbours", "neigh show nud permanent"),
];

const RULESET: &str = "nft ruleset";
const SYSCTLS: &str = "sysctls";

/// Sysctls that change by themselves.
const MOVING: [&str; 1] = ["net.netfilter.nf_conntrack_count"];

impl Snapshot {
    /// Takes it from a place: a host, a container.
    ///
    /// # Errors
    /// When `ip` or `nft` fails.
    pub fn take(place: &dyn Place) -> Result<Self> {
        let netns = place.place()?;
        let mut sections = BTreeMap::new();
        for (title, arguments) in LISTS {
            let text = netns.ip(arguments)?;
            let mut lines: Vec<String> = text.lines().map(settled).collect();
            lines.sort();
            sections.insert(title, lines);
        }
        sections.insert(RULESET, with_paths(&netns.nft("-s list ruleset")?));
        sections.insert(SYSCTLS, sysctls(&netns)?);
        Ok(Self { sections })
    }

    /// What is gone (`-`) and what is new (`+`) in a later snapshot; empty when nothing is.
    pub fn diff(&self, later: &Self) -> String {
        let mut text = String::new();
        for (title, before) in &self.sections {
            let after = later.sections.get(title).map_or(&[][..], Vec::as_slice);
            let changes = changes(before, after);
            if !changes.is_empty() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{title}:\n{changes}");
            }
        }
        text
    }
}

/// A line of `ip` without what changes by itself: lifetimes.
fn settled(line: &str) -> String {
    let line = line.split(" valid_lft ").next().unwrap_or(line);
    line.replace('\\', " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Each line of a ruleset behind the table and chain it stands in.
fn with_paths(ruleset: &str) -> Vec<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for line in ruleset
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if line == "}" {
            path.pop();
        } else {
            let head = line.trim_end_matches('{').trim();
            lines.push([&path[..], &[head]].concat().join(" / "));
            if line.ends_with('{') {
                path.push(head);
            }
        }
    }
    lines
}

fn changes(before: &[String], after: &[String]) -> String {
    let only = |these: &[String], those: &[String], sign: char| {
        let mut those = those.to_vec();
        let mut text = String::new();
        for line in these {
            if let Some(same) = those.iter().position(|other| other == line) {
                those.swap_remove(same);
            } else {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "  {sign} {line}");
            }
        }
        text
    };
    let text = only(before, after, '-') + &only(after, before, '+');
    if text.is_empty() && before != after {
        "  the same lines in another order\n".to_owned()
    } else {
        text
    }
}

/// Every sysctl below `net` that can be read, as `net.ipv4.ip_forward = 1`.
fn sysctls(netns: &Netns) -> Result<Vec<String>> {
    netns.run(|| {
        let mut lines = Vec::new();
        walk(Path::new("/proc/sys/net"), "net", &mut lines);
        lines.sort();
        lines
    })
}

fn walk(folder: &Path, name: &str, lines: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{name}.{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            walk(&entry.path(), &name, lines);
        } else if let Ok(value) = fs::read_to_string(entry.path())
            && !MOVING.contains(&name.as_str())
        {
            // Some can only be written, and some are unreadable until they are set.
            lines.push(format!("{name} = {}", value.trim()));
        }
    }
}

#[cfg(test)]
mod tests;
