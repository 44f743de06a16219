//! Certificates that a policy needs the gateway to have, and the agent's file does not name.

use std::fmt;

use super::Tls;
use crate::config;
use crate::problem::{Fault, FileErrors, Span, quoted};
use crate::reader::Reader;
use crate::yaml::{self, Entry, Node, Value};

/// A certificate that the agent's file does not name. Its `Display` says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking<'p> {
    /// The CA of inspections.
    Authority,
    /// The client certificate of this name.
    ClientCertificate(&'p str),
}

impl Lacking<'_> {
    /// What to do.
    pub fn help(&self) -> String {
        let files = "{certificate: FILE, key: FILE}";
        let field = match self {
            Self::Authority => format!("inspect: {files}"),
            Self::ClientCertificate(name) => format!("clientCertificates: {{{name}: {files}}}"),
        };
        format!("write `tls: {{{field}}}` into agent.yaml, and start the agent again")
    }
}

impl fmt::Display for Lacking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority => f.write_str("`inspect` needs a CA, and the agent's file has none"),
            Self::ClientCertificate(name) => {
                let name = quoted(name);
                write!(f, "the agent's file has no client certificate {name}")
            }
        }
    }
}

/// What a policy's TLS needs and the agent's file does not name.
pub fn lacking<'p>(
    wanted: &'p Tls,
    known: &config::Tls,
) -> impl Iterator<Item = Lacking<'p>> + use<'p> {
    let (inspects, shown) = match wanted {
        Tls::Originate(it) => (false, &it.client_certificate),
        Tls::Inspect(it) => (true, &it.client_certificate),
    };
    let authority = (inspects && known.inspect.is_none()).then_some(Lacking::Authority);
    let shown = shown.as_deref();
    let shown = shown.filter(|name| !known.client_certificates.contains_key(*name));
    let shown = shown.map(Lacking::ClientCertificate);
    authority.into_iter().chain(shown)
}

/// Checks that a file's policies ask for no certificate that is not in the agent's file. The text is
/// a good one; `file` is only for messages.
///
/// # Errors
/// Every such field, with what to write into the agent's file.
pub fn certified(file: &str, text: &str, known: &config::Tls) -> Result<(), FileErrors> {
    let mut reader = Reader::new(file, text);
    for document in &yaml::documents(&mut reader) {
        let spec = field(document, "spec").map(|entry| &entry.value);
        let destinations = spec.and_then(|spec| field(spec, "destinations"));
        for destination in destinations.map_or(&[][..], |entry| list(&entry.value)) {
            let http = field(destination, "http");
            if let Some(said) = http.and_then(|http| field(&http.value, "tls")) {
                check(&mut reader, &said.value, known);
            }
        }
    }
    reader.finish(())
}

fn check(reader: &mut Reader<'_>, said: &Node, known: &config::Tls) {
    if let Some(entry) = field(said, "inspect")
        && known.inspect.is_none()
        && reader.boolean(entry) == Some(true)
    {
        report(reader, entry.key_span, Lacking::Authority);
    }
    let Some(entry) = field(said, "clientCertificate") else {
        return;
    };
    if let Value::Scalar { text, .. } = &entry.value.value
        && !known.client_certificates.contains_key(text.as_str())
    {
        report(reader, entry.value.span, Lacking::ClientCertificate(text));
    }
}

fn report(reader: &mut Reader<'_>, place: Span, lacking: Lacking<'_>) {
    reader.report(place, Fault::new(lacking.to_string(), lacking.help()));
}

fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Entry> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == name),
        _ => None,
    }
}

fn list(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(list) => list,
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
