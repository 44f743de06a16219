//! The proxy by TLS: clients from outside are known by the certificate that they show.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use sortie_lab::{Result, eventually, eventually_true, pki};

use crate::proxy::{ADDRESS, CI, OTHER, POLICY, Said, Scene, expect};
use crate::stage::{HOST_V4, LIMIT, ip};

/// Where TLS is spoken.
const PORT: u16 = 3129;
const API: &str = "http://api.external.com/api/x";

/// Of who shows a certificate; of who shows it with a token too, another address.
const BY_CERTIFICATE: &str = "---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: by-certificate}
spec:
  workloads: [{clients: {certificates: ['CN=runner,O=Example']}}]
  destinations:
  - hosts: [api.external.com]
    http: {match: [{pathPrefix: /api}]}
  - hosts: [db.partner.example]
    ports: [{protocol: TCP, port: 443}, {protocol: TCP, port: 8080}]
  action: Egress
  egress: {addresses: [ADDRESS]}
";

/// What the proxy shows, and CAs with who has a certificate of theirs. `ended` is over in a moment.
fn certificates(at: &Path) -> Result<()> {
    fs::create_dir(at).expect("a folder");
    for ca in ["hosts", "clients", "others"] {
        pki::self_signed(at, ca, "")?;
    }
    let of_proxy = pki::Signed {
        subject: "/CN=proxy",
        extensions: &format!("subjectAltName=IP:{HOST_V4}\n"),
        days: 2,
    };
    pki::signed(at, "proxy", "hosts", of_proxy)?;
    for (name, ca, subject, days) in [
        ("runner", "clients", "/O=Example/CN=runner", 2),
        ("stranger", "clients", "/O=Example/CN=stranger", 2),
        ("forged", "others", "/O=Example/CN=runner", 2),
        ("ended", "clients", "/O=Example/CN=runner", 0),
    ] {
        let extensions = "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n";
        let of_client = pki::Signed {
            subject,
            extensions,
            days,
        };
        pki::signed(at, name, ca, of_client)?;
    }
    fs::set_permissions(at.join("proxy.key"), Permissions::from_mode(0o600)).expect("a mode");
    fs::copy(at.join("clients.pem"), at.join("believed.pem")).expect("a copy");
    Ok(())
}

/// A scene whose proxy speaks TLS too.
fn begin(name: &str) -> Result<Scene> {
    let scene = Scene::with(name, |folder| {
        let pki = folder.join("pki");
        certificates(&pki).expect("certificates");
        let file = |name: &str| pki.join(name).display().to_string();
        format!(
            ", tls: {{listen: [\"{HOST_V4}:{PORT}\"], certificate: {}, key: {}, ca: {}}}",
            file("proxy.pem"),
            file("proxy.key"),
            file("believed.pem")
        )
    })?;
    scene.apply(&policies(ADDRESS));
    Ok(scene)
}

/// Those of the token, and those of the certificate with this address.
fn policies(address: &str) -> String {
    let token = POLICY.replace("ADDRESS", OTHER);
    format!("{token}{}", BY_CERTIFICATE.replace("ADDRESS", address))
}

/// What a client is answered that shows a certificate of this name, if any.
fn ask(scene: &Scene, certificate: Option<&str>, arguments: &[&str]) -> Said {
    let pki = scene.stage.folder().join("pki");
    let file = |name: String| pki.join(name).display().to_string();
    let mut all = vec![
        "-x".to_owned(),
        format!("https://{HOST_V4}:{PORT}"),
        "--proxy-cacert".to_owned(),
        file("hosts.pem".to_owned()),
    ];
    if let Some(name) = certificate {
        for (flag, ending) in [("--proxy-cert", "pem"), ("--proxy-key", "key")] {
            all.extend([flag.to_owned(), file(format!("{name}.{ending}"))]);
        }
    }
    let all: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .chain(arguments.iter().copied())
        .collect();
    scene.curl(&all)
}

