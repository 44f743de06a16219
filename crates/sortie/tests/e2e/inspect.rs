//! TLS that the gateway looks into with an operator's CA, and certificates that it shows: a container's
//! own curl, and an origin that tells whom it saw.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sortie_lab::{Container, ContainerSpec, Process, Result, eventually, pki};

use crate::outside::Running;
use crate::stage::{DOCKER_29_NFTABLES, GUARD_ALL, HOST_V4, LIMIT, Stage};

/// The policy's address.
const FIRST: &str = "203.0.113.11";
/// The internet's name server.
const SERVER: &str = "198.51.100.53";
/// Where the origin speaks TLS: with a certificate of its CA's, with one that nobody believes, and
/// only with who shows a certificate.
const PORT: u16 = 8443;
const UNPROVEN: u16 = 8444;
const MUTUAL: u16 = 8445;

/// Answers with the caller's address, the path, and whose certificate was shown.
const ORIGIN: &str = r#"
import http.server, ssl, sys, threading

class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        shown = self.connection.getpeercert()
        who = dict(pair[0] for pair in shown["subject"])["commonName"] if shown else "nobody"
        body = f"{self.client_address[0]} {self.path} {who}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

for port, name, mutual in ((8443, "server", False), (8444, "unproven", False), (8445, "server", True)):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(name + ".pem", name + ".key")
    if mutual:
        tls.load_verify_locations("origins.pem")
        tls.verify_mode = ssl.CERT_REQUIRED
    server = Server(("0.0.0.0", port), Answers)
    # In a thread of each connection's, or one that is slow stops all.
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()
"#;

/// An origin with three names, two of them on one address, and a container that may look them up.
struct Scene {
    gateway: Process,
    web: Container,
    _origin: Running,
    pki: PathBuf,
    stage: Stage,
}

impl Scene {
    /// With certificates as `tls` of the agent's file says, in which `PKI` is their folder.
    fn new(name: &str, tls: &str) -> Result<Self> {
        let mut stage = Stage::without_agent(name, DOCKER_29_NFTABLES)?;
        let pki = stage.folder().join("pki");
        certificates(&pki)?;
        stage.start_agent(&config(&pki, tls))?;
        stage.network("shop", 1, &[])?;
        let to = stage.lab.destination()?.v4;
        for (name, address) in [
            ("api.external.com", to),
            ("plain.example", to),
            ("partner.example", to),
        ] {
            let names = stage.lab.internet().observer().names();
            names.set(name, &[address], 60);
        }
        let origin = origin(&stage, &pki)?;
        let gateway = stage.spawn("gateway", &["gateway"])?;
        let image = stage.engine.image_curl()?;
        let spec = ContainerSpec::new("web").image(&image);
        let spec = spec.network("shop").name_server(SERVER);
        let web = stage.engine.run(&spec)?;
        stage.wait_for("web", "Unmanaged")?;
        for ca in ["inspect", "origins"] {
            let text = fs::read_to_string(pki.join(format!("{ca}.pem"))).expect("a certificate");
            let kept = web.exec(&["sh", "-c", &format!("echo '{text}' > /{ca}.pem")])?;
            assert_eq!(kept.code, 0, "{kept:?}");
        }
        Ok(Self {
            gateway,
            web,
            _origin: origin,
            pki,
            stage,
        })
    }

    fn apply(&self, policy: &str) -> Result<()> {
        self.stage.applied(&self.filled(policy)).map(drop)
    }

    fn filled(&self, text: &str) -> String {
        text.replace("PKI", &self.pki.display().to_string())
    }

    /// What the container's curl prints; why not, and its exit code.
    fn curl(&self, arguments: &[&str]) -> std::result::Result<String, String> {
        let all = [&["curl", "-sS", "--max-time", "30"], arguments].concat();
        let told = self.web.exec(&all).map_err(|error| error.to_string())?;
        match told.code {
            0 => Ok(told.output),
            code => Err(format!("{code}: {}; {}", told.output, self.gateway.tail())),
        }
    }

    /// The same, of who trusts the inspection's CA and no other.
    fn trusting(&self, arguments: &[&str]) -> std::result::Result<String, String> {
        self.curl(&[&["--cacert", "/inspect.pem"], arguments].concat())
    }

