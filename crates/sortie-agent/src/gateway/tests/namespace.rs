//! The gateway in a network namespace, between a container that asks, a name server, and a stand-in
//! agent that says what the kernel would hold.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use axum::{Json, Router};
use sortie_api::policy::{Carried, parse};
use sortie_kernel::kernel::{Kernel, Options as KernelOptions};
use sortie_kernel::netns::Namespace;
use sortie_plan::op::Op;
use sortie_plan::redirect::Redirect;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use crate::api::{ByName, GatewayHost, GatewayLine, Learned, Told};
use crate::gateway::{Options, serve};

/// How long anything may take on a machine that is busy.
const LIMIT: Duration = Duration::from_mins(1);
/// How long a client waits for an answer.
const CLIENT_WAITS: Duration = Duration::from_secs(5);
/// RFC 1035, section 4.1.1.
const SERVFAIL: u8 = 2;
/// Where the container's name server is, and what it answers for every name.
const SERVER: [u8; 4] = [172, 17, 0, 1];
const REAL: [u8; 4] = [198, 51, 100, 7];
const STAND_IN: [u8; 4] = [198, 18, 0, 1];

fn sh(script: &str) {
    let done = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(done.success(), "{script}");
}

/// A namespace of a process, with a cable to the test's.
struct Container {
    process: Child,
    namespace: Namespace,
}

impl Container {
    fn new() -> Self {
        let namespace = Namespace::anonymous().unwrap();
        let process = namespace.enter(|| Command::new("sleep").arg("600").spawn());
        let process = process.unwrap().unwrap();
        let pid = process.id();
        sh(&format!(
            "ip link add port type veth peer name eth0 netns /proc/{pid}/ns/net
             ip link set port up; ip addr add 172.17.0.1/16 dev port"
        ));
        let inside = "ip link set lo up; ip link set eth0 up
            ip addr add 172.17.0.2/16 dev eth0; ip route add default via 172.17.0.1";
        namespace.enter(|| sh(inside)).unwrap();
        Self { process, namespace }
    }

    /// What becomes of a lookup.
    fn asks(&self, name: &str) -> Looked {
        let ask = || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(CLIENT_WAITS)).unwrap();
            socket.connect((Ipv4Addr::from(SERVER), 53)).unwrap();
            let mut answer = [0; 512];
            let sent = socket.send(&query(name));
            let length = match sent.and_then(|_| socket.recv(&mut answer)) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Looked::Refused;
                }
                Err(_) => return Looked::Unanswered,
            };
            // The only record is the last.
            let last = answer[..length].last_chunk().copied();
            match (answer[3] & 15, answer[7]) {
                (0, 1) => Looked::Answered(last.unwrap()),
                (code, _) => Looked::Failed(code),
            }
        };
        self.namespace.enter(ask).unwrap()
    }

    /// Asks until this becomes of a lookup.
    fn gets(&self, name: &str, wanted: &Looked) {
        eventually(&format!("{name} is {wanted:?}"), || {
            self.asks(name) == *wanted
        });
    }
}

/// What becomes of a lookup.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    /// With this address.
    Answered([u8; 4]),
    /// With this code and no address.
    Failed(u8),
    /// Nobody listens.
    Refused,
    /// Nothing came.
    Unanswered,
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A query for A (RFC 1035, section 4.1).
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Answers everything with one address, and tells who asked.
fn name_server() -> mpsc::Receiver<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::from(SERVER), 53)).unwrap();
    let (seen, asked) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[7] = 1;
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(REAL);
            let _ = socket.send_to(&answer, from);
            if seen.send(from.ip()).is_err() {
                return;
            }
        }
    });
    asked
}

/// What the stand-in agent tells, and was told.
#[derive(Clone)]
struct Agent {
    known: Arc<Mutex<Vec<GatewayLine>>>,
    lines: broadcast::Sender<GatewayLine>,
    learned: Arc<Mutex<Vec<Learned>>>,
}

impl Agent {
    fn new(known: Vec<GatewayLine>) -> Self {
        Self {
            known: Arc::new(Mutex::new(known)),
            lines: broadcast::Sender::new(16),
            learned: Arc::default(),
        }
    }

    fn router(&self) -> Router {
        let agent = self.clone();
        let follow = async move || {
            let coming = BroadcastStream::new(agent.lines.subscribe());
            let known = agent.known.lock().unwrap().clone();
            let known = tokio_stream::iter(known.into_iter().chain([GatewayLine::Synced(true)]));
            let lines = known.chain(coming.filter_map(Result::ok)).map(|line| {
                let line = format!("{}\n", serde_json::to_string(&line).unwrap());
                Ok::<_, std::io::Error>(Bytes::from(line))
            });
            Body::from_stream(lines)
        };
        let into = |kept: &Arc<Mutex<Vec<Learned>>>| {
            let kept = Arc::clone(kept);
            async move |Json(names): Json<Vec<Learned>>| {
                kept.lock().unwrap().extend(names.clone());
                Json(names.iter().map(told).collect::<Vec<_>>())
            }
        };
        Router::new()
            .route("/v1/gateway", get(follow))
            .route("/v1/gateway/learned", post(into(&self.learned)))
    }
}

