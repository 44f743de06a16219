//! `gateway.dnsOverTls`: name servers that are asked over TLS (RFC 7858), whichever way workloads ask
//! them.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::tls::path;
use crate::address;
use crate::policy::HostPattern;
use crate::problem::{Fault, quoted};
use crate::reader::{Names, Reader};
use crate::yaml::{Entry, Node};

const SERVER: Names = Names {
    known: &["server", "name", "port", "ca"],
    later: &[],
};
/// RFC 7858 §3.1.
const PORT: u16 = 853;

/// One name server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsOverTls {
    /// Its address, as workloads know it.
    pub server: IpAddr,
    /// The name that it proves to have; none means its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its port for TLS.
    pub port: u16,
    /// The CA that its certificate comes from (PEM); none means those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

pub(super) fn servers(reader: &mut Reader<'_>, entry: &Entry) -> Vec<DnsOverTls> {
    let mut servers: Vec<DnsOverTls> = Vec::new();
    for node in reader.list(
        entry,
        "; without the field servers are asked as workloads ask them",
    ) {
        let Some(server) = server(reader, node) else {
            continue;
        };
        if servers.iter().any(|it| it.server == server.server) {
            let message = format!("the server `{}` is written twice", server.server);
            reader.report(node.span, Fault::new(message, "remove one of them"));
        }
        servers.push(server);
    }
    servers
}

fn server(reader: &mut Reader<'_>, node: &Node) -> Option<DnsOverTls> {
    let fields = reader.fields(node, None, SERVER)?;
    let name = fields.get("name").and_then(|entry| name(reader, entry));
    let port = fields.get("port");
    let port = port.map_or(Some(PORT), |entry| reader.integer(entry, 1, u16::MAX));
    let help = "write one such as `ca: /etc/sortie/resolvers.pem`";
    let ca = fields.get("ca");
    let ca = ca.and_then(|entry| path(reader, entry, help));
    let help = "add `server: ADDRESS`, as workloads' resolv.conf has it";
    let entry = fields.require(reader, "server", help)?;
    let text = reader.text(&entry.value)?;
    match address::address(text.text) {
        Ok(server) if is_elsewhere(server) => Some(DnsOverTls {
            server,
            name,
            port: port?,
            ca,
        }),
        Ok(_) => {
            let message = format!("{} is no name server's address", quoted(text.text));
            let help = "write the server's own address: 127.0.0.11, Docker's resolver, asks it in its turn, and that question goes over TLS";
            reader.report(text.span, Fault::new(message, help));
            None
        }
        Err(fault) => {
            reader.report(text.span, fault);
            None
        }
    }
}

/// Loopback is another place for each workload.
fn is_elsewhere(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

fn name(reader: &mut Reader<'_>, entry: &Entry) -> Option<String> {
    let text = reader.text(&entry.value)?;
    match HostPattern::read(text.text) {
        Ok(HostPattern::Exact(name)) => return Some(name),
        Ok(_) => {
            let message = format!("{} is no one host's name", quoted(text.text));
            let help = "write the name in the server's certificate";
            reader.report(text.span, Fault::new(message, help));
        }
        Err(_) => {
            let message = format!("{} is no host's name", quoted(text.text));
            let help = "write the name in the server's certificate; for a certificate of its address leave `name` out";
            reader.report(text.span, Fault::new(message, help));
        }
    }
    None
}
