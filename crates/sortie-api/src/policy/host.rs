//! Names of hosts, and patterns of them, as `hosts` has them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::problem::{Fault, quoted};

/// Longest name, in bytes, without the dot at its end (RFC 1035, 2.3.4: 255 on the wire).
const NAME_MAX: usize = 253;
/// Longest label, in bytes (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;

/// One entry of `hosts`, in small letters and without a dot at its end.
///
/// Names are compared as the workload writes them: a name's aliases (CNAME) have no say, nor have
/// the other names of its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// `*`: every name.
    Any,
    /// `*.partner.example`: every name that ends so, however many labels are in front; not
    /// `partner.example` itself. This is what is behind `*.`.
    Below(String),
    /// This name.
    Exact(String),
}

impl HostPattern {
    /// Reads an entry of `hosts`. Case does not matter, nor does a dot at the end. Names in other
    /// letters are written as DNS has them (A-labels, RFC 5890).
    pub(crate) fn read(text: &str) -> Result<Self, Fault> {
        if let Some(fault) = no_name(text) {
            return Err(fault);
        }
        if text == "*" {
            return Ok(Self::Any);
        }
        let name = without_dot(text).to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(suffix) => is_name(text, suffix).map(|()| Self::Below(suffix.to_owned())),
            None => is_name(text, &name).map(|()| Self::Exact(name)),
        }
    }

    /// Whether a name is meant, in whatever case, with or without a dot at its end. An address
    /// is no name.
    pub fn matches(&self, name: &str) -> bool {
        let name = without_dot(name);
        match self {
            Self::Any => !name.is_empty() && !is_address(name),
            Self::Exact(exact) => name.eq_ignore_ascii_case(exact),
            Self::Below(suffix) => {
                let front = name.len().checked_sub(suffix.len());
                let parts = front.and_then(|front| name.split_at_checked(front));
                parts.is_some_and(|(front, end)| {
                    end.eq_ignore_ascii_case(suffix) && front.len() > 1 && front.ends_with('.')
                })
            }
        }
    }

    /// How much of a name it says: one name before all that end so, and the longer end first.
    pub fn specificity(&self) -> (bool, usize) {
        match self {
            Self::Any => (false, 0),
            Self::Below(suffix) => (false, suffix.len()),
            Self::Exact(_) => (true, 0),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text).map_err(|fault| fault.message)
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::Exact(name) => f.write_str(name),
        }
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.starts_with('[')
}

/// What people write instead of a name, and what they mean.
fn no_name(text: &str) -> Option<Fault> {
    let fault = |message: &str, help: String| {
        let message = format!("{} {message}", quoted(text));
        Some(Fault::new(message, help))
    };
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let (address, prefix) = bare
        .split_once('/')
        .map_or((bare, None), |(address, prefix)| (address, Some(prefix)));
    if let Ok(address) = address.parse::<IpAddr>() {
        let longest = if address.is_ipv4() { "32" } else { "128" };
        let prefix = prefix.unwrap_or(longest);
        let help =
            format!("write `cidrs: [\"{address}/{prefix}\"]` in a destination without `hosts`");
        return fault("is an address, and no name", help);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let end = rest.find(['/', ':', '?', '#']).unwrap_or(rest.len());
        let help = format!("write the name alone: {}", quoted(&rest[..end]));
        return fault("is a URL, and no name", help);
    }
    if let Some((name, path)) = text.split_once('/') {
        let help =
            format!("write `hosts: [{name}]` and `http: {{match: [{{pathPrefix: /{path}}}]}}`");
        return fault("is more than a name", help);
    }
    if let Some((name, port)) = text.split_once(':') {
        let help =
            format!("write `hosts: [{name}]` and `ports: [{{protocol: TCP, port: {port}}}]`");
        return fault("is a name and a port", help);
    }
    if !text.is_ascii() {
        let help = "write the name as DNS has it: labels with other letters begin with `xn--`";
        return fault("has letters that no name in DNS has", help.to_owned());
    }
    if let Some(suffix) = text.strip_prefix('.') {
        let help =
            format!("write `*.{suffix}` for every name that ends so, `{suffix}` for the one");
        return fault("begins with a dot", help);
    }
    let behind = text.strip_prefix("*.").unwrap_or(text);
    if text != "*" && behind.contains('*') {
        let help =
            "`*` stands for whole labels at the beginning: `*.example.com`, or `*` for every name";
        return fault("has a `*` in the middle", help.to_owned());
    }
    None
}

/// Letters, digits and hyphens (RFC 1123, 2.1), and underscores, which compose files use; the last
/// label is no number, or the whole would be read as an address.
fn is_name(written: &str, name: &str) -> Result<(), Fault> {
    let fault = |help: &str| {
        let message = format!("{} cannot be a host's name", quoted(written));
        Err(Fault::new(message, help))
    };
    if name.is_empty() || name.split('.').any(str::is_empty) {
        return fault("write a name, such as `api.example.com`; no label of it is empty");
    }
    if name.len() > NAME_MAX || name.split('.').any(|label| label.len() > LABEL_MAX) {
        return fault("a name has at most 253 characters, and each label of it at most 63");
    }
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let good =
        |label: &str| label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-');
    if !name.split('.').all(good) {
        return fault("labels have letters, digits, `_` and `-`, and no `-` first or last");
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|c| c.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|hex| hex.bytes().all(|c| c.is_ascii_hexdigit()));
    if number {
        return fault("a name that ends in a number is read as an address: for one, write `cidrs`");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
