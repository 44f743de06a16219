//! Operating the gateway: what it counts, and what becomes of what is open when policies change.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sortie_lab::{Container, Process, Result, eventually, eventually_true};

use crate::requests::{Client, METRICS, SOON, begin, comes_to_count, connected, hello, scrape};
use crate::stage::{DOCKER_29_NFTABLES, LIMIT, Stage, ip};

const API: &str = "api.example";
const TLS: &str = "tls.example";
const DENIED: &str = "denied.example";
const FIRST: &str = "203.0.113.11";
const SECOND: &str = "203.0.113.12";

/// A container whose requests to one name, and TLS to another, leave with an address of the policy's.
struct Scene {
    gateway: Process,
    web: Container,
    destination: IpAddr,
    stage: Stage,
}

/// The policy: with which address, and what else it says.
fn policy(address: &str, more: &str) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: partner}}
spec:
  workloads: [{{containers: {{names: [web]}}}}]
  destinations:
  - hosts: [{TLS}]
  - hosts: [{API}]
    http: {{match: [{{pathPrefix: /}}]}}
  action: Egress
  egress: {{addresses: [{address}]}}
{more}---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: closed}}
spec:
  workloads: [{{containers: {{names: [web]}}}}]
  destinations:
  - hosts: [{DENIED}]
    http: {{match: [{{pathPrefix: /}}]}}
  action: Deny
"
    )
}

impl Scene {
    fn new(name: &str, more: &str) -> Result<Self> {
        let stage = Stage::guarded(name, DOCKER_29_NFTABLES)?;
        stage.network("shop", 1, &[])?;
        applied(&stage, &policy(FIRST, more));
        let names = [API, TLS, DENIED];
        let arguments = ["gateway", "--metrics", METRICS];
        let (destination, gateway, web) = begin(&stage, &arguments, &names, 60)?;
        let scene = Self {
            gateway,
            web,
            destination,
            stage,
        };
        eventually(LIMIT, "the gateway answers", || {
            match scene.get(API, "/ready") {
                Ok(200) => Ok(()),
                other => Err(format!("{other:?}; {}", scene.gateway.tail())),
            }
        })?;
        Ok(scene)
    }

    fn connect(&self, port: u16) -> io::Result<TcpStream> {
        connected(&self.web, SocketAddr::new(self.destination, port), SOON)
    }

    /// The status of a connection's only request.
    fn get(&self, name: &str, path: &str) -> io::Result<u16> {
        let reader = BufReader::new(self.connect(80)?);
        Client { reader }.ask(&request(name, path))
    }
}

#[track_caller]
fn applied(stage: &Stage, policies: &str) {
    stage.applied(policies).expect("sortie runs");
}

fn request(name: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n")
}

/// TLS to the observer, which tells who calls and then says everything again.
struct Tunnel {
    reader: BufReader<TcpStream>,
    source: IpAddr,
}

impl Tunnel {
    fn open(scene: &Scene) -> io::Result<Self> {
        let mut stream = scene.connect(443)?;
        let hello = hello(TLS);
        stream.write_all(&hello)?;
        let mut reader = BufReader::new(stream);
        let mut told = String::new();
        reader.read_line(&mut told)?;
        let source: SocketAddr = told
            .trim()
            .parse()
            .map_err(|_| io::Error::other(told.clone()))?;
        let mut said = vec![0; hello.len()];
        reader.read_exact(&mut said)?;
        assert_eq!(said, hello, "what was said comes back");
        Ok(Self {
            reader,
            source: source.ip(),
        })
    }

    /// What comes back of what is said; none at its end.
    fn say(&mut self, words: &str) -> Option<String> {
        let said = self.reader.get_mut().write_all(words.as_bytes());
        let mut back = vec![0; words.len()];
        said.and_then(|()| self.reader.read_exact(&mut back)).ok()?;
        String::from_utf8(back).ok()
    }
}

/// Requests, a tunnel and a refusal, as a scrape has them.
#[test]
fn a_scrape_tells_policies_and_sources() -> Result<()> {
    let scene = Scene::new("gateway-metrics", "")?;
    let before = scene.stage.lab.internet().observer().requested().len();
    for path in ["/x", "/y"] {
        assert_eq!(scene.get(API, path).expect("an answer"), 200);
    }
    assert_eq!(scene.get(DENIED, "/").expect("an answer"), 403);
    let requested = scene.stage.lab.internet().observer().requested();
    assert_eq!(requested.len(), before + 2, "{requested:?}");
    assert!(requested.iter().all(|it| it.source == ip(FIRST)));
    let tunnel = Tunnel::open(&scene).expect("a tunnel");
    assert_eq!(tunnel.source, ip(FIRST));
    let hello = hello(TLS).len();
    comes_to_count(
        &scene.stage,
        METRICS,
        &["sortie_gateway_connections 1".to_owned()],
    )?;
    drop(tunnel);
    let labels = format!("{{policy=\"partner\",source=\"{FIRST}\"");
    comes_to_count(
        &scene.stage,
        METRICS,
        &[
            format!(
                "sortie_gateway_requests_total{labels},result=\"ok\"}} {}",
                before + 3
            ),
            format!("sortie_gateway_sent_bytes_total{labels}}} {hello}"),
            "sortie_gateway_requests_total{policy=\"closed\",source=\"\",result=\"Denied\"} 1"
                .to_owned(),
            "sortie_gateway_connections 0".to_owned(),
            "sortie_gateway_turned_away_connections_total 0".to_owned(),
        ],
    )?;
    let text = scrape(&scene.stage, METRICS).expect("a scrape");
    assert!(text.contains("application/openmetrics-text"), "{text}");
    assert!(
        !text.contains("sortie_gateway_wrong_sources_total{"),
        "{text}"
    );
    assert!(text.contains("sortie_gateway_dns_queries_total"), "{text}");
    Ok(())
}

