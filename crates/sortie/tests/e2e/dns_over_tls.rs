//! A name server that the agent's file says is asked over TLS: a container's look-ups reach it so, and
//! with the source that policies give them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sortie_lab::{Container, ContainerSpec, Process, Result, Traffic, eventually, pki};

use crate::outside::Running;
use crate::stage::{DOCKER_29_NFTABLES, GUARD_ALL, HOST_V4, LIMIT, Stage, ip};

/// The internet's name server. What it is asked in plain text is noted by the observer.
const SERVER: &str = "198.51.100.53";

/// Answers each question for A with the one address that it is given, and notes who asked, in which
/// connection, and what; everything else has no records.
const OVER_TLS: &str = r#"
import socketserver, ssl, sys, threading

folder, port, address = sys.argv[1:]
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(folder + "/server.pem", folder + "/server.key")

class Answers(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            self.converse(tls.wrap_socket(self.request, server_side=True))
        except (OSError, EOFError):
            pass

    def converse(self, stream):
        file = stream.makefile("rb")
        while length := file.read(2):
            query = file.read(int.from_bytes(length, "big"))
            at, labels = 12, []
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            question = query[12 : at + 5]
            is_a = query[at + 2] == 1
            with open(folder + "/asked", "a") as asked:
                print(*self.client_address, ".".join(labels), file=asked)
            answer = query[:2] + bytes([0x84, 0, 0, 1, 0, int(is_a), 0, 0, 0, 0]) + question
            if is_a:
                number = bytes(int(part) for part in address.split("."))
                answer += bytes([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]) + number
            stream.sendall(len(answer).to_bytes(2, "big") + answer)

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

Server(("0.0.0.0", int(port)), Answers).serve_forever()
"#;

/// The name's address is called from .11, its server from .12.
const POLICIES: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: db}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations: [{hosts: [db.example]}]
  action: Egress
  egress: {addresses: [203.0.113.11]}
---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: questions}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations: [{cidrs: [198.51.100.53/32], ports: [{protocol: UDP, port: 53}]}]
  action: Egress
  egress: {addresses: [203.0.113.12]}
";

struct Scene {
    web: Container,
    to: sortie_lab::Destination,
    server: Running,
    gateway: Process,
    stage: Stage,
}

impl Scene {
    /// With the server's name as the agent's file has it.
    fn new(name: &str, proven: &str) -> Result<Self> {
        let mut stage = Stage::without_agent(name, DOCKER_29_NFTABLES)?;
        let folder = stage.folder().join("pki");
        certificates(&folder)?;
        let server = format!("{{server: {SERVER}, name: {proven}, ca: {}}}", ca(&folder));
        stage.start_agent(&format!("{GUARD_ALL}gateway: {{dnsOverTls: [{server}]}}\n"))?;
        stage.network("shop", 1, &[])?;
        let to = stage.lab.destination()?;
        let server = Self::serve(&stage, &folder, &to)?;
        let gateway = stage.spawn("gateway", &["gateway"])?;
        stage.applied(POLICIES)?;
        let spec = ContainerSpec::new("web")
            .network("shop")
            .name_server(SERVER);
        let web = stage.managed(&spec)?;
        Ok(Self {
            web,
            to,
            server,
            gateway,
            stage,
        })
    }

    fn serve(stage: &Stage, folder: &Path, to: &sortie_lab::Destination) -> Result<Running> {
        let mut python = Command::new("python3");
        python.args(["-c", OVER_TLS]).arg(folder);
        python.args(["853", &to.v4.to_string()]);
        Running::start(stage, python.stderr(Stdio::null()))
    }

    /// Who asked for a name, with the port, in order.
    fn asked(&self, name: &str) -> Vec<(String, String)> {
        let asked = fs::read_to_string(self.stage.folder().join("pki/asked"));
        let asked = asked.unwrap_or_default();
        let lines = asked.lines().filter_map(|line| {
            let (who, asked) = line.rsplit_once(' ')?;
            let (address, port) = who.split_once(' ')?;
            (asked == name).then(|| (address.to_owned(), port.to_owned()))
        });
        lines.collect()
    }