    #[track_caller]
    fn until(&self, arguments: &[&str], expected: &str) -> Result<()> {
        eventually(LIMIT, "the origin's answer", || {
            match self.trusting(arguments) {
                Ok(told) if told == expected => Ok(()),
                other => Err(format!("{other:?} instead of {expected:?}")),
            }
        })
    }

    /// Waits for a problem of the status, about this object, in these words.
    fn expect_problem(&self, object: &str, words: &str) -> Result<()> {
        eventually(LIMIT, "the status tells of it", || {
            let status = self.stage.json(&["status"]);
            let status = status.map_err(|error| error.to_string())?;
            let problems = status["problems"].as_array().into_iter().flatten();
            let mut found = problems.filter(|it| it["object"] == object);
            let is = |it: &serde_json::Value| {
                it["message"].as_str().is_some_and(|it| it.contains(words))
            };
            if found.any(is) {
                Ok(())
            } else {
                Err(format!("{}", status["problems"]))
            }
        })
    }
}

fn origin(stage: &Stage, pki: &Path) -> Result<Running> {
    let mut python = Command::new("python3");
    python.args(["-c", ORIGIN]);
    Running::start(stage, python.current_dir(pki).stderr(Stdio::null()))
}

fn config(pki: &Path, tls: &str) -> String {
    let tls = tls.replace("PKI", &pki.display().to_string());
    format!("{GUARD_ALL}{tls}")
}

/// `inspect` and `origins` are CAs; `server` and `partner` have certificates of the second's, and
/// `unproven` one of its own.
fn certificates(at: &Path) -> Result<()> {
    fs::create_dir_all(at).expect("a folder");
    let names = "DNS:api.external.com,DNS:plain.example,DNS:partner.example";
    let constraints = " -addext keyUsage=critical,keyCertSign -addext nameConstraints=critical,permitted;DNS:api.external.com";
    pki::self_signed(at, "inspect", constraints)?;
    pki::self_signed(at, "origins", "")?;
    let unproven = format!(" -addext subjectAltName={names}");
    pki::self_signed(at, "unproven", &unproven)?;
    for name in ["server", "partner"] {
        pki::of_names(at, name, "origins", names)?;
    }
    Ok(())
}

const TLS: &str = "tls:
  inspect: {certificate: PKI/inspect.pem, key: PKI/inspect.key}
  clientCertificates:
    partner: {certificate: PKI/partner.pem, key: PKI/partner.key}
";

/// Of one host's requests in TLS, those for `/api` have an address of their own.
const INSPECTING: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: inspecting}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations:
  - hosts: [api.external.com]
    ports: [{protocol: TCP, port: 8443, endPort: 8444}]
    http: {match: [{pathPrefix: /api}], tls: {inspect: true, ca: PKI/origins.pem}}
  action: Egress
  egress: {addresses: [203.0.113.11]}
";

#[test]
fn paths_in_https_have_their_own_address() -> Result<()> {
    let scene = Scene::new("inspected", TLS)?;
    scene.apply(INSPECTING)?;
    let url = |port: u16, path: &str| format!("https://api.external.com:{port}{path}");
    let [api, other, odd] = ["/api/x", "/other", "/api/../other"].map(|path| url(PORT, path));
    scene.until(&[&api], &format!("{FIRST} /api/x nobody\n"))?;
    // By turns on one connection, of HTTP/2 and of HTTP/1.1.
    for version in ["--http2", "--http1.1"] {
        let told = scene.trusting(&[version, "--path-as-is", &other, &api, &odd, &api]);
        let expected = format!(
            "{HOST_V4} /other nobody\n{FIRST} /api/x nobody\n{HOST_V4} /other nobody\n{FIRST} /api/x nobody\n"
        );
        assert_eq!(told, Ok(expected), "{version}");
    }
    // Who does not trust the CA goes, whatever else he trusts.
    for trusted in [&["--cacert", "/origins.pem"][..], &[]] {
        let refused = scene.curl(&[trusted, &[&api]].concat()).unwrap_err();
        assert!(
            refused.starts_with("60:") || refused.starts_with("77:"),
            "{refused}"
        );
    }
    // An origin that does not prove its name gets nothing.
    for path in ["/api/x", "/other"] {
        let told = scene
            .trusting(&["--include", &url(UNPROVEN, path)])
            .expect("an answer");
        assert!(
            told.contains(" 502 ") && told.contains("error=tls_certificate_error"),
            "{told}"
        );
    }
    // A request inside for somebody else.
    let told = scene.trusting(&["--include", "--header", "Host: plain.example", &api]);
    assert!(told.expect("an answer").contains(" 421 "));
    // Whom no policy inspects shows a certificate of its own.
    let plain = format!("https://plain.example:{PORT}/api/x");
    let told = scene.curl(&["--cacert", "/origins.pem", &plain]);
    assert_eq!(told, Ok(format!("{HOST_V4} /api/x nobody\n")));
    let refused = scene.trusting(&[&plain]).unwrap_err();
    assert!(refused.starts_with("60:"), "{refused}");
    let explained = scene.stage.ok(&["explain", "web", &api]);
    assert!(
        explained.contains(FIRST) && explained.contains("looks into TLS"),
        "{explained}"
    );
    Ok(())
}

