//! Policies by HTTP path: the article's third way. One connection of a client carries requests that
//! leave with different addresses.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sortie_lab::{
    Container, EngineKind, Place, Process, Requested, Result, UplinkSpec, built_program,
    eventually, eventually_true, pki,
};

use crate::outside::Running;
use crate::requests::{Client, SOON, begin, connected, hello};
use crate::stage::{DOCKER_29_NFTABLES, GUARD_ALL, LIMIT, Stage, ip};

/// The article's VirtualService, as it stands.
const ARTICLE: &str = "apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: egress-control
spec:
  hosts:
    - \"api.external.com\" # Destination to control
  gateways:
    - istio-egressgateway # This must be setup first
  http:
    - match:
      - uri:
          prefix: \"/api\"
      route:
        - destination:
            host: api.external.com
      source:
        - ip: 192.168.20.10/32 # Source IP that is associated with the outgoing connection
";
/// The address that the article gives to `/api`, and the host's own.
const API: &str = "192.168.20.10";
const HOST: &str = "192.168.20.2";
const HOST_FIELD: &str = "Host: api.external.com\r\n";

/// The article's host, with its address and its policy, and a container that is unaware of all.
struct Scene {
    gateway: Process,
    web: Container,
    destination: IpAddr,
    stage: Stage,
}

impl Scene {
    fn new(name: &str, engine: EngineKind) -> Result<Self> {
        let uplink = UplinkSpec::new(&["192.168.20.2/24"]);
        let mut stage = Stage::with_uplinks(name, engine, [uplink])?;
        stage.host.ip("addr add 192.168.20.10/32 dev up0")?;
        stage.start_agent(GUARD_ALL)?;
        let outcome = stage.applied(ARTICLE)?;
        assert!(
            outcome.stderr.contains("every container"),
            "{}",
            outcome.stderr
        );
        stage.network("shop", 1, &[])?;
        let (destination, gateway, web) = begin(&stage, &["gateway"], &["api.external.com"], 1)?;
        let scene = Self {
            gateway,
            web,
            destination,
            stage,
        };
        eventually(LIMIT, "the gateway answers", || {
            match scene.client()?.ask(&get("/api/ready")) {
                Ok(200) => Ok(()),
                other => Err(io::Error::other(format!("{other:?}"))),
            }
        })?;
        Ok(scene)
    }

    /// A connection of the container's, to where the name leads.
    fn client(&self) -> io::Result<Client> {
        let to = SocketAddr::new(self.destination, 80);
        let stream = connected(&self.web, to, SOON)?;
        Ok(Client {
            reader: BufReader::new(stream),
        })
    }

    /// The status of the only request of a connection.
    #[track_caller]
    fn asked(&self, request: &str) -> u16 {
        let answer = self.client().and_then(|mut client| client.ask(request));
        answer.unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }

    /// All that has come to the observer so far has the source that its path says. How much came.
    #[track_caller]
    fn expect_sources_by_path(&self) -> (usize, usize) {
        let requested = self.stage.lab.internet().observer().requested();
        let (mut api, mut other) = (0, 0);
        for request in &requested {
            let path = request.path.split('?').next().unwrap_or_default();
            let is_api = path == "/api" || path.starts_with("/api/");
            let (count, wanted) = if is_api {
                (&mut api, API)
            } else {
                (&mut other, HOST)
            };
            *count += 1;
            assert_eq!(request.source, ip(wanted), "{request:?}");
        }
        (api, other)
    }

    fn last(&self) -> Option<Requested> {
        self.stage.lab.internet().observer().requested().pop()
    }
}

/// A request to the article's host.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{HOST_FIELD}\r\n")
}

/// A container does `curl http://api.external.com/api/x` and `/other`.
fn the_articles_third_way(engine: EngineKind) -> Result<()> {
    let scene = Scene::new("article-http", engine)?;
    for (path, source) in [("/api/x", API), ("/other", HOST), ("/api/y", API)] {
        let url = format!("http://api.external.com{path}");
        let told = scene.web.exec(&["wget", "-q", "-O", "-", &url])?;
        assert_eq!(told.output.trim(), source, "{url}");
    }
    // One connection, a thousand times by turns, fifty at once.
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = scene.client().expect("a connection");
                    for turn in 0..20 {
                        let path = if turn % 2 == 0 { "/api/x" } else { "/other" };
                        assert_eq!(client.ask(&get(path)).expect("an answer"), 200);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("a client");
        }
    });
    let (api, other) = scene.expect_sources_by_path();
    assert!(api >= 503 && other >= 501, "{api} and {other}");
    Ok(())
}

on_both_dockers!(the_articles_third_way);

/// The methods of gRPC are paths of HTTP/2: one connection of a container's carries two, and the
/// server sees each with its own address.
#[test]
fn methods_of_grpc_leave_with_their_own_address() -> Result<()> {
    const PORT: u16 = 8085;
    const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: grpc}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations:
  - hosts: [api.external.com]
    ports: [{protocol: TCP, port: 8085}]
    http: {match: [{path: /sortie.test.Echo/Echo}]}
  action: Egress
  egress: {addresses: [192.168.20.10]}
