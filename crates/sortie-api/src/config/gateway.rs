//! `gateway` in the agent's file: what `sortie gateway` beside the agent does besides what policies say.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dns_over_tls::{self, DnsOverTls};
use super::tls::{FILE, path};
use super::{CertificateFiles, is_path, listen, tls};
use crate::problem::{Fault, quoted};
use crate::reader::{Names, Reader};
use crate::yaml::Entry;

const GATEWAY: Names = Names {
    known: &["proxy", "dnsOverTls"],
    later: &[],
};
const PROXY: Names = Names {
    known: &["listen", "tokens", "tls"],
    later: &[],
};
const TLS: Names = Names {
    known: &["listen", "certificate", "key", "ca"],
    later: &[],
};

/// `gateway`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// The explicit way in.
    #[serde(default)]
    pub proxy: Proxy,
    /// Name servers that are asked over TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_over_tls: Vec<DnsOverTls>,
}

/// `gateway.proxy`: where clients ask the gateway as a proxy, and what they prove who they are with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// HTTP and SOCKS5 alike; nowhere by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<SocketAddr>,
    /// The file of tokens: their names and hashes. Without it nobody is known by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
    /// The same inside of TLS, at addresses of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ProxyTls>,
}

/// `gateway.proxy.tls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyTls {
    /// Where TLS is expected.
    pub listen: Vec<SocketAddr>,
    /// What clients are shown.
    #[serde(flatten)]
    pub shown: CertificateFiles,
    /// The CAs that clients' certificates must be signed by, in a file (PEM). Without it nobody is
    /// asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Proxy {
    /// Whether it listens anywhere.
    pub fn serves(&self) -> bool {
        !self.listen.is_empty() || self.tls.as_ref().is_some_and(|tls| !tls.listen.is_empty())
    }
}

pub(super) fn gateway(reader: &mut Reader<'_>, entry: &Entry) -> Option<Gateway> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), GATEWAY)?;
    let servers = fields.get("dnsOverTls");
    Some(Gateway {
        proxy: match fields.get("proxy") {
            Some(entry) => proxy(reader, entry)?,
            None => Proxy::default(),
        },
        dns_over_tls: servers.map_or_else(Vec::new, |entry| dns_over_tls::servers(reader, entry)),
    })
}

fn proxy(reader: &mut Reader<'_>, entry: &Entry) -> Option<Proxy> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), PROXY)?;
    let mut proxy = Proxy::default();
    let help = "write `listen: [\"192.0.2.1:3128\"]`";
    let encrypted = fields.get("tls");
    // One of the two is enough.
    let plain = match (fields.get("listen"), encrypted) {
        (None, Some(_)) => None,
        _ => fields.require(reader, "listen", help),
    };
    if let Some(entry) = plain {
        addresses(reader, entry, &mut proxy.listen, &[]);
    }
    if let Some(entry) = encrypted {
        proxy.tls = tls_of_clients(reader, entry, &proxy.listen);
    }
    if let Some(entry) = fields.get("tokens")
        && let Some(text) = reader.text(&entry.value)
    {
        if is_path(text.text) {
            proxy.tokens = Some(PathBuf::from(text.text));
        } else {
            let message = format!("{} is no path from the root", quoted(text.text));
            let help = "write one such as `tokens: /etc/sortie/tokens`";
            reader.report(text.span, Fault::new(message, help));
        }
    }
    Some(proxy)
}

fn addresses(
    reader: &mut Reader<'_>,
    entry: &Entry,
    to: &mut Vec<SocketAddr>,
    others: &[SocketAddr],
) {
    for node in reader.list(entry, "; without `proxy` nobody is served") {
        let Some(address) = listen(reader, node, "write one such as `192.0.2.1:3128`") else {
            continue;
        };
        if to.contains(&address) || others.contains(&address) {
            let message = format!("the address `{address}` is written twice");
            reader.report(node.span, Fault::new(message, "remove one of them"));
        }
        to.push(address);
    }
}

fn tls_of_clients(
    reader: &mut Reader<'_>,
    entry: &Entry,
    plain: &[SocketAddr],
) -> Option<ProxyTls> {
    let fields = reader.fields(&entry.value, Some(entry.key_span), TLS)?;
    let mut listen = Vec::new();
    let help = "write `listen: [\"192.0.2.1:3129\"]`";
    if let Some(entry) = fields.require(reader, "listen", help) {
        addresses(reader, entry, &mut listen, plain);
    }
    let shown = tls::files_of(reader, &fields);
    let ca = fields.get("ca").and_then(|entry| path(reader, entry, FILE));
    Some(ProxyTls {
        listen,
        shown: shown?,
        ca,
    })
}
