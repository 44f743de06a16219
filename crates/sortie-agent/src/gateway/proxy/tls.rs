//! Clients that come by TLS: the certificates that they are shown and that they show.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use sortie_api::config::ProxyTls;
use sortie_api::workload::WorkloadId;
use sortie_gateway::Gateway;
use sortie_gateway::decide::{Clients, Shown, Speaks};
use sortie_gateway::tls::{Reception, ShownCertificate};

use super::{ByProof, Proxy};
use crate::gateway::certificates::followed::{File, Made};
use crate::gateway::certificates::pair;

/// The same clients, inside of TLS.
pub(super) struct Encrypted(pub(super) Arc<ByProof>);

impl Clients for Encrypted {
    fn known(&self, peer: SocketAddr, shown: Shown<'_>) -> Option<WorkloadId> {
        self.0.known(peer, shown)
    }

    fn speaks(&self) -> Speaks {
        let reception = self.0.reception();
        reception.clone().map_or(Speaks::NotNow, Speaks::Tls)
    }
}

impl ByProof {
    /// Whether a certificate that was believed when the connection began still is.
    pub(super) fn believes(&self, shown: &ShownCertificate) -> bool {
        let now = self.reception();
        let now = now.as_ref();
        now.is_some_and(|now| now.believes_all_of(&shown.reception))
    }

    fn reception(&self) -> RwLockReadGuard<'_, Option<Reception>> {
        let reception = self.reception.read();
        reception.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Why TLS cannot be spoken with clients as the files are now.
    pub(in crate::gateway) fn fault(&self) -> Option<&String> {
        self.fault.as_ref()
    }

    /// 1. Files that cannot be used change nothing, while what was made of them before can be.
    /// 2. Where a CA has gone, all who have shown a certificate are cut off: nobody knows any more
    ///    whose theirs was. Who is still believed comes back.
    pub(super) fn read_certificates(&mut self, gateway: &Gateway) {
        let looked = match &self.tls {
            Some(tls) => self.reception.look(&files(tls), |texts| made(tls, texts)),
            None => Ok(()),
        };
        let fault = looked.err();
        if let Some(why) = fault.as_ref().filter(|_| fault != self.fault) {
            tracing::warn!(
                why,
                "the certificates for clients of the proxy cannot be used; trying again"
            );
        }
        self.fault = fault;
        let now = self.reception.made().cloned();
        let before = {
            let kept = self.clients.reception.write();
            let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *kept, now.clone())
        };
        let goes_on =
            before.is_none_or(|before| now.is_some_and(|now| now.believes_all_of(&before)));
        if !goes_on {
            for id in self.known.clients_with_certificates() {
                gateway.forget(&id);
            }
        }
    }
}

fn files(tls: &ProxyTls) -> Vec<File> {
    let ca = tls.ca.iter().cloned().map(File::Open);
    pair(&tls.shown).into_iter().chain(ca).collect()
}

fn made(tls: &ProxyTls, texts: &[Vec<u8>]) -> Result<Made<Reception>, String> {
    let [chain, key, ca @ ..] = texts else {
        return Err("there are two files at least".to_owned());
    };
    let ca = tls.ca.as_ref().and(ca.first()).map(Vec::as_slice);
    let made = Reception::new(chain, key, ca).map_err(|error| error.to_string())?;
    Ok(Made {
        until: Some(made.until()),
        made,
    })
}
