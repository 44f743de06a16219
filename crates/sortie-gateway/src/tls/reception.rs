//! TLS with clients that ask for a proxy: what they are shown, and whose certificates are believed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::{HTTP1, certificate};

/// How TLS with clients is begun. A client need not show a certificate; one that is shown must be
/// signed by a CA of these, and in force.
#[derive(Clone)]
pub struct Reception {
    pub(crate) server: Arc<ServerConfig>,
    /// Their certificates, DER.
    authorities: Arc<BTreeSet<Vec<u8>>>,
    until: SystemTime,
}

/// The certificate that a client has shown, and that was believed then.
#[derive(Debug, Clone)]
pub struct ShownCertificate {
    /// Its subject, as policies name it.
    pub subject: String,
    /// By whom.
    pub reception: Reception,
}

/// Why clients cannot be served by TLS: a certificate, its key or the CAs cannot be used.
#[derive(Debug)]
pub struct ReceptionError(String);

impl fmt::Display for ReceptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReceptionError {}

impl Reception {
    /// Shows the certificate that comes first in `chain`, followed by those that signed it, and asks
    /// for one that `authorities` have signed, if there are any; all PEM.
    ///
    /// # Errors
    /// [`ReceptionError`], also for a certificate that is not in force or whose key is another one.
    pub fn new(
        chain: &[u8],
        key: &[u8],
        authorities: Option<&[u8]>,
    ) -> Result<Self, ReceptionError> {
        let chain = certificates("the certificate", chain)?;
        let shown = certificate::read(&chain[0]).map_err(ReceptionError)?;
        let until = certificate::in_force(&shown).map_err(ReceptionError)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| ReceptionError(format!("cannot read the key as PEM: {error}")))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS", &error))?;
        let mut believed = BTreeSet::new();
        let builder = match authorities {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let mut store = RootCertStore::empty();
                for authority in certificates("the CA", authorities)? {
                    let added = store.add(authority.clone());
                    added.map_err(|error| unusable("the CA", &error))?;
                    believed.insert(authority.to_vec());
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
                        .allow_unauthenticated()
                        .build()
                        .map_err(|error| unusable("the CA", &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut server = builder
            .with_single_cert(chain, key)
            .map_err(|error| unusable("the certificate with this key", &error))?;
        server.alpn_protocols = vec![HTTP1.to_vec()];
        // What is resumed is not verified again, though its CA may have gone.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            server: Arc::new(server),
            authorities: Arc::new(believed),
            until,
        })
    }

    /// When the certificate that is shown ends.
    pub fn until(&self) -> SystemTime {
        self.until
    }

    /// Whether it believes everybody whom the other one does.
    pub fn believes_all_of(&self, other: &Self) -> bool {
        self.authorities.is_superset(&other.authorities)
    }
}

impl fmt::Debug for Reception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reception")
    }
}

fn unusable(what: &str, error: &dyn std::error::Error) -> ReceptionError {
    ReceptionError(format!("{what} cannot be used: {error}"))
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ReceptionError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(ReceptionError(format!("{what}: the file has none"))),
        Ok(found) => Ok(found),
        Err(error) => Err(ReceptionError(format!(
            "cannot read {what} as PEM: {error}"
        ))),
    }
}
