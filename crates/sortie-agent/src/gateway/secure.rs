//! Name servers that are asked over TLS: from the host, with the source that policies give the
//! workload's own question.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sortie_api::workload::WorkloadId;
use sortie_dns::{Connection, Opening, Secure, Way};
use sortie_gateway::decide::Way as Decided;
use sortie_gateway::{Outgoing, SeenSource};

use super::addresses::DNS;
use super::certificates::Certificates;
use super::known::Known;
use super::requests::ByRequest;

/// Those that the agent's file names.
pub(super) struct ByConfig {
    pub(super) known: Arc<Known>,
    pub(super) decide: Arc<ByRequest>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) seen: Arc<dyn SeenSource>,
    /// Why servers cannot be asked, as it was logged last.
    pub(super) failing: Mutex<BTreeMap<IpAddr, String>>,
}

impl ByConfig {
    async fn connect(&self, way: &Way) -> io::Result<Box<dyn Connection>> {
        let host = self.known.host();
        let mut servers = host.dns_over_tls.iter();
        let server = servers.find(|it| SocketAddr::new(it.server, it.port) == way.server);
        let none = || io::Error::other("it is no longer asked over TLS");
        let server = server.ok_or_else(none)?;
        let trust = self.certificates.server(server, Instant::now());
        let none = || io::Error::other("the certificates of its CA cannot be used");
        let trust = trust.ok_or_else(none)?;
        let name = server.name.clone();
        let name = name.unwrap_or_else(|| server.server.to_string());
        let outgoing = Outgoing {
            to: way.server,
            source: way.source,
            mark: way.mark,
        };
        let connection = outgoing.connect(&name, &trust, &*self.seen).await;
        Ok(Box::new(connection?))
    }

    /// Each lookup fails for itself; the log is told when that begins, changes and ends.
    fn note(&self, server: IpAddr, error: Option<&io::Error>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error.map(ToString::to_string) else {
            if failing.remove(&server).is_some() {
                tracing::info!(%server, "it is asked over TLS again");
            }
            return;
        };
        if failing.get(&server) != Some(&error) {
            tracing::warn!(%server, error, "it cannot be asked over TLS: lookups that need it fail");
            failing.insert(server, error);
        }
    }
}

impl Secure for ByConfig {
    /// The policies are asked of port 53, which is what the workload calls.
    fn way(&self, workload: &WorkloadId, server: SocketAddr) -> Result<Option<Way>, String> {
        let address = server.ip();
        if server.port() != DNS {
            return Ok(None);
        }
        let host = self.known.host();
        let Some(over_tls) = host.dns_over_tls.iter().find(|it| it.server == address) else {
            return Ok(None);
        };
        let server = SocketAddr::new(address, over_tls.port);
        let (source, mark) = match self.decide.question(workload, address) {
            Decided::AsHost => (None, 0),
            Decided::Egress { sources, mark } => match sources.towards(address) {
                Some(source) => (Some(source), mark),
                None => return Err("its policy has no address of this family".to_owned()),
            },
            Decided::Refused(reason) => return Err(format!("a policy refuses it ({reason:?})")),
        };
        Ok(Some(Way {
            server,
            source,
            mark,
        }))
    }

    fn open<'a>(&'a self, way: &'a Way) -> Opening<'a> {
        Box::pin(async {
            let opened = self.connect(way).await;
            self.note(way.server.ip(), opened.as_ref().err());
            opened
        })
    }
}

impl std::fmt::Debug for ByConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByConfig")
    }
}