";
    let scene = Scene::new("grpc", DOCKER_29_NFTABLES)?;
    let program = built_program("peers", "gateway-peer")?;
    let mut server = Command::new(&program);
    server.args(["grpc", "serve", &format!("0.0.0.0:{PORT}")]);
    let _server = Running::start(&scene.stage, &mut server)?;
    scene.stage.applied(POLICY)?;
    let called = format!("{}:{PORT}", scene.destination);
    eventually(LIMIT, "each method has its address", || {
        let mut call = Command::new(&program);
        call.args(["grpc", "call", &called, "api.external.com"]);
        let told = scene.web.place().and_then(|web| web.output(call));
        match told {
            Ok(sources) if sources == format!("{HOST} {API}\n") => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    })
}

/// Path confusion: what is decided on is what is forwarded, and what could be read in two ways goes
/// nowhere.
#[test]
fn what_is_decided_on_is_what_is_forwarded() -> Result<()> {
    let mut scene = Scene::new("path-confusion", DOCKER_29_NFTABLES)?;
    let mut client = scene.client().expect("a connection");
    for (path, forwarded) in [
        ("/api/../other", "/other"),
        ("/x/../api/y", "/api/y"),
        ("//api/x", "/api/x"),
        ("/%61pi/x", "/api/x"),
        ("/apikeys", "/apikeys"),
        ("/api?x=/other", "/api?x=/other"),
    ] {
        assert_eq!(client.ask(&get(path)).expect("an answer"), 200, "{path}");
        assert_eq!(scene.last().expect("a request").path, forwarded, "{path}");
    }
    let before = scene.expect_sources_by_path();
    for path in ["/api;x", "/api%2Fx", "/x%5Capi", "/api\\x", "/api%00"] {
        assert_eq!(scene.asked(&get(path)), 400, "{path}");
    }
    for head in [
        format!("GET /other HTTP/1.1\r\n{HOST_FIELD}Host: other.example\r\n\r\n"),
        "GET /other HTTP/1.1\r\n\r\n".to_owned(),
        format!(
            "POST /api HTTP/1.1\r\n{HOST_FIELD}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
        format!("GET /api HTTP/1.1\n{HOST_FIELD}\n"),
    ] {
        assert_eq!(scene.asked(&head), 400, "{head:?}");
    }
    // Another name than the one that led here hides what is asked for.
    scene.web.exec(&["nslookup", "api.external.com"])?;
    let misled = "GET /api/x HTTP/1.1\r\nHost: other.example\r\n\r\n";
    assert_eq!(scene.asked(misled), 403);
    assert_eq!(
        scene.expect_sources_by_path(),
        before,
        "some were forwarded"
    );
    // An absolute form's host counts, not the field's.
    let absolute = "GET http://api.external.com/api/z HTTP/1.1\r\nHost: other.example\r\n\r\n";
    assert_eq!(scene.asked(absolute), 200);
    assert_eq!(scene.last().expect("a request").host, "api.external.com");
    // Another gateway is told which name led where.
    scene.gateway.kill()?;
    scene.gateway.wait(LIMIT)?;
    scene.gateway = scene.stage.spawn("gateway-2", &["gateway"])?;
    eventually(LIMIT, "the next gateway refuses it too", || {
        let answer = scene.client().and_then(|mut client| client.ask(misled));
        match answer {
            Ok(403) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    // The name leads inside now.
    let names = scene.stage.lab.internet().observer().names();
    names.set("api.external.com", &[ip("10.0.0.1"), ip(API)], 1);
    eventually_true(LIMIT, "private answers are refused", || {
        scene.asked(&get("/api/inside")) == 502
    })?;
    scene.expect_sources_by_path();
    Ok(())
}

/// Killed under load, the gateway leaves nothing behind that would go with the host's address; nor do
/// bridges that call iptables, a host that takes nothing new, and somebody's masquerade.
#[test]
fn killed_under_load_nothing_leaves_otherwise() -> Result<()> {
    let mut scene = Scene::new("gateway-killed", DOCKER_29_NFTABLES)?;
    let host = scene.stage.host.netns();
    for call in ["iptables", "ip6tables"] {
        // Where the module is not there bridges call nobody.
        let _ = host.set_sysctl(&format!("net.bridge.bridge-nf-call-{call}"), "1");
    }
    for rule in [
        "add table inet other",
        "add chain inet other input { type filter hook input priority 0; policy drop; }",
        "add rule inet other input ct state established,related accept",
        "add chain inet other post { type nat hook postrouting priority 100; }",
        "add rule inet other post oifname up0 masquerade",
    ] {
        host.nft(rule)?;
    }
    // One that only `/api` is asked of.
    scene.destination = scene.stage.lab.destination()?.v4;
    let names = scene.stage.lab.internet().observer().names();
    names.set("api.external.com", &[scene.destination], 1);
    let asked = || scene.client()?.ask(&get("/api/x"));
    let is_reached = || {
        let seen = scene
            .stage
            .lab
            .internet()
            .observer()
            .seen_at(scene.destination);
        match asked() {
            Ok(200) if !seen.is_empty() => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    };
    eventually(LIMIT, "the new address is asked", is_reached)?;
    let mark = scene.stage.lab.mark()?;
    let ends = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    let asked = scene.client().and_then(|mut client| {
                        client
                            .ask(&get("/api/x"))
                            .and_then(|_| client.ask(&get("/api/y")))
                    });
                    if asked.is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let more = |wanted: usize| {
            eventually_true(LIMIT, "requests are answered", || {
                answered.load(Ordering::Relaxed) >= wanted
            })
        };
        let restarted = || -> Result<Process> {
            more(50)?;
            scene.gateway.kill()?;
            scene.gateway.wait(LIMIT)?;
            answered.store(0, Ordering::Relaxed);
            let again = scene.stage.spawn("gateway-2", &["gateway"])?;
            more(50)?;
            Ok(again)
        };
        let restarted = restarted();
        ends.store(true, Ordering::Relaxed);
        restarted.map(drop)
    })?;
    scene.stage.lab.fence()?;
    let only = [ip(API)];
    scene
        .stage
        .lab
        .expect_only_sources(&mark, scene.destination, &only)?;
    scene.expect_sources_by_path();
    Ok(())
}

/// A name that no look-up told: the gateway reads it in the client's hello.
#[test]
fn tls_leaves_by_the_name_it_asks_for() -> Result<()> {
    let stage = Stage::guarded("tls-by-name", DOCKER_29_NFTABLES)?;
    stage.network("shop", 1, &[])?;
    let policy = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: partner}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations: [{hosts: [tls.example]}]
  action: Egress
  egress: {addresses: [203.0.113.11]}
";
    stage.applied(policy)?;
    let (to, gateway, web) = begin(&stage, &["gateway"], &["tls.example"], 60)?;
    let mark = stage.lab.mark()?;
    let call = || -> io::Result<String> {
        let to = SocketAddr::new(to, 443);
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(20))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(&hello("tls.example"))?;
        // The observer speaks no TLS: it tells who called.
        let mut told = String::new();
        BufReader::new(stream).read_line(&mut told)?;
        Ok(told)
    };
    let place = web.place()?;
    eventually(LIMIT, "the gateway calls", || match place.run(call) {
        Ok(Ok(told)) if told.starts_with("203.0.113.11:") => Ok(()),
        other => Err(format!("{other:?}; {}", gateway.tail())),
    })?;
    stage
        .lab
        .expect_only_sources(&mark, to, &[ip("203.0.113.11")])
}

/// The container speaks HTTP, and the gateway HTTPS, with an operator's own CA.
#[test]
fn tls_is_begun_for_who_speaks_http() -> Result<()> {
    let stage = Stage::guarded("tls-begun", DOCKER_29_NFTABLES)?;
    stage.network("shop", 1, &[])?;
    let folder = stage.folder();
    let _server = https(&stage, &folder)?;
    let ca = folder.join("ca.pem");
    let policy = format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: partner}}
