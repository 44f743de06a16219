//! The gateway asked as a proxy: clients from outside that show a token, and managed containers.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use sortie_lab::{Container, ContainerSpec, Place, Process, Result, eventually, eventually_true};

use crate::stage::{DOCKER_29_NFTABLES, HOST_V4, LIMIT, Stage, ip};

/// Where the proxy listens.
pub(crate) const PORT: u16 = 3128;
/// The internet's name server, which the host asks.
const SERVER: &str = "198.51.100.53";
/// By `printf %s token-of-ci | sha256sum`, and the same of a client that no policy means.
const TOKENS: &str = "# NAME HASH
ci d1968d6184b8eddf4b0d9fee136141d5f88a53784b9aa94e0d648ffc5b952caf
nobody 91057502ee689c7c923c7f53f29084ee2887e26736d14ea354e1d63b6b002d37
";
pub(crate) const CI: &str = "ci:token-of-ci";
pub(crate) const ADDRESS: &str = "203.0.113.11";
pub(crate) const OTHER: &str = "203.0.113.13";
const OF_WEB: &str = "203.0.113.12";

pub(crate) const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: runners}
spec:
  workloads: [{clients: {tokens: [ci]}}]
  destinations:
  - hosts: [api.external.com]
    http: {match: [{pathPrefix: /api}]}
  - hosts: [db.partner.example]
    ports: [{protocol: TCP, port: 443}, {protocol: TCP, port: 8080}]
  - hosts: [any.partner.example]
  - cidrs: [192.0.2.0/24]
    ports: [{protocol: TCP, port: 8080}]
  action: Egress
  egress: {addresses: [ADDRESS]}
---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: denied}
spec:
  workloads: [{clients: {tokens: [ci]}}]
  destinations: [{hosts: [denied.example]}, {cidrs: [192.0.2.66/32]}]
  action: Deny
";
const OF_CONTAINER: &str = "---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: web}
spec:
  workloads: [{containers: {names: [web]}}]
  action: Egress
  egress: {addresses: [203.0.113.12]}
";

/// What curl printed, or why it did not.
pub(crate) type Said = std::result::Result<String, String>;

/// A host whose gateway serves clients, beside somebody's masquerade.
pub(crate) struct Scene {
    pub(crate) gateway: Process,
    pub(crate) stage: Stage,
}

impl Scene {
    fn new(name: &str) -> Result<Self> {
        Self::with(name, |_| String::new())
    }

    /// With what is said besides of the proxy in the agent's file, by files in a folder.
    pub(crate) fn with(name: &str, more: impl FnOnce(&Path) -> String) -> Result<Self> {
        let mut stage = Stage::without_agent(name, DOCKER_29_NFTABLES)?;
        let folder = stage.folder();
        let resolv = folder.join("resolv.conf");
        fs::write(&resolv, format!("nameserver {SERVER}\n")).expect("resolv.conf");
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(&resolv).arg("/etc/resolv.conf");
        assert_eq!(stage.host.run(LIMIT, mount)?.code(), 0, "mount");
        for rule in [
            "add table inet other",
            "add chain inet other post { type nat hook postrouting priority 100; }",
            "add rule inet other post oifname up0 masquerade",
        ] {
            stage.host.netns().nft(rule)?;
        }
        let observer = stage.lab.internet().observer();
        observer.listen(sortie_lab::Protocol::Http, 8080)?;
        observer.listen(sortie_lab::Protocol::Http, 8081)?;
        for name in [
            "api.external.com",
            "db.partner.example",
            "any.partner.example",
            "denied.example",
            "unnamed.example",
        ] {
            let destination = stage.lab.destination()?.v4;
            observer.names().set(name, &[destination], 1);
        }
        observer
            .names()
            .set("inside.example", &[ip(HOST_V4), ip("10.0.0.1")], 1);
        let tokens = folder.join("tokens");
        fs::write(&tokens, TOKENS).expect("tokens");
        let config = format!(
            "gateway: {{proxy: {{listen: [\"{HOST_V4}:{PORT}\", \"203.0.113.99:{PORT}\"], tokens: {}{}}}}}\n",
            tokens.display(),
            more(&folder)
        );
        stage.start_agent(&config)?;
        let gateway = stage.spawn("gateway", &["gateway"])?;
        let scene = Self { gateway, stage };
        scene.apply(&POLICY.replace("ADDRESS", ADDRESS));
        eventually(LIMIT, "the proxy serves", || {
            scene.is_seen_as("http://api.external.com/api/ready", ADDRESS)
        })?;
        Ok(scene)
    }

