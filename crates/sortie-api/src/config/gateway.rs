//! `gateway` in the agent's file: what `sortie gateway` beside the agent does besides what policies say.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dns_over_tls::{self, DnsOverTls};
use super::{is_path, listen};
use crate::problem::{Fault, quoted};
use crate::reader::{Names, Reader};
use crate::yaml::Entry;

const GATEWAY: Names = Names {
    known: &["proxy", "dnsOverTls"],
    later: &[],
};
const PROXY: Names = Names {
    known: &["listen", "tokens"],
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
    /// The file of tokens: their names and hashes. Without it only managed containers are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PathBuf>,
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
    if let Some(entry) = fields.require(reader, "listen", help) {
        for node in reader.list(entry, "; without `proxy` nobody is served") {
            let Some(address) = listen(reader, node, "write one such as `192.0.2.1:3128`") else {
                continue;
            };
            if proxy.listen.contains(&address) {
                let message = format!("the address `{address}` is written twice");
                reader.report(node.span, Fault::new(message, "remove one of them"));
            }
            proxy.listen.push(address);
        }
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
