//! `http` of a destination: which requests are meant, and what is done about TLS.

mod read;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use read::certificate_name;
pub(super) use read::{header_name, header_value, http, method, path_pattern};

use super::path_regex::PathRegex;

/// `http`: requests to the destination's hosts. The gateway decides on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Any of these; empty means every request.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// Not those that any of these means: what earlier routes of the same VirtualService take. No
    /// policy file says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unless: Vec<HttpMatch>,
    /// What becomes of a connection in which TLS hides the request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_encrypted: WhenEncrypted,
    /// What the gateway does about TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Which requests; the fields are all of, the entries of `methods` any of, those of `headers` all of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpMatch {
    /// The path's pattern; none means every path.
    #[serde(flatten)]
    pub path: Option<PathPattern>,
    /// Empty means every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Fields that must be there once, with these values. Names are in small letters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// `path`, `pathPrefix` or `pathRegex`: of the normalised path, without the query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathPattern {
    /// This path.
    #[serde(rename = "path")]
    Exact(String),
    /// This path, and all below it: `/api` means `/api` and `/api/x`, not `/apikeys`. One that
    /// ends in `/` means what is below it only.
    #[serde(rename = "pathPrefix")]
    Prefix(String),
    /// Paths that match as a whole.
    #[serde(rename = "pathRegex")]
    Regex(PathRegex),
}

/// `http.whenEncrypted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WhenEncrypted {
    /// It is refused, where what is hidden could change the decision.
    #[default]
    Refuse,
    /// It goes by what else decides for the host.
    UseHostPolicy,
}

/// `http.tls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::write::TlsFields", into = "super::write::TlsFields")]
pub enum Tls {
    /// The workload speaks HTTP, and the gateway HTTPS.
    Originate(Originate),
    /// The gateway reads what the workload encrypts, with the operator's CA.
    Inspect(Inspect),
}

/// How the gateway speaks TLS to the host whose TLS it reads; to the port that was called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspect {
    /// As in [`Originate`].
    pub ca: Option<String>,
    /// As in [`Originate`]; for the requests that this policy decides, and no others.
    pub client_certificate: Option<String>,
}

impl Tls {
    /// How it inspects, if it does.
    pub fn inspect(&self) -> Option<&Inspect> {
        match self {
            Self::Originate(_) => None,
            Self::Inspect(inspect) => Some(inspect),
        }
    }
}

/// How the gateway speaks TLS to the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Originate {
    /// The host's port.
    pub port: u16,
    /// A file of certificates (PEM) that the host's is checked with; none means the system's.
    pub ca: Option<String>,
    /// The name of the certificate that the gateway shows, in `tls.clientCertificates` of the
    /// agent's file.
    pub client_certificate: Option<String>,
}

/// A request, as far as policies look at it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// As it was sent: methods are case-sensitive (RFC 9110, 9.1).
    pub method: &'a str,
    /// The normalised path, which is what is forwarded: without the query; without `.`, `..`, `//`
    /// and escapes of unreserved characters; escapes have large letters (RFC 3986, 6.2.2).
    pub path: &'a str,
    /// Its fields.
    pub headers: &'a dyn Headers,
}

/// A request's fields.
pub trait Headers {
    /// Calls `line` with each field line of this name, given in small letters, in their order;
    /// values come without white space around them (RFC 9110, 5.5).
    fn lines(&self, name: &str, line: &mut dyn FnMut(&[u8]));
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for [(N, V)] {
    fn lines(&self, name: &str, line: &mut dyn FnMut(&[u8])) {
        for (field, value) in self {
            if field.as_ref().eq_ignore_ascii_case(name) {
                line(value.as_ref());
            }
        }
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for Vec<(N, V)> {
    fn lines(&self, name: &str, line: &mut dyn FnMut(&[u8])) {
        self.as_slice().lines(name, line);
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const COUNT: usize> Headers for [(N, V); COUNT] {
    fn lines(&self, name: &str, line: &mut dyn FnMut(&[u8])) {
        self.as_slice().lines(name, line);
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Http {
    /// Whether a request is meant by this entry of `match`, or without one, and not by an earlier
    /// route.
    pub fn takes(&self, entry: Option<&HttpMatch>, request: &Request<'_>) -> bool {
        entry.is_none_or(|entry| entry.matches(request))
            && !self.unless.iter().any(|earlier| earlier.matches(request))
    }
}

impl HttpMatch {
    /// Whether a request is meant. A field on several lines, which RFC 9110 (5.3) reads as one
    /// list, is no single value.
    pub fn matches(&self, request: &Request<'_>) -> bool {
        let path = self.path.as_ref();
        let methods = &self.methods;
        path.is_none_or(|path| path.matches(request.path))
            && (methods.is_empty() || methods.iter().any(|method| method == request.method))
            && self.headers.iter().all(|(name, wanted)| {
                let (mut lines, mut equal) = (0, false);
                request.headers.lines(name, &mut |value| {
                    lines += 1;
                    equal = value == wanted.as_bytes();
                });
                lines == 1 && equal
            })
    }

    /// How much of a request it says; more is greater. First the path: by how many characters of it
    /// are fixed from its beginning; of as many, the whole path before a prefix before an
    /// expression. Then whether it names methods. Then by the number of headers.
    pub fn specificity(&self) -> impl Ord + use<> {
        let path = self.path.as_ref().map(|path| match path {
            PathPattern::Exact(path) => (path.len(), 2),
            PathPattern::Prefix(path) => (path.len(), 1),
            PathPattern::Regex(regex) => (regex.fixed(), 0),
        });
        (path, !self.methods.is_empty(), self.headers.len())
    }
}

impl PathPattern {
    /// Whether a normalised path is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')
            }),
            Self::Regex(regex) => regex.matches(path),
        }
    }
}

/// What is shown of a pattern: as it is written, a prefix with `…` behind it.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}…"),
            Self::Regex(regex) => write!(f, "~{}", regex.as_str()),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