    #[track_caller]
    pub(crate) fn apply(&self, policies: &str) {
        self.stage.applied(policies).expect("sortie runs");
    }

    /// What a client from outside is answered.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Said {
        curl(self.stage.lab.internet().netns(), arguments)
    }

    /// The same by HTTP, with the token.
    fn as_ci(&self, arguments: &[&str]) -> Said {
        self.curl(&[&["-x", &http(CI)], arguments].concat())
    }

    fn is_seen_as(&self, url: &str, source: &str) -> Said {
        let said = self.as_ci(&[url])?;
        if said.trim() == source {
            Ok(said)
        } else {
            Err(said)
        }
    }

    /// Whether anything that came to the observers has a field of a proxy's.
    fn heads(&self) -> Vec<String> {
        let requested = self.stage.lab.internet().observer().requested();
        requested.into_iter().map(|request| request.head).collect()
    }

    pub(crate) fn requests(&self) -> usize {
        self.heads().len()
    }
}

/// Limits are of a busy machine.
fn curl(place: &dyn Place, arguments: &[&str]) -> Said {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60"]);
    command.args(arguments);
    let place = place.place().map_err(|error| error.to_string())?;
    place.output(command).map_err(|error| error.to_string())
}

fn http(user: &str) -> String {
    format!("http://{user}@{HOST_V4}:{PORT}")
}

#[track_caller]
pub(crate) fn expect(said: &Said, source: &str) {
    assert_eq!(said.as_deref().map(str::trim), Ok(source));
}

#[test]
fn a_token_gives_the_address_of_its_policy() -> Result<()> {
    let scene = Scene::new("proxy-token")?;
    // Each request for itself.
    let (api, other) = (
        "http://api.external.com/api/x",
        "http://api.external.com/other",
    );
    let said = scene.as_ci(&[api, other, api]);
    expect(&said, &format!("{ADDRESS}\n{HOST_V4}\n{ADDRESS}"));
    expect(&scene.as_ci(&["http://unnamed.example/"]), HOST_V4);
    let bearer = [
        "-x",
        &format!("http://{HOST_V4}:{PORT}"),
        "--proxy-header",
        "Proxy-Authorization: Bearer token-of-ci",
    ];
    expect(&scene.curl(&[&bearer[..], &[api]].concat()), ADDRESS);
    // CONNECT, by the policy's port and by its address.
    for url in ["http://db.partner.example:8080/", "http://192.0.2.80:8080/"] {
        expect(&scene.as_ci(&["--proxytunnel", url]), ADDRESS);
    }
    let socks = format!("{HOST_V4}:{PORT}");
    let socks = ["--socks5-hostname", &socks, "--proxy-user", CI];
    for (url, source) in [
        (api, ADDRESS),
        (other, HOST_V4),
        ("http://db.partner.example:8080/", ADDRESS),
        ("http://192.0.2.80:8080/", ADDRESS),
    ] {
        expect(&scene.curl(&[&socks[..], &[url]].concat()), source);
    }
    for head in scene.heads() {
        assert!(!head.to_lowercase().contains("proxy-"), "{head}");
    }

    let before = scene.requests();
    for (arguments, status, reason) in [
        (&["http://denied.example/"][..], "403", "policy=\"denied\""),
        (&["http://192.0.2.66:8080/"], "403", "reason=Denied"),
        (&["http://inside.example/"], "502", "reason=PrivateAnswer"),
        (&["http://203.0.113.5:3128/"], "502", "reason=PrivateAnswer"),
        (&["http://127.0.0.1:3128/"], "502", "reason=PrivateAnswer"),
        // A path could change it.
        (
            &["--proxytunnel", "http://api.external.com/api/x"],
            "403",
            "reason=PathNotVisible",
        ),
        // No policy names these ports for them.
        (
            &["--proxytunnel", "http://db.partner.example:8081/"],
            "403",
            "http_request_denied",
        ),
        (
            &["--proxytunnel", "http://any.partner.example:8080/"],
            "403",
            "http_request_denied",
        ),
        (
            &["--proxytunnel", "http://unnamed.example/"],
            "403",
            "http_request_denied",
        ),
        (
            &["--proxytunnel", "http://192.0.2.80:8081/"],
            "403",
            "http_request_denied",
        ),
        (
            &["--proxytunnel", "http://192.0.2.66:8080/"],
            "403",
            "reason=Denied",
        ),
    ] {
        // Of a tunnel the proxy's own answer is shown by this.
        let show = ["--include", "--write-out", "%{http_connect} "];
        let said = scene.as_ci(&[&show[..], arguments].concat());
        let (Ok(text) | Err(text)) = said;
        let refused = text.contains(status) && text.contains("Proxy-Status: sortie; error=");
        let tunnel = arguments.len() > 1;
        assert!(
            refused || tunnel && text.contains(&format!("response {status}")),
            "{arguments:?}: {text}"
        );
        assert!(tunnel || text.contains(reason), "{arguments:?}: {text}");
        if tunnel {
            let url = arguments[1].trim_start_matches("http://");
            let host = url.split('/').next().unwrap_or_default();
            let target = if host.contains(':') {
                host.to_owned()
            } else {
                format!("{host}:80")
            };
            let said = connect(&scene, &target)?.1;
            assert!(said.contains(reason), "{target}: {said}");
        }
    }
    assert_eq!(scene.requests(), before, "some were forwarded");
    // The other listener's address is not on this host, which keeps nobody from this one.
    eventually_true(LIMIT, "the log tells of the listener", || {
        let log = scene.gateway.stderr().unwrap_or_default();
        let mut lines = log.lines();
        lines.any(|line| line.contains("203.0.113.99:3128") && line.contains("WARN"))
    })?;
    Ok(())
}