/// What begins with `other` shares an address, and is told another.
fn told(name: &Learned) -> Vec<Told> {
    let stand_in = name.name.starts_with("other").then_some(STAND_IN);
    let addresses = name.addresses.iter();
    addresses
        .map(|address| Told {
            address: *address,
            answered: Some(stand_in.map_or(*address, IpAddr::from)),
        })
        .collect()
}

fn runtime() -> Runtime {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.worker_threads(2).enable_all().build().unwrap()
}

/// The stand-in listens, until its runtime is dropped.
fn start(agent: &Agent, folder: &Path) -> Runtime {
    let runtime = runtime();
    let socket = folder.join("agent.sock");
    let _ = fs::remove_file(&socket);
    let router = agent.router();
    runtime.spawn(async move {
        let listener = UnixListener::bind(socket).unwrap();
        axum::serve(listener, router).await.unwrap();
    });
    runtime
}

fn names(learned: &Mutex<Vec<Learned>>) -> BTreeSet<String> {
    let learned = learned.lock().unwrap();
    learned.iter().map(|it| it.name.clone()).collect()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        thread::yield_now();
    }
}

fn workload(container: &Container) -> ByName {
    let text = "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: p}\nspec:
  destinations: [{cidrs: [0.0.0.0/0]}]\n  action: Egress\n  egress: {addresses: [203.0.113.11]}\n";
    let mut policy = parse("f", text).unwrap().remove(0);
    policy.destinations[0].cidrs.clear();
    policy.destinations[0].hosts = ["db.example", "new.example"]
        .map(|host| host.to_owned().try_into().unwrap())
        .into();
    ByName {
        id: "docker/web".into(),
        name: "web".to_owned(),
        pid: container.process.id(),
        namespace: container.namespace.identity(),
        addresses: vec![[172, 17, 0, 2].into()],
        policies: vec![Carried(Arc::new(policy))],
        audits: Vec::new(),
    }
}

#[test]
fn a_lookup_is_answered_when_the_agent_knows_its_addresses() {
    let host = Namespace::anonymous().unwrap();
    host.enter(|| {
        sh("ip link set lo up");
        let container = Container::new();
        let asked = name_server();
        let state = tempfile::tempdir().unwrap();
        let options = KernelOptions {
            state: state.path().to_owned(),
            ..KernelOptions::default()
        };
        let mut kernel = Kernel::open(options).unwrap();
        let redirect = Op::AddRedirect(container.process.id(), Redirect::default());
        kernel.apply(&[redirect]).unwrap();
        assert_eq!(container.asks("db.example"), Looked::Refused);

        let web = workload(&container);
        let id = web.id.clone();
        let first = Agent::new(vec![GatewayLine::Host(GatewayHost::default())]);
        let folder = tempfile::tempdir().unwrap();
        // The gateway waits for the agent, and then for the workload.
        let options = Options {
            socket: folder.path().join("agent.sock"),
            metrics: None,
        };
        let gateway = runtime();
        gateway.spawn(async move { serve(&options).await.unwrap() });
        let running = start(&first, folder.path());
        eventually("the gateway follows", || first.lines.receiver_count() > 0);
        assert_eq!(container.asks("db.example"), Looked::Refused);
        let known = GatewayLine::Workload(web);
        first.known.lock().unwrap().push(known.clone());
        first.lines.send(known).unwrap();
        container.gets("db.example", &Looked::Answered(REAL));
        container.gets("other.example", &Looked::Answered(STAND_IN));
        let learned = names(&first.learned);
        assert_eq!(
            learned,
            ["db.example", "other.example"].map(str::to_owned).into()
        );
        // The name server sees the container itself.
        let seen: BTreeSet<IpAddr> = asked.try_iter().collect();
        assert_eq!(seen, [[172, 17, 0, 2].into()].into());

        // While the agent is away what was learned is answered, and nothing new of a policy.
        running.shutdown_background();
        container.gets("new.example", &Looked::Failed(SERVFAIL));
        container.gets("db.example", &Looked::Answered(REAL));
        let next = Agent::new(first.known.lock().unwrap().clone());
        let _running = start(&next, folder.path());
        eventually("the gateway follows", || next.lines.receiver_count() > 0);
        container.gets("db.example", &Looked::Answered(REAL));
        container.gets("new.example", &Looked::Answered(REAL));

        next.lines.send(GatewayLine::WorkloadGone(id)).unwrap();
        container.gets("db.example", &Looked::Refused);
    })
    .unwrap();
}
