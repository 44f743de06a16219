//! Certificates for a test, in a folder that goes with them.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sortie_lab::pki;
use tempfile::TempDir;

/// A CA with a server and a client that it has signed, and two CAs that have signed nobody. All
/// are files: `ca.pem`, `server.pem`, `client.pem`, `other.pem`, `inspect.pem`, and keys `*.key`.
pub(crate) struct Pki(TempDir);

impl Pki {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for ca in ["ca", "other", "inspect"] {
            pki::self_signed(at, ca, "").unwrap();
        }
        for leaf in ["server", "client"] {
            let names = "DNS:secure.example,DNS:*.partner.example";
            pki::of_names(at, leaf, "ca", names).unwrap();
        }
        Self(folder)
    }

    /// A server's side of TLS that offers HTTP/2 and HTTP/1.1.
    pub(crate) fn http2(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(&self.read("server.pem")).unwrap()],
                PrivateKeyDer::from_pem_slice(&self.read("server.key")).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// Where a file is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file's text.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }
}