spec:
  workloads: [{{containers: {{names: [web]}}}}]
  destinations:
  - hosts: [secure.example, other.example]
    http: {{tls: {{originate: true, port: 8443, ca: {}}}}}
  action: Egress
  egress: {{addresses: [203.0.113.11]}}
",
        ca.display()
    );
    stage.applied(&policy)?;
    let (to, gateway, web) = begin(
        &stage,
        &["gateway"],
        &["secure.example", "other.example"],
        60,
    )?;
    let mark = stage.lab.mark()?;
    let fetch = |name: &str| {
        let url = format!("http://{name}/");
        web.exec(&["wget", "-O", "-", &url])
    };
    eventually(LIMIT, "the server answers", || {
        match fetch("secure.example") {
            Ok(told) if told.code == 0 && told.output.contains("s_server") => Ok(()),
            other => Err(format!("{other:?}; {}", gateway.tail())),
        }
    })?;
    // Its certificate is for another name.
    let told = fetch("other.example")?;
    assert!(told.output.contains("502"), "{told:?}");
    stage
        .lab
        .expect_only_sources(&mark, to, &[ip("203.0.113.11")])
}

/// A server of the internet's for `secure.example` on port 8443, and its CA's certificate in a folder.
fn https(stage: &Stage, folder: &Path) -> Result<Running> {
    pki::self_signed(folder, "ca", "")?;
    pki::of_names(folder, "server", "ca", "DNS:secure.example")?;
    let mut server = Command::new("openssl");
    server.current_dir(folder);
    server.args(["s_server", "-accept", "8443", "-www", "-quiet"]);
    server.args(["-cert", "server.pem", "-key", "server.key"]);
    server
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Running::start(stage, &mut server)
}
