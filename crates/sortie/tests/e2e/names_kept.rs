//! A program that looks a name up once, and keeps the answer for ever, as a JVM does with
//! `networkaddress.cache.ttl=-1`: over UDP and over TLS, by a container with only a `hosts` policy.

use std::fs;
use std::net::{IpAddr, TcpStream};
use std::process::{Command, Stdio};

use sortie_lab::{Call, Container, ContainerSpec, EngineKind, Result, Traffic, eventually, pki};

use crate::outside::Running;
use crate::stage::{GUARD_ALL, HOST_V4, LIMIT, Stage, ip};

/// The internet's resolver.
const SERVER: &str = "198.51.100.53";
const TLS_PORT: u16 = 8443;

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
metadata: {name: mail}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations: [{hosts: [mail.example]}]
  action: Egress
  egress: {addresses: [203.0.113.12]}
";

/// Tells each caller its address, inside of TLS.
const ORIGIN: &str = r#"
import http.server, ssl, sys

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.client_address[0].encode())

tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("origin.pem", "origin.key")
server = http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Answers)
server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

fn origin(stage: &Stage) -> Result<Running> {
    let folder = stage.folder().join("origin");
    fs::create_dir_all(&folder).expect("a folder");
    pki::self_signed(&folder, "origin", "")?;
    let mut python = Command::new("python3");
    python.args(["-c", ORIGIN, &TLS_PORT.to_string()]);
    let origin = Running::start(stage, python.current_dir(&folder).stderr(Stdio::null()))?;
    eventually(LIMIT, "the origin is there", || {
        let internet = stage.lab.internet().netns();
        let called = internet.run(|| TcpStream::connect(("127.0.0.1", TLS_PORT)));
        let called = called.map_err(|error| error.to_string())?;
        called.map(drop).map_err(|error| error.to_string())
    })?;
    Ok(origin)
}

/// The one look-up of a name that the program ever makes, once it is answered.
fn looked_up(web: &Container, name: &str) -> Result<IpAddr> {
    eventually(LIMIT, &format!("{name} is told"), || {
        let asked = web.exec(&["nslookup", "-type=a", name]);
        let told = asked.map_err(|error| error.to_string())?.output;
        // Behind the server's own address.
        let (_, answer) = told.split_once("Name:").ok_or_else(|| told.clone())?;
        let address = answer.lines().find_map(|line| line.strip_prefix("Address"));
        let address = address.and_then(|it| it.rsplit([' ', '\t']).next()?.parse().ok());
        address.ok_or_else(|| told.clone())
    })
}

/// By a client that has kept the address: it asks nobody.
fn over_tls(web: &Container, name: &str, kept: IpAddr) -> Result<String> {
    let resolved = format!("{name}:{TLS_PORT}:{kept}");
    let url = format!("https://{name}:{TLS_PORT}/");
    let curl = [
        "curl",
        "-sSk",
        "--max-time",
        "30",
        "--resolve",
        &resolved,
        &url,
    ];
    let told = web.exec(&curl)?;
    assert_eq!(told.code, 0, "{told:?}");
    Ok(told.output)
}

on_both_dockers!(one_look_up_is_enough_for_ever);

fn one_look_up_is_enough_for_ever(engine: EngineKind) -> Result<()> {
    let mut stage = Stage::guarded("names-kept", engine)?;
    stage.applied(POLICIES)?;
    let _origin = origin(&stage)?;
    let gateway = stage.spawn("gateway", &["gateway"])?;
    let (shared, later) = (stage.lab.destination()?.v4, stage.lab.destination()?.v4);
    let names = stage.lab.internet().observer().names().clone();
    // Good for no second look.
    names.set("db.example", &[shared], 0);
    names.set("mail.example", &[shared], 0);
    stage.network("shop", 1, &[])?;
    let spec = ContainerSpec::new("web").image(&stage.engine.image_curl()?);
    let web = stage.managed(&spec.network("shop").name_server(SERVER))?;
    let db = looked_up(&web, "db.example")?;
    let mail = looked_up(&web, "mail.example")?;
    assert_eq!(db, shared);
    assert_ne!(mail, shared, "another decision on one address");
    let leaves = |stage: &Stage| {
        for (name, kept, source) in [
            ("db.example", db, "203.0.113.11"),
            ("mail.example", mail, "203.0.113.12"),
        ] {
            let seen = Call::new(Traffic::Udp(7), kept).make(&web)?;
            assert_eq!(seen.map(|seen| seen.ip()), Some(ip(source)), "{name}");
            assert_eq!(over_tls(&web, name, kept)?, source, "{name}");
        }
        let mark = stage.lab.mark()?;
        for kept in [db, mail] {
            Call::new(Traffic::Udp(7), kept).make(&web)?;
        }
        let both = [ip("203.0.113.11"), ip("203.0.113.12")];
        stage.lab.expect_only_sources(&mark, shared, &both)
    };
    leaves(&stage)?;
    let asked = names.lookups("db.example").len() + names.lookups("mail.example").len();
    // The world moves on, and the program does not notice: other answers, and other processes.
    names.set("db.example", &[later], 0);
    names.set("mail.example", &[later], 0);
    leaves(&stage)?;
    stage.kill_agent()?;
    gateway.kill()?;
    gateway.wait(LIMIT)?;
    stage.start_agent(GUARD_ALL)?;
    let _gateway = stage.spawn("gateway-2", &["gateway"])?;
    leaves(&stage)?;
    let now = names.lookups("db.example").len() + names.lookups("mail.example").len();
    assert_eq!(now, asked, "nobody looked again");
    // What no look-up of its own ever gave is nobody's.
    stage
        .lab
        .expect_source(&web, Traffic::Udp(7), later, ip(HOST_V4))
}
