//! A CA, and a server that it has signed, made by `openssl` in a folder that goes with them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use crate::Failure;

pub(crate) struct Pki {
    folder: TempDir,
    /// The server's side of TLS.
    pub(crate) server: Arc<ServerConfig>,
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

impl Pki {
    pub(crate) fn new() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let at = folder.path();
        std::fs::write(
            at.join("extensions"),
            "basicConstraints=CA:FALSE\nsubjectAltName=DNS:*.bench.example\n",
        )?;
        for arguments in [
            format!("req -x509 -days 2 {KEY} -keyout ca.key -out ca.pem -subj /CN=ca"),
            format!("req {KEY} -keyout server.key -out server.request -subj /CN=server"),
            "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions \
             -in server.request -out server.pem"
                .to_owned(),
        ] {
            let mut openssl = Command::new("openssl");
            let made = openssl
                .args(arguments.split(' '))
                .current_dir(at)
                .output()?;
            if !made.status.success() {
                let complaint = String::from_utf8_lossy(&made.stderr);
                return Err(format!("openssl {arguments}: {complaint}").into());
            }
        }
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
