//! `gateway` in the agent's file: what `sortie gateway` beside the agent does besides what policies say.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{is_path, listen};
use crate::problem::{Fault, quoted};
use crate::reader::{Names, Reader};
use crate::yaml::Entry;

const GATEWAY: Names = Names {
    known: &["proxy"],
    later: &[],
};
const PROXY: Names = Names {
    known: &["listen", "tokens"],
    later: &[],
};

/// `gateway`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// The explicit way in.
    pub proxy: Proxy,
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
    let help = "write `proxy: {listen: [\"192.0.2.1:3128\"]}`";
    let proxy = fields.require(reader, "proxy", help)?;
    let fields = reader.fields(&proxy.value, Some(proxy.key_span), PROXY)?;
    let mut proxy = Proxy::default();
    let help = "write `listen: [\"192.0.2.1:3128\"]`";
    if let Some(entry) = fields.require(reader, "listen", help) {
        for node in reader.list(entry, "; without `gateway` nobody is served") {
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
    Some(Gateway { proxy })
}