/// A connection to the proxy from outside.
fn reach(scene: &Scene) -> Result<TcpStream> {
    let to = SocketAddr::new(ip(HOST_V4), PORT);
    let internet = scene.stage.lab.internet().netns();
    let stream = internet
        .run(|| TcpStream::connect(to))?
        .expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    Ok(stream)
}

/// A CONNECT with the token, and its answer's head.
fn connect(scene: &Scene, target: &str) -> Result<(TcpStream, String)> {
    let mut stream = reach(scene)?;
    let request = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Bearer token-of-ci\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    Ok((stream, String::from_utf8_lossy(&head).into_owned()))
}

#[test]
fn who_is_not_known_is_served_nothing() -> Result<()> {
    let scene = Scene::new("proxy-unknown")?;
    let url = "http://api.external.com/api/x";
    let before = scene.requests();
    let proxy = format!("http://{HOST_V4}:{PORT}");
    for user in [
        "ci:wrong",
        "nobody:token-of-ci",
        "nobody:token-of-nobody",
        ":",
        "ci:",
    ] {
        let said = scene
            .curl(&["-x", &http(user), "--include", url])
            .expect("an answer");
        assert!(said.starts_with("HTTP/1.1 407 "), "{user}: {said}");
    }
    let said = scene
        .curl(&["-x", &proxy, "--include", url])
        .expect("an answer");
    assert!(said.starts_with("HTTP/1.1 407 "), "{said}");
    assert!(said.contains("Proxy-Authenticate: Basic"), "{said}");
    assert!(
        said.contains("Proxy-Status: sortie; error=http_request_denied"),
        "{said}"
    );
    let socks = format!("{HOST_V4}:{PORT}");
    for user in [&["--proxy-user", "ci:wrong"][..], &[]] {
        let said = scene.curl(&[&["--socks5-hostname", &socks], user, &[url]].concat());
        said.expect_err("served without a token");
    }
    // Who offers no method that proves anything is told so (RFC 1928 §3).
    let mut stream = reach(&scene)?;
    stream.write_all(&[5, 1, 0]).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert_eq!(answer, [5, 0xff]);
    assert_eq!(scene.requests(), before, "some were forwarded");

    // TLS inside a tunnel for another name than its own ends; a hello of curl's for the API.
    let (mut tunnel, head) = connect(&scene, "db.partner.example:443")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let hello = include_bytes!("../../../sortie-gateway/src/tls/client_hello/curl.bin");
    tunnel.write_all(hello).expect("sent");
    let mut said = Vec::new();
    tunnel.read_to_end(&mut said).expect("an end");
    // A fatal alert, access denied (RFC 8446 §6).
    assert_eq!((said.first(), said.last()), (Some(&21), Some(&49)));
    Ok(())
}