/// A change of address: what is open ends or drains, as the policy says; a request that is on its way
/// reaches its end, and what begins after `apply` has the new address.
#[test]
fn what_is_open_follows_on_change() -> Result<()> {
    let scene = Scene::new("gateway-change", "")?;
    let mut tunnel = Tunnel::open(&scene).expect("a tunnel");
    assert_eq!(tunnel.source, ip(FIRST));
    let mut kept = Client {
        reader: BufReader::new(scene.connect(80).expect("a connection")),
    };
    assert_eq!(kept.ask(&request(API, "/before")).expect("an answer"), 200);
    let mut halfway = scene.connect(80).expect("a connection");
    let post = format!("POST /halfway HTTP/1.1\r\nHost: {API}\r\nContent-Length: 8\r\n\r\nhalf");
    halfway.write_all(post.as_bytes()).expect("half a request");
    // Its head has gone to the origin when its connection is there.
    let observer = scene.stage.lab.internet().observer();
    eventually_true(LIMIT, "half a request is at the origin", || {
        let requested = observer.requested();
        requested.iter().any(|it| it.path == "/halfway")
    })?;

    applied(&scene.stage, &policy(SECOND, ""));
    assert_eq!(tunnel.say("more"), None, "Reset ends a tunnel");
    assert_eq!(kept.ask(&request(API, "/after")).expect("an answer"), 200);
    halfway.write_all(b"rest").expect("the rest");
    let mut halfway = Client {
        reader: BufReader::new(halfway),
    };
    assert_eq!(halfway.answer().expect("an answer"), 200);
    assert_eq!(halfway.ask(&request(API, "/next")).expect("an answer"), 200);
    for (path, source) in [
        ("/before", FIRST),
        ("/halfway", FIRST),
        ("/after", SECOND),
        ("/next", SECOND),
    ] {
        let requested = observer.requested();
        let found = requested.iter().find(|it| it.path == path);
        let found = found.unwrap_or_else(|| panic!("{path}: {requested:?}"));
        assert_eq!(found.source, ip(source), "{path}");
    }

    let mut tunnel = Tunnel::open(&scene).expect("a tunnel");
    assert_eq!(tunnel.source, ip(SECOND));
    // The same with another text: what leaves right is not touched.
    let drains = |address, seconds| {
        policy(
            address,
            &format!("  onChange: {{connections: Drain, drainSeconds: {seconds}}}\n"),
        )
    };
    applied(&scene.stage, &drains(SECOND, 600));
    assert_eq!(tunnel.say("still here").as_deref(), Some("still here"));
    applied(&scene.stage, &drains(FIRST, 600));
    assert_eq!(tunnel.say("draining").as_deref(), Some("draining"));
    let newer = Tunnel::open(&scene).expect("a tunnel");
    assert_eq!(newer.source, ip(FIRST));
    drop(newer);
    // Back, and off again with a time that ends.
    applied(&scene.stage, &drains(SECOND, 1));
    assert_eq!(tunnel.say("back").as_deref(), Some("back"));
    applied(&scene.stage, &drains(FIRST, 1));
    eventually(LIMIT, "the drain ends", || match tunnel.say("more") {
        None => Ok(()),
        Some(said) => Err(said),
    })
}

/// Requests on connections that stay, while policies change again and again: none fails, and after
/// `apply` each has the new address.
#[test]
fn changes_drop_no_request() -> Result<()> {
    const CHANGES: usize = 12;
    let scene = Scene::new("gateway-reload", "")?;
    let ends = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    let more = |number: usize| {
        let wanted = asked.load(Ordering::Relaxed) + number;
        eventually_true(LIMIT, "requests are answered", || {
            asked.load(Ordering::Relaxed) >= wanted
        })
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let reader = BufReader::new(scene.connect(80)?);
                    let mut client = Client { reader };
                    while !ends.load(Ordering::Relaxed) {
                        let status = client.ask(&request(API, "/load"))?;
                        if status != 200 {
                            return Err(io::Error::other(format!("status {status}")));
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let changed = (0..CHANGES).try_for_each(|change| {
            let now = [SECOND, FIRST][change % 2];
            applied(&scene.stage, &policy(now, ""));
            let path = format!("/after/{change}");
            assert_eq!(scene.get(API, &path).expect("an answer"), 200);
            let requested = scene.stage.lab.internet().observer().requested();
            let found = requested.iter().rfind(|it| it.path == path);
            assert_eq!(found.expect("the request").source, ip(now), "{path}");
            more(40)
        });
        ends.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client").expect("no request fails");
        }
        changed
    })?;
    let requested = scene.stage.lab.internet().observer().requested();
    let both = [ip(FIRST), ip(SECOND)];
    for source in both {
        assert!(requested.iter().any(|it| it.source == source), "{source}");
    }
    let other = requested.iter().find(|it| !both.contains(&it.source));
    assert_eq!(other, None);
    Ok(())
}
