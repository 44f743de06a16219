//! The subject of a client's certificate, in the spelling that policies have.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use sortie_api::subject::{ATTRIBUTES, escaped};
use x509_parser::asn1_rs::ToDer;
use x509_parser::x509::AttributeTypeAndValue;

use super::certificate;

/// The last name comes first (RFC 4514 §2.1); of a name with several attributes they stay as the
/// certificate has them. None of a certificate without a subject.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<String> {
    let read = certificate::read(certificate).ok()?;
    let names = read.subject().iter_rdn().map(|name| {
        let attributes: Option<Vec<String>> = name.iter().map(attribute).collect();
        Some(attributes?.join("+"))
    });
    let mut names = names.collect::<Option<Vec<String>>>()?;
    names.reverse();
    Some(names.join(",")).filter(|subject| !subject.is_empty())
}

/// What has no name, or is no text, is written as its bytes.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let number = attribute.attr_type().to_id_string();
    let known = ATTRIBUTES.iter().find(|(of, _)| *of == number);
    let name = known.map_or(number.as_str(), |(_, name)| name);
    if let (Some(_), Ok(text)) = (known, attribute.as_str()) {
        return Some(format!("{name}={}", escaped(text)));
    }
    let bytes = attribute.attr_value().to_der_vec().ok()?;
    let begin = format!("{name}=#");
    Some(bytes.iter().fold(begin, |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    }))
}