    /// The exit code and output of the container's own look-up.
    fn look_up(&self, name: &str) -> Result<(i64, String)> {
        let told = self.web.exec(&["nslookup", "-type=a", name])?;
        Ok((told.code, told.output))
    }

    fn is_looked_up(&self, name: &str) -> Result<()> {
        // One of both names has a stand-in: they share an address.
        eventually(LIMIT, &format!("{name} is looked up"), || {
            match self.look_up(name) {
                Ok((0, told)) if told.contains("Name:") => Ok(()),
                other => Err(format!("{other:?}; {}", self.gateway.tail())),
            }
        })
    }
}

fn ca(folder: &Path) -> String {
    folder.join("ca.pem").display().to_string()
}

/// A CA, and a certificate of its for `dns.example`.
fn certificates(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).expect("a folder");
    pki::self_signed(folder, "ca", "")?;
    pki::of_names(folder, "server", "ca", "DNS:dns.example")
}

/// Names of a policy and others, asked in whichever way the container asks, and by Docker's resolver.
#[test]
fn lookups_go_over_tls_with_their_own_source() -> Result<()> {
    let mut scene = Scene::new("dns-over-tls", "dns.example")?;
    for name in ["db.example", "other.example"] {
        scene.is_looked_up(name)?;
        let asked = scene.asked(name);
        assert!(!asked.is_empty());
        let sources = asked.iter().map(|(address, _)| address.as_str());
        assert!(sources.clone().all(|it| it == "203.0.113.12"), "{asked:?}");
    }
    // What it learned holds.
    let leaves = |from| {
        let (lab, to) = (&scene.stage.lab, scene.to.v4);
        lab.expect_source(&scene.web, Traffic::Tcp(7), to, ip(from))
    };
    leaves("203.0.113.11")?;
    // Questions share a connection.
    let before = scene.asked("db.example").len();
    for _ in 0..5 {
        scene.is_looked_up("db.example")?;
    }
    let asked = &scene.asked("db.example")[before..];
    assert!(asked.len() >= 5, "{asked:?}");
    let mut ports: Vec<_> = asked.iter().map(|(_, port)| port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() <= 2, "{asked:?}");
    // Another policy, another source, and no connection of the former one's.
    let others = POLICIES.replace("203.0.113.12", "203.0.113.13");
    scene.stage.applied(&others)?;
    let before = scene.asked("other.example").len();
    scene.is_looked_up("other.example")?;
    let asked = &scene.asked("other.example")[before..];
    let sources = asked.iter().map(|(address, _)| address.as_str());
    assert!(sources.clone().all(|it| it == "203.0.113.13"), "{asked:?}");
    // Without a policy for it, as without Sortie.
    scene.stage.ok(&["delete", "questions"]);
    let before = scene.asked("other.example").len();
    scene.is_looked_up("other.example")?;
    let asked = &scene.asked("other.example")[before..];
    let sources = asked.iter().map(|(address, _)| address.as_str());
    assert!(sources.clone().all(|it| it == HOST_V4), "{asked:?}");
    // Nobody is asked in plain text, even when there is no other way.
    scene.server.end();
    let (code, told) = scene.look_up("later.example")?;
    assert_ne!(code, 0, "{told}");
    let names = scene.stage.lab.internet().observer().names();
    for name in ["db.example", "other.example", "later.example"] {
        assert!(names.lookups(name).is_empty(), "{:?}", names.lookups(name));
    }
    Ok(())
}

/// A server that proves to be another gets no question.
#[test]
fn a_server_that_does_not_prove_its_name_is_not_asked() -> Result<()> {
    let scene = Scene::new("dns-unproven", "other.example")?;
    let (code, told) = scene.look_up("db.example")?;
    assert_ne!(code, 0, "{told}");
    assert!(scene.asked("db.example").is_empty());
    let names = scene.stage.lab.internet().observer().names();
    assert!(names.lookups("db.example").is_empty());
    Ok(())
}
