//! TLS without decryption: decided by the name in the hello, then carried as it is.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sortie_lab::Netns;

use crate::pki::Pki;
use crate::world::{CALLED, FIRST, HOST, TLS_PORT, World};

/// A server that speaks TLS with who begins with it, and sends back what others send. It answers
/// each request with the caller's address.
#[derive(Clone, Default)]
pub(crate) struct TlsOrigin(Arc<Mutex<Vec<Caller>>>);

/// Who called: a request, or a connection without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) source: IpAddr,
    /// The name in the hello.
    pub(crate) name: Option<String>,
    /// Whether it proved who it is.
    pub(crate) is_known: bool,
    /// Counts connections.
    pub(crate) connection: usize,
}

impl Caller {
    /// The first connection's, with this name, from nobody who is known.
    pub(crate) fn first(source: Ipv4Addr, name: &str) -> Self {
        Self {
            source: source.into(),
            name: Some(name.to_owned()),
            is_known: false,
            connection: 0,
        }
    }
}

impl TlsOrigin {
    pub(crate) fn start(netns: &Netns, pki: &Pki) -> Self {
        let origin = Self::default();
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, TLS_PORT)).unwrap();
        let listener = netns.run(listen).unwrap();
        let config = config(pki);
        let noted = origin.clone();
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (noted, config) = (noted.clone(), Arc::clone(&config));
                // It ends with the connection; how, is the client's test's business.
                thread::spawn(move || noted.serve(stream?, connection, config));
            }
        });
        origin
    }

    /// Who has called so far.
    pub(crate) fn seen(&self) -> Vec<Caller> {
        self.0.lock().unwrap().clone()
    }

    fn serve(
        &self,
        mut stream: TcpStream,
        connection: usize,
        config: Arc<ServerConfig>,
    ) -> std::io::Result<()> {
        const HANDSHAKE: u8 = 22;
        let source = stream.peer_addr()?.ip();
        let mut caller = Caller {
            source,
            name: None,
            is_known: false,
            connection,
        };
        let mut first = [0];
        if stream.peek(&mut first)? == 0 {
            // Nothing was said.
            return Ok(());
        }
        if first[0] != HANDSHAKE {
            self.0.lock().unwrap().push(caller);
            std::io::copy(&mut stream.try_clone()?, &mut stream)?;
            return Ok(());
        }
        let session = ServerConnection::new(config).map_err(std::io::Error::other)?;
        let mut tls = StreamOwned::new(session, stream);
        loop {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                tls.read_exact(&mut byte)?;
                request.extend(byte);
            }
            caller.name = tls.conn.server_name().map(str::to_owned);
            caller.is_known = tls.conn.peer_certificates().is_some();
            self.0.lock().unwrap().push(caller.clone());
            let text = format!("{source}\n");
            let length = text.len();
            write!(
                tls,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
            )?;
            tls.flush()?;
        }
    }
}

/// Asks for a client's certificate, and takes who has none too.
fn config(pki: &Pki) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut clients = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(&pki.read("ca.pem")).unwrap();
    clients.add(ca).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(&pki.read("server.pem")).unwrap()],
            PrivateKeyDer::from_pem_slice(&pki.read("server.key")).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

fn url(name: &str) -> String {
    format!("https://{name}:{TLS_PORT}/x")
}

#[test]
fn a_name_in_the_hello_decides_the_source() {
    let world = World::new("sni");
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let version = version.split('=').collect::<Vec<_>>();
        let url = url("a.partner.example");
        let arguments = [&version[..], &["--insecure", &url]].concat();
        assert_eq!(world.curl(&arguments).unwrap(), format!("{FIRST}\n"));
    }
    // The workload's own look-up led elsewhere, and means nothing.
    assert_ne!(CALLED, FIRST);
    let expected = Caller::first(FIRST, "a.partner.example");
    let seen = world.tls.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], expected);
    assert_eq!(
        (seen[1].source, &seen[1].name),
        (expected.source, &expected.name)
    );
    world.log.wait_for("a line for the tunnel", |line| {
        line["host"] == "a.partner.example"
            && line["policy"] == "partner"
            && line["upstream"] == "198.51.100.7:8443"
            && line["intended_source"] == FIRST.to_string()
            && line["bytes_received"]
                .as_u64()
                .is_some_and(|bytes| bytes > 100)
    });
}

#[test]
fn a_path_that_tls_hides_is_refused() {
    let world = World::new("hidden");
    for name in ["api.external.com", "denied.example"] {
        let error = world.curl(&["--insecure", &url(name)]).unwrap_err();
        assert!(error.contains("alert access denied"), "{error}");
    }
    assert!(world.tls.seen().is_empty());
    world.log.wait_for("the log tells it", |line| {
        line["host"] == "api.external.com"
            && line["refused"]
                .as_str()
                .is_some_and(|refused| refused.contains("reason=PathNotVisible"))
    });
}

#[test]
fn a_name_that_no_policy_knows_goes_where_it_was_going_as_the_host() {
    let world = World::new("other-name");
    let printed = world.curl(&["--insecure", &url("unnamed.example")]);
    assert_eq!(printed.unwrap(), format!("{HOST}\n"));
    assert_eq!(world.tls.seen(), [Caller::first(HOST, "unnamed.example")]);
}

#[test]
fn a_hello_in_small_pieces_decides_all_the_same() {
    let world = World::new("pieces");
    let mut client = world.connect(TLS_PORT);
    let hello = include_bytes!("../../src/tls/client_hello/curl.bin");
    for byte in hello.chunks(1) {
        client.write_all(byte).unwrap();
    }
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, sortie_gateway::tls::ACCESS_DENIED);
    assert!(world.tls.seen().is_empty());
}