#[test]
fn a_managed_container_needs_no_token_and_changes_are_followed() -> Result<()> {
    let scene = Scene::new("proxy-changes")?;
    let stage = &scene.stage;
    let policies = POLICY.replace("ADDRESS", ADDRESS);
    scene.apply(&format!("{policies}{OF_CONTAINER}"));
    stage.network("shop", 1, &[])?;
    let spec = |name: &str| ContainerSpec::new(name).network("shop").name_server(SERVER);
    let web = stage.managed(&spec("web"))?;
    let stranger = stage.engine.run(&spec("stranger"))?;
    stage.wait_for("stranger", "Unmanaged")?;
    let proxy = format!("http://{HOST_V4}:{PORT}");
    let url = "http://unnamed.example:8080/";
    let ask = |container: &Container| curl(container, &["-x", &proxy, "--include", url]);
    eventually(
        LIMIT,
        "the container leaves with its own address",
        || match ask(&web) {
            Ok(said) if said.trim().ends_with(OF_WEB) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    let said = ask(&stranger).expect("an answer");
    assert!(said.starts_with("HTTP/1.1 407 "), "{said}");

    // For people.
    stage.wait_for("ci", "Ready")?;
    let client = stage.workload("ci").expect("the client");
    assert_eq!(
        (&client["kind"], &client["id"]),
        (&"client".into(), &"client/ci".into())
    );
    let told = stage.ok(&["explain", "ci", "http://api.external.com/api/x"]);
    assert!(told.contains(ADDRESS) && told.contains("runners"), "{told}");
    let told = stage.json(&["explain", "ci", "https://any.partner.example:8080/"])?;
    assert_eq!(told["verdict"], "Drop", "{told}");
    let told = stage.json(&["explain", "ci", "192.0.2.80:8080"])?;
    assert_eq!(
        (&told["verdict"], &told["source"]),
        (&"Egress".into(), &ADDRESS.into()),
        "{told}"
    );
    eventually_true(LIMIT, "the access log names the client", || {
        let log = scene.gateway.stdout().unwrap_or_default();
        log.lines().any(|line| {
            line.contains("\"workload\":\"client/ci\"")
                && line.contains("\"policy\":\"runners\"")
                && line.contains(&format!("\"actual_source\":\"{ADDRESS}\""))
        })
    })?;

    // A policy for clients changes nothing for containers: only its address is known besides.
    let of_containers = || -> Result<Vec<String>> {
        let ruleset = stage.host.netns().nft("-s list table inet sortie")?;
        let own =
            |line: &&str| !line.contains("elements = { 203.0.113") && !line.contains("203.0.113.1");
        Ok(ruleset.lines().filter(own).map(str::to_owned).collect())
    };
    let before = of_containers()?;
    let changed = POLICY.replace("ADDRESS", OTHER);
    scene.apply(&format!("{changed}{OF_CONTAINER}"));
    eventually(LIMIT, "the new address", || {
        scene.is_seen_as("http://api.external.com/api/x", OTHER)
    })?;
    assert_eq!(of_containers()?, before);

    // A token that goes takes its client with it, also from a connection that is open.
    let (mut tunnel, head) = connect(&scene, "db.partner.example:443")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    fs::write(stage.folder().join("tokens"), "# none\n").expect("tokens");
    let is_refused = || match scene.as_ci(&["--include", "http://api.external.com/api/x"]) {
        Ok(said) if said.starts_with("HTTP/1.1 407 ") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually(LIMIT, "the token is nobody's", is_refused)?;
    // Its end, or a reset.
    let _ = tunnel.read_to_end(&mut Vec::new());
    fs::write(stage.folder().join("tokens"), TOKENS).expect("tokens");
    eventually(LIMIT, "the token counts again", || {
        scene.is_seen_as("http://api.external.com/api/x", OTHER)
    })?;
    // So does a policy that goes.
    stage.ok(&["delete", "runners"]);
    stage.ok(&["delete", "denied"]);
    eventually(LIMIT, "no policy means the client", is_refused)?;
    let only: [IpAddr; 4] = [ADDRESS, OTHER, OF_WEB, HOST_V4].map(ip);
    for seen in stage.lab.internet().observer().seen() {
        assert!(only.contains(&seen.source.ip()), "{seen}");
    }
    Ok(())
}
