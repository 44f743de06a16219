//! Certificates for a test, made by `openssl` in a folder that goes with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// A CA with a server and a client that it has signed, and two CAs that have signed nobody. All
/// are files: `ca.pem`, `server.pem`, `client.pem`, `other.pem`, `inspect.pem`, and keys `*.key`.
pub(crate) struct Pki(TempDir);

impl Pki {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for ca in ["ca", "other", "inspect"] {
            let files = format!("-keyout {ca}.key -out {ca}.pem -subj /CN={ca}");
            openssl(at, &format!("req -x509 -days 2 {KEY} {files}"));
        }
        std::fs::write(
            at.join("extensions"),
            "basicConstraints=CA:FALSE\nsubjectAltName=DNS:secure.example,DNS:*.partner.example\n",
        )
        .unwrap();
        for leaf in ["server", "client"] {
            let files = format!("-keyout {leaf}.key -out {leaf}.request -subj /CN={leaf}");
            openssl(at, &format!("req {KEY} {files}"));
            let files = format!("-in {leaf}.request -out {leaf}.pem");
            let ca = "-CA ca.pem -CAkey ca.key -CAcreateserial";
            openssl(
                at,
                &format!("x509 -req -days 2 {ca} -extfile extensions {files}"),
            );
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

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn openssl(folder: &Path, arguments: &str) {
    let made = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "openssl {arguments}: {complaint}");
}
