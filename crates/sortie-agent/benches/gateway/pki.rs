//! A CA, and a server that it has signed, in a folder that goes with them.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sortie_lab::pki;
use tempfile::TempDir;

use crate::Failure;

pub(crate) struct Pki {
    folder: TempDir,
    /// The server's side of TLS.
    pub(crate) server: Arc<ServerConfig>,
}

impl Pki {
    pub(crate) fn new() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        pki::self_signed(at, "ca", "")?;
        pki::of_names(at, "server", "ca", "DNS:*.bench.example")?;
        let chain = vec![CertificateDer::from_pem_file(at.join("server.pem"))?];
        let key = PrivateKeyDer::from_pem_file(at.join("server.key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Self {
            folder,
            server: Arc::new(server),
        })
    }

    /// The CA's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}