#[track_caller]
fn expect_407(said: Said) {
    let said = said.expect("an answer");
    assert!(said.starts_with("HTTP/1.1 407 "), "{said}");
    assert!(said.contains("Proxy-Status: sortie; error="), "{said}");
}

#[test]
fn a_certificate_gives_the_address_of_its_policy() -> Result<()> {
    let scene = begin("proxy-certificate")?;
    eventually(LIMIT, "the proxy speaks TLS", || {
        ask(&scene, Some("runner"), &[API])
    })?;
    let runner = |arguments: &[&str]| ask(&scene, Some("runner"), arguments);
    // Each request for itself, also on one connection; and a tunnel.
    let said = runner(&[API, "http://api.external.com/other", API]);
    expect(&said, &format!("{ADDRESS}\n{HOST_V4}\n{ADDRESS}"));
    let tunnel = ["--proxytunnel", "http://db.partner.example:8080/"];
    expect(&runner(&tunnel), ADDRESS);
    // SOCKS5 asks for no password where a certificate was shown.
    let mut session = Session::begin(&scene)?;
    session.say(&[5, 1, 0]);
    assert_eq!(session.hear(2), [5, 0]);
    let name = "api.external.com";
    let length = u8::try_from(name.len()).expect("a short name");
    session.say(&[&[5, 1, 0, 3, length], name.as_bytes(), &[0, 80]].concat());
    assert_eq!(session.hear(10)[..2], [5, 0]);
    session.say(format!("GET /api/socks HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes());
    let line = session.line();
    assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
    let requested = scene.stage.lab.internet().observer().requested();
    let found = requested.iter().find(|it| it.path == "/api/socks");
    assert_eq!(found.expect("the request").source, ip(ADDRESS));
    drop(session);
    // A token is as good by TLS, with a certificate that no policy names, and without one.
    for certificate in [None, Some("stranger")] {
        expect(&ask(&scene, certificate, &["--proxy-user", CI, API]), OTHER);
    }
    eventually_true(LIMIT, "the access log names the client", || {
        let log = scene.gateway.stdout().unwrap_or_default();
        log.lines().any(|line| {
            line.contains("\"workload\":\"client/CN=runner,O=Example\"")
                && line.contains("\"policy\":\"by-certificate\"")
                && line.contains(&format!("\"actual_source\":\"{ADDRESS}\""))
        })
    })?;
    let stage = &scene.stage;
    stage.wait_for("CN=runner,O=Example", "Ready")?;
    let told = stage.ok(&["explain", "CN=runner,O=Example", API]);
    assert!(
        told.contains(ADDRESS) && told.contains("by-certificate"),
        "{told}"
    );

    let before = scene.requests();
    // Nobody's, and none; a token that is wrong is wrong with a certificate too.
    expect_407(ask(&scene, Some("stranger"), &["--include", API]));
    expect_407(ask(&scene, None, &["--include", API]));
    expect_407(runner(&["--proxy-user", "ci:wrong", "--include", API]));
    // Of another CA, and over: the handshake fails. So does what is no TLS.
    ask(&scene, Some("forged"), &[API]).expect_err("another CA's");
    eventually(LIMIT, "the certificate is over", || {
        match ask(&scene, Some("ended"), &[API]) {
            Err(_) => Ok(()),
            Ok(said) => Err(said),
        }
    })?;
    let plain = scene.curl(&["-x", &format!("http://{HOST_V4}:{PORT}"), API]);
    plain.expect_err("no TLS");
    let requested = scene.stage.lab.internet().observer().requested();
    let later = &requested[before..];
    assert!(later.iter().all(|it| it.source == ip(ADDRESS)), "{later:?}");
    Ok(())
}

/// TLS to the proxy with the certificate, by `openssl s_client`.
struct Session {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn begin(scene: &Scene) -> Result<Self> {
        let pki = scene.stage.folder().join("pki");
        let mut command = Command::new("openssl");
        command.current_dir(&pki);
        command.args([
            "s_client",
            "-quiet",
            "-CAfile",
            "hosts.pem",
            "-verify_return_error",
        ]);
        command.args(["-connect", &format!("{HOST_V4}:{PORT}")]);
        command.args(["-cert", "runner.pem", "-key", "runner.key"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let internet = scene.stage.lab.internet().netns();
        let mut child = internet.run(|| command.spawn())?.expect("openssl runs");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Ok(Self { child, output })
    }

    /// A tunnel that is open.
    fn tunnel(scene: &Scene) -> Result<Self> {
        let mut session = Self::begin(scene)?;
        session.say(
            b"CONNECT db.partner.example:443 HTTP/1.1\r\nHost: db.partner.example:443\r\n\r\n",
        );
        let line = session.line();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        Ok(session)
    }

    fn say(&mut self, bytes: &[u8]) {
        let input = self.child.stdin.as_mut().expect("its input");
        input.write_all(bytes).expect("sent");
    }

    fn hear(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.output.read_exact(&mut bytes).expect("an answer");
        bytes
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        line
    }

    /// Waits for its end.
    fn ends(mut self, why: &str) -> Result<()> {
        eventually_true(LIMIT, why, || {
            self.child.try_wait().ok().flatten().is_some()
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another address, a CA that goes and comes back, a policy that goes: what is open follows.
#[test]
fn who_shows_a_certificate_follows_changes() -> Result<()> {
    let scene = begin("proxy-certificates-change")?;
    let is_seen_as = |source: &str| {
        eventually(LIMIT, &format!("it is seen as {source}"), || {
            match ask(&scene, Some("runner"), &[API]) {
                Ok(said) if said.trim() == source => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    };
    is_seen_as(ADDRESS)?;
    let tunnel = Session::tunnel(&scene)?;
    scene.apply(&policies(OTHER));
    tunnel.ends("the tunnel with the former address ends")?;
    expect(&ask(&scene, Some("runner"), &[API]), OTHER);

    // Another CA beside it changes nothing for who is there.
    let pki = scene.stage.folder().join("pki");
    let write = |cas: &[&str]| {
        let texts = cas.iter().map(|ca| fs::read(pki.join(ca)).expect("a CA"));
        let texts: Vec<u8> = texts.flatten().collect();
        fs::write(pki.join("new.pem"), texts).expect("written");
        fs::rename(pki.join("new.pem"), pki.join("believed.pem")).expect("renamed");
    };
    let mut tunnel = Session::tunnel(&scene)?;
    write(&["clients.pem", "others.pem"]);
    eventually(LIMIT, "the other CA is believed", || {
        ask(&scene, Some("forged"), &[API])
    })?;
    assert!(
        tunnel.child.try_wait().expect("its state").is_none(),
        "it was cut"
    );
    // One that goes takes its clients with it.
    write(&["others.pem"]);
    tunnel.ends("the tunnel of the CA's client ends")?;
    let is_refused = || match ask(&scene, Some("runner"), &[API]) {
        Err(_) => Ok(()),
        Ok(said) => Err(said),
    };
    eventually(LIMIT, "the CA is not believed", is_refused)?;
    // A file that cannot be used changes nothing, and is told.
    fs::write(pki.join("believed.pem"), "none").expect("written");
    eventually(LIMIT, "the file is told of", || {
        let told = scene
            .stage
            .run(&["status"])
            .map_err(|error| error.to_string())?;
        let is_told = told.stdout.contains("believed.pem");
        is_told.then_some(()).ok_or(told.stdout)
    })?;
    ask(&scene, Some("forged"), &[API]).expect("the CA of before goes on");
    write(&["clients.pem"]);
    is_seen_as(OTHER)?;

    // So does a policy.
    let tunnel = Session::tunnel(&scene)?;
    scene.stage.ok(&["delete", "by-certificate"]);
    tunnel.ends("the tunnel that no policy means ends")?;
    let said = ask(&scene, Some("runner"), &["--include", API]);
    expect_407(said);
    Ok(())
}
