//! `tls`: the files of certificates that the gateway has of its own, with their keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::policy::certificate_name;
use crate::problem::{Fault, quoted};
use crate::reader::{Fields, Names, Reader};
use crate::yaml::Entry;

const TLS: Names = Names {
    known: &["inspect", "clientCertificates"],
    later: &[],
};
const FILES: Names = Names {
    known: &["certificate", "key"],
    later: &[],
};

/// How the path of a certificate's file, or of its key's, is written.
pub(super) const FILE: &str = "write a file's whole path, such as `/etc/sortie/inspect.pem`";

/// `tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The CA that signs for names whose TLS is looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspect: Option<CertificateFiles>,
    /// What is shown to hosts, by the names that policies use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client_certificates: BTreeMap<String, CertificateFiles>,
}

/// A certificate's files, both PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CertificateFiles {
    /// The certificate, then those that signed it.
    pub certificate: PathBuf,
    /// Its private key, which nobody but root may read.
    pub key: PathBuf,
}

pub(super) fn read(reader: &mut Reader<'_>, entry: &Entry) -> Tls {
    let mut tls = Tls::default();
    let Some(fields) = reader.fields(&entry.value, Some(entry.key_span), TLS) else {
        return tls;
    };
    tls.inspect = fields.get("inspect").and_then(|entry| files(reader, entry));
    let Some(entry) = fields.get("clientCertificates") else {
        return tls;
    };
    let help = "write `clientCertificates: {NAME: {certificate: FILE, key: FILE}}`";
    for entry in reader.entries(entry, help) {
        if let Err(fault) = certificate_name(&entry.key) {
            reader.report(entry.key_span, fault);
        }
        if let Some(files) = files(reader, entry) {
            tls.client_certificates.insert(entry.key.clone(), files);
        }
    }
    tls
}

fn files(reader: &mut Reader<'_>, entry: &Entry) -> Option<CertificateFiles> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), FILES)?;
    files_of(reader, &fields)
}

/// A certificate and its key, among other fields.
pub(super) fn files_of(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<CertificateFiles> {
    let mut file = |name: &str, help| {
        let entry = fields.require(reader, name, help)?;
        path(reader, entry, FILE)
    };
    let certificate = file("certificate", "add the certificate's file (PEM)");
    let key = file("key", "add the file of the certificate's key (PEM)");
    Some(CertificateFiles {
        certificate: certificate?,
        key: key?,
    })
}

pub(super) fn path(reader: &mut Reader<'_>, entry: &Entry, help: &str) -> Option<PathBuf> {
    let text = reader.text(&entry.value)?;
    if text.text.starts_with('/') && !text.text.chars().any(char::is_control) {
        return Some(PathBuf::from(text.text));
    }
    let message = format!("{} is no path from the root", quoted(text.text));
    reader.report(text.span, Fault::new(message, help));
    None
}
