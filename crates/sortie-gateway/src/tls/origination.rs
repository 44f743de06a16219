//! TLS that the gateway begins where the workload speaks plain HTTP: whom it trusts, and who it is.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{H2, HTTP1, certificate};

/// Where Debian and Ubuntu, Alpine, Fedora and openSUSE keep the certificates that the system trusts.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// How TLS to an origin is begun, and on which port, which nobody looks at in an inspection. Connections of one are never used for another:
/// make one for each policy, and keep it.
#[derive(Clone)]
pub struct Origination {
    /// The origin's port, whatever port the workload called.
    pub port: u16,
    /// For clients that speak HTTP/1, which goes on as such.
    pub(crate) config: Arc<ClientConfig>,
    /// For clients that speak HTTP/2; the origin chooses.
    pub(crate) http2: Arc<ClientConfig>,
    until: Option<SystemTime>,
}

/// Why a policy's TLS cannot be set up.
#[derive(Debug)]
pub enum OriginationError {
    /// A file or text with certificates, or with a key, cannot be read.
    Pem {
        /// Which.
        what: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate in it.
    Empty {
        /// Which.
        what: String,
    },
    /// The client's certificate and key cannot be used.
    Client(rustls::Error),
    /// The client's certificate is not in force, or cannot be read.
    Ended(String),
}

impl fmt::Display for OriginationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem { what, source } => write!(f, "cannot read {what} as PEM: {source}"),
            Self::Empty { what } => write!(f, "{what} has no certificate"),
            Self::Ended(why) => write!(f, "the client certificate cannot be used: {why}"),
            Self::Client(source) => {
                write!(
                    f,
                    "the client certificate and its key cannot be used: {source}"
                )
            }
        }
    }
}

impl std::error::Error for OriginationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Pem { source, .. } => Some(source),
            Self::Client(source) => Some(source),
            Self::Empty { .. } | Self::Ended(_) => None,
        }
    }
}

/// A certificate of the gateway itself, with its chain, and its key; both PEM.
#[derive(Clone, Copy)]
pub struct ClientCertificate<'a> {
    /// The certificate, then those that signed it.
    pub chain: &'a [u8],
    /// Its private key.
    pub key: &'a [u8],
}

impl Origination {
    /// Trusts the certificates in `ca` (PEM) and no others; without one, those that the system
    /// trusts.
    ///
    /// # Errors
    /// [`OriginationError`].
    pub fn new(
        port: u16,
        ca: Option<&[u8]>,
        client: Option<ClientCertificate<'_>>,
    ) -> Result<Self, OriginationError> {
        let roots = match ca {
            Some(pem) => certificates("the CA", pem)?,
            None => system_roots()?,
        };
        let mut store = RootCertStore::empty();
        // A system's bundle may have old certificates that nobody can use any more.
        let (added, _) = store.add_parsable_certificates(roots);
        if added == 0 {
            let what = "the CA".to_owned();
            return Err(OriginationError::Empty { what });
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(OriginationError::Client)?
            .with_root_certificates(store);
        let mut until = None;
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let chain = certificates("the client certificate", client.chain)?;
                let shown = certificate::read(&chain[0]);
                let shown = shown.and_then(|shown| certificate::in_force(&shown));
                until = Some(shown.map_err(OriginationError::Ended)?);
                let key = PrivateKeyDer::from_pem_slice(client.key).map_err(|source| {
                    let what = "the key of the client certificate".to_owned();
                    OriginationError::Pem { what, source }
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(OriginationError::Client)?
            }
        };
        let mut http2 = config.clone();
        http2.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
        config.alpn_protocols = vec![HTTP1.to_vec()];
        Ok(Self {
            port,
            until,
            config: Arc::new(config),
            http2: Arc::new(http2),
        })
    }

    /// The same, with another port of the origin.
    #[must_use]
    pub fn at(&self, port: u16) -> Self {
        Self {
            port,
            ..self.clone()
        }
    }

    /// When the client's certificate ends, if there is one.
    pub fn until(&self) -> Option<SystemTime> {
        self.until
    }
}

impl fmt::Debug for Origination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origination(port {})", self.port)
    }
}

/// Two are the same if they were made once.
impl PartialEq for Origination {
    fn eq(&self, other: &Self) -> bool {
        self.port == other.port && Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for Origination {}

impl std::hash::Hash for Origination {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.config).hash(state);
    }
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, OriginationError> {
    let what = || what.to_owned();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(OriginationError::Empty { what: what() }),
        Ok(found) => Ok(found),
        Err(source) => Err(OriginationError::Pem {
            what: what(),
            source,
        }),
    }
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, OriginationError> {
    let bundle = SYSTEM_ROOTS
        .iter()
        .find_map(|path| std::fs::read(path).ok());
    match bundle {
        Some(pem) => certificates("the system's bundle of certificates", &pem),
        None => Err(OriginationError::Empty {
            what: format!("this host ({})", SYSTEM_ROOTS.join(", ")),
        }),
    }
}
