//! `enforcement: Audit` of policies by name and path: requests leave as without them, also where the
//! gateway sees them, and what they would change is told.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use serde_json::Value;
use sortie_lab::{Container, ContainerSpec, Process, Result, eventually};

use crate::audit::{apply, comes_to, counted};
use crate::requests::{Client, METRICS, SOON, begin, comes_to_count, connected, hello};
use crate::stage::{DOCKER_29_NFTABLES, HOST_V4, LIMIT, Stage, ip};

const API: &str = "api.example";
const SERVER: &str = "198.51.100.53";
const EGRESS: &str = "203.0.113.12";

/// By path, of both containers.
fn api(enforcement: &str) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: api}}
spec:
  workloads: [{{containers: {{names: [web, alone]}}}}]
  destinations: [{{hosts: [{API}], http: {{match: [{{pathPrefix: /api}}]}}}}]
  action: Egress
  egress: {{addresses: [{EGRESS}]}}
  enforcement: {enforcement}
"
    )
}

/// What leads the requests of one of them to the gateway, and leaves them as they are.
fn seen() -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: seen}}
spec:
  workloads: [{{containers: {{names: [web]}}}}]
  destinations: [{{hosts: [{API}], http: {{match: [{{pathPrefix: /}}]}}}}]
  action: Bypass
"
    )
}

/// A container whose requests the gateway sees, and one of which it sees nothing.
struct Scene {
    gateway: Process,
    web: Container,
    alone: Container,
    destination: IpAddr,
    stage: Stage,
}

impl Scene {
    fn new() -> Result<Self> {
        let stage = Stage::guarded("audit-requests", DOCKER_29_NFTABLES)?;
        stage.network("shop", 1, &[])?;
        apply(&stage, &[seen(), api("Audit")])?;
        let arguments = ["gateway", "--metrics", METRICS];
        let (destination, gateway, web) = begin(&stage, &arguments, &[API], 60)?;
        let spec = ContainerSpec::new("alone")
            .network("shop")
            .name_server(SERVER);
        let alone = stage.engine.run(&spec)?;
        stage.wait_for("alone", "Unmanaged")?;
        let scene = Self {
            gateway,
            web,
            alone,
            destination,
            stage,
        };
        eventually(LIMIT, "the gateway answers", || match scene.get("/ready") {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}; {}", scene.gateway.tail())),
        })?;
        Ok(scene)
    }

    fn connect(&self, port: u16) -> io::Result<TcpStream> {
        connected(&self.web, SocketAddr::new(self.destination, port), SOON)
    }

    /// The status of a connection's only request.
    fn get(&self, path: &str) -> io::Result<u16> {
        let reader = BufReader::new(self.connect(80)?);
        Client { reader }.ask(&format!("GET {path} HTTP/1.1\r\nHost: {API}\r\n\r\n"))
    }

    /// With which source a request came to the observer, and with which path.
    #[track_caller]
    fn expect(&self, path: &str, source: &str) {
        assert_eq!(self.get(path).expect("an answer"), 200, "{path}");
        let requested = self.stage.lab.internet().observer().requested();
        let found = requested.iter().rfind(|it| it.path == path);
        assert_eq!(found.expect("the request").source, ip(source), "{path}");
    }

    /// With which source TLS comes to the observer; none where it is refused.
    fn tls(&self) -> io::Result<Option<IpAddr>> {
        let mut stream = self.connect(443)?;
        stream.write_all(&hello(API))?;
        let mut reader = BufReader::new(stream);
        if reader.fill_buf()?.first() == Some(&21) {
            // An alert.
            return Ok(None);
        }
        let mut told = String::new();
        reader.read_line(&mut told)?;
        let source: SocketAddr = told.trim().parse().map_err(|_| io::Error::other(told))?;
        Ok(Some(source.ip()))
    }

    /// Waits for a line of the access log.
    fn logs(&self, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
        eventually(LIMIT, what, || {
            let log = self.gateway.stdout().unwrap_or_default();
            let mut lines = log
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            if lines.any(|line| is(&line)) {
                Ok(())
            } else {
                Err(log)
            }
        })
    }
}

#[test]
fn an_audit_of_requests_tells_and_changes_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let stage = &scene.stage;
    for path in ["/api/x", "/other", "/api/y"] {
        scene.expect(path, HOST_V4);
    }
    assert_eq!(scene.tls().expect("an answer"), Some(ip(HOST_V4)));
    scene.logs("a request that would leave otherwise", |line| {
        line["path"] == "/api/x"
            && line["policy"] == "seen"
            && line["actual_source"] == HOST_V4
            && line["audit"]["policy"] == "api"
            && line["audit"]["outcome"] == "other-source"
            && line["audit"]["source"] == EGRESS
    })?;
    scene.logs("a request that it does not mean", |line| {
        line["path"] == "/other" && line["audit"].is_null()
    })?;
    scene.logs("TLS that would be refused", |line| {
        line["port"] == 443
            && line["actual_source"] == HOST_V4
            && line["refused"].is_null()
            && line["audit"]["outcome"] == "dropped"
            && line["audit"]["refused"] == "PathNotVisible"
    })?;
    let labels = "{policy=\"api\",outcome=";
    for (outcome, count) in [("other-source", 2), ("dropped", 1)] {
        let name = "sortie_gateway_audit_requests_total";
        let line = format!("{name}{labels}\"{outcome}\"}} {count}");
        comes_to_count(stage, METRICS, &[line])?;
    }
    comes_to(stage, "api", "web", "otherSource", 2)?;
    comes_to(stage, "api", "web", "dropped", 1)?;
    let told = stage.ok(&["explain", "web", "http://api.example/api/x"]);
    assert!(told.contains("goes its way as without Sortie"), "{told}");
    assert!(
        told.contains(&format!("api would leave with {EGRESS}")),
        "{told}"
    );
    let told = stage.ok(&["explain", "web", "https://api.example/api/x"]);
    assert!(
        told.contains("api would be refused: PathNotVisible"),
        "{told}"
    );

    // Enforced it does what it said, and back it changes nothing.
    apply(stage, &[seen(), api("Enforce")])?;
    scene.expect("/api/enforced", EGRESS);
    scene.expect("/other/enforced", HOST_V4);
    assert_eq!(scene.tls().expect("an answer"), None);
    apply(stage, &[seen(), api("Audit")])?;
    scene.expect("/api/back", HOST_V4);
    assert_eq!(scene.tls().expect("an answer"), Some(ip(HOST_V4)));
    comes_to(stage, "api", "web", "otherSource", 1)?;

    // Who has no other policy needs no gateway: it is not asked, and nothing depends on it.
    scene.gateway.kill()?;
    // The kernel tells of an answer and of the flow behind it in no order, and a flow is counted once.
    scene.alone.exec(&["nslookup", "-type=a", API])?;
    eventually(LIMIT, "its look-up is overheard", || {
        let kept = stage.host.path("/run/sortie/names.jsonl");
        let kept = fs::read_to_string(kept).map_err(|error| error.to_string())?;
        let id = scene.alone.id();
        let mut lines = kept.lines();
        let is_kept = lines.any(|line| line.contains(id) && line.contains(API));
        is_kept.then_some(()).ok_or(kept)
    })?;
    let url = format!("http://{API}/api/alone");
    let told = scene.alone.exec(&["wget", "-q", "-O", "-", &url])?;
    assert_eq!(told.output.trim(), HOST_V4, "{}", told.output);
    comes_to(stage, "api", "alone", "unseen", 1)?;
    assert_eq!(counted(stage, "api", "alone", "otherSource"), 0);
    Ok(())
}