/// Of the same host, and of one that is spoken with in plain HTTP.
#[test]
fn a_client_certificate_is_shown_for_the_policys_requests() -> Result<()> {
    const POLICIES: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: known}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations:
  - hosts: [partner.example]
    http: {tls: {originate: true, port: 8445, ca: PKI/origins.pem, clientCertificate: partner}}
  - hosts: [api.external.com]
    ports: [{protocol: TCP, port: 8445}]
    http: {match: [{pathPrefix: /api}], tls: {inspect: true, ca: PKI/origins.pem, clientCertificate: partner}}
  action: Egress
  egress: {addresses: [203.0.113.11]}
";
    let scene = Scene::new("client-certificate", TLS)?;
    scene.apply(POLICIES)?;
    scene.until(
        &["http://partner.example/x"],
        &format!("{FIRST} /x partner\n"),
    )?;
    let inside = format!("https://api.external.com:{MUTUAL}");
    let (api, other) = (format!("{inside}/api/x"), format!("{inside}/other"));
    assert_eq!(
        scene.trusting(&[&api]),
        Ok(format!("{FIRST} /api/x partner\n"))
    );
    // It is no request of the policy's: nothing is shown, and the origin takes nobody without.
    let told = scene.trusting(&["--include", &other]).expect("an answer");
    assert!(told.contains(" 502 "), "{told}");
    Ok(())
}

/// Without a CA that can be used nothing is looked into, and nothing passes unseen.
#[test]
fn without_a_usable_ca_nothing_passes() -> Result<()> {
    let mut scene = Scene::new("inspect-faults", "")?;
    let policy = scene.filled(INSPECTING);
    let outcome = scene.stage.apply(&policy)?;
    assert_eq!(outcome.code(), 1, "{}", outcome.stdout);
    for words in [
        "`inspect` needs a CA",
        "tls: {inspect: {certificate: FILE, key: FILE}}",
    ] {
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    // A file of the folder is taken, as one whose address is not there.
    let folder = scene.stage.policies();
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("inspecting.yaml"), &policy).expect("a file");
    scene.expect_problem("policy inspecting", "needs a CA")?;
    let api = format!("https://api.external.com:{PORT}/api/x");
    let other = format!("https://api.external.com:{PORT}/other");
    let is_closed = |scene: &Scene| {
        for url in [&api, &other] {
            let told = scene.curl(&["--insecure", url]).unwrap_err();
            assert!(told.starts_with("35:"), "{told}");
        }
    };
    eventually(LIMIT, "the gateway refuses it", || {
        match scene.curl(&["--insecure", &api]) {
            Err(told) if told.starts_with("35:") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    is_closed(&scene);
    // With a CA whose key others may read.
    let key = scene.pki.join("inspect.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("a mode");
    scene.stage.stop_agent()?;
    let config = config(&scene.pki, TLS);
    scene.stage.start_agent(&config)?;
    scene.expect_problem("gateway", "others than root may read the key")?;
    is_closed(&scene);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode");
    scene.until(
        &[&api, &other],
        &format!("{FIRST} /api/x nobody\n{HOST_V4} /other nobody\n"),
    )
}
