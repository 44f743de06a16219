//! Names of the DNS, as policies compare them.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

/// A name in full, in lower case, without the dot at its end; the root is `.`.
///
/// Bytes that no host name has are written as `\DDD` (RFC 1035 §5.1), dots within a label included,
/// so two names are equal exactly when they are one to a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From the labels of a message, the root's left out.
    pub(crate) fn of_labels(labels: &[&[u8]]) -> Self {
        use fmt::Write as _;

        let mut name = String::new();
        for label in labels {
            if !name.is_empty() {
                name.push('.');
            }
            for byte in *label {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'*' => {
                        name.push(char::from(byte.to_ascii_lowercase()));
                    }
                    // Writing to a string cannot fail.
                    other => _ = write!(name, "\\{other:03}"),
                }
            }
        }
        Self(if name.is_empty() {
            ".".into()
        } else {
            name.into()
        })
    }

    /// The host that a lookup for HTTPS records is about: those of another port than 443 are below
    /// `_PORT._https` (RFC 9460 §9.1).
    #[must_use]
    pub(crate) fn without_https_port(&self) -> Self {
        let host = self
            .0
            .strip_prefix('_')
            .and_then(|rest| rest.split_once('.'))
            .filter(|(port, _)| port.parse::<u16>().is_ok())
            .and_then(|(_, rest)| rest.strip_prefix("_https."));
        host.map_or_else(|| self.clone(), |host| Self(host.into()))
    }
}

impl From<&str> for DnsName {
    /// A name as it is written in a policy or a log, with or without the dot at its end.
    fn from(name: &str) -> Self {
        let bare = name.strip_suffix('.').unwrap_or(name);
        Self(if bare.is_empty() {
            ".".into()
        } else {
            bare.to_ascii_lowercase().into()
        })
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
