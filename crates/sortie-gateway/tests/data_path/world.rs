//! A workload's namespace, a host with a gateway, and the internet.

use std::collections::BTreeMap;
use std::io;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sortie_api::workload::WorkloadId;
use sortie_gateway::decide::{
    Addresses, Clients, Decide, Denied, Proof, Reason, Resolve, Resolving, Shown, Sources, Target,
    Verdict, Way,
};
use sortie_gateway::tls::{Authority, ClientCertificate, Inspection, Origination};
use sortie_gateway::{AccessLog, Config, Gateway, Outside};
use sortie_lab::{Host, HostSpec, Lab, SOON, UplinkSpec, eventually_true};

use crate::http2_origin::Http2Origin;
use crate::origin::Origin;
use crate::pki::Pki;
use crate::tls::TlsOrigin;

/// The host's own address, and its two egress addresses.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub(crate) const FIRST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 12);

/// Where the origin is; what else is called gets there by the gateway's own resolving.
pub(crate) const ORIGIN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// An address that a policy denies, with an origin on it all the same.
pub(crate) const DENIED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
/// Where the workload's own look-up leads it: nowhere.
pub(crate) const CALLED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

pub(crate) const PORT: u16 = 8080;
pub(crate) const TLS_PORT: u16 = 8443;
/// Where HTTP/2 is spoken, and where TLS agrees on it.
pub(crate) const HTTP2_PORT: u16 = 8082;
pub(crate) const HTTP2_TLS_PORT: u16 = 8444;
/// For servers that a test starts itself.
pub(crate) const OTHER_PORT: u16 = 8085;
/// Nobody listens there.
pub(crate) const CLOSED_PORT: u16 = 8081;
const PROXY_PORT: u16 = 3128;
const LISTENER: u16 = 15001;

/// Names for which TLS is looked into; the origin has no certificate of the second.
const INSPECTED: [&str; 2] = ["inspected.partner.example", "inspected.example"];

/// The policies of these tests: by name, and by path for one name.
struct Policies {
    /// TLS that trusts the origin's CA; another one; and with a client's certificate.
    turn: Arc<Turn>,
    trusting: Arc<Origination>,
    strange: Arc<Origination>,
    known: Arc<Origination>,
    http2: Arc<Origination>,
    inspection: Arc<Inspection>,
}

/// A change of policies while a name is looked up.
#[derive(Default)]
struct Turn {
    asked: AtomicBool,
    turned: AtomicBool,
    answered: AtomicBool,
}

/// Whose policies change.
const TURNING: &str = "turning.partner.example";

impl Turn {
    /// Until what is told to the gateway before has been heard: it is idle meanwhile.
    async fn answer(&self) {
        self.asked.store(true, Ordering::Release);
        loop {
            let answered = self.answered.load(Ordering::Acquire);
            tokio::time::sleep(Duration::from_millis(5)).await;
            if answered {
                return;
            }
        }
    }
}

impl Policies {
    fn new(pki: &Pki, turn: &Arc<Turn>) -> Self {
        let (chain, key) = (pki.read("client.pem"), pki.read("client.key"));
        let client = ClientCertificate {
            chain: &chain,
            key: &key,
        };
        let begin = |port, ca: &str, client| {
            let ca = pki.read(ca);
            Arc::new(Origination::new(port, Some(&ca), client).unwrap())
        };
        Self {
            turn: Arc::clone(turn),
            trusting: begin(TLS_PORT, "ca.pem", None),
            strange: begin(TLS_PORT, "other.pem", None),
            known: begin(TLS_PORT, "ca.pem", Some(client)),
            http2: begin(HTTP2_TLS_PORT, "ca.pem", None),
            inspection: Arc::new(Inspection::new(
                &Authority::new(&pki.read("inspect.pem"), &pki.read("inspect.key")).unwrap(),
                begin(0, "ca.pem", None),
            )),
        }
    }
}

/// Leaves with the first address, and by TLS.
fn secured(originate: &Arc<Origination>) -> Verdict {
    Verdict {
        originate: Some(Arc::clone(originate)),
        ..leaves("secured", FIRST)
    }
}

/// Leaves with this address.
fn leaves(policy: &str, source: Ipv4Addr) -> Verdict {
    Verdict {
        policy: Some(policy.into()),
        by_name: true,
        names_port: true,
        way: Way::Egress {
            sources: Sources {
                v4: Some(source),
                v6: None,
            },
            mark: 0,
        },
        hides_http3: true,
        ..Verdict::unconcerned()
    }
}

impl Decide for Policies {
    fn sees_requests(&self, _: &WorkloadId, name: &str, _: u16) -> bool {
        name == "api.external.com" || INSPECTED.contains(&name)
    }

    fn inspects(&self, _: &WorkloadId, target: &Target<'_>) -> Option<Arc<Inspection>> {
        let name = target.name.filter(|name| INSPECTED.contains(name));
        name.map(|_| Arc::clone(&self.inspection))
    }

    fn decide(&self, _: &WorkloadId, target: &Target<'_>) -> Verdict {
        let refuses = |reason| Verdict {
            way: Way::Refused(reason),
            ..leaves("refuses", FIRST)
        };
        match target.name {
            Some("api.external.com") => match target.request {
                None => refuses(Reason::PathNotVisible),
                Some(asked) => {
                    let is_api = asked.path == "/api" || asked.path.starts_with("/api/");
                    let is_blue = asked.fields.any("x-tenant", &mut |value| value == b"blue");
                    if is_api || is_blue {
                        leaves("api", FIRST)
                    } else {
                        leaves("rest", SECOND)
                    }
                }
            },
            Some("denied.example") => refuses(Reason::Denied),
            Some(name) if INSPECTED.contains(&name) => match target.request {
                Some(asked) if asked.path.starts_with("/api") => leaves("inspected", FIRST),
                Some(_) => leaves("inspected", SECOND),
                None => refuses(Reason::PathNotVisible),
            },
            Some("secure.example" | "wrong.example") => secured(&self.trusting),
            Some("strange.partner.example") => secured(&self.strange),
            Some("known.partner.example") => secured(&self.known),
            Some("h2.partner.example") => secured(&self.http2),
            Some(TURNING) if self.turn.turned.load(Ordering::Acquire) => leaves("turned", SECOND),
            Some("gone.example") => leaves("gone", Ipv4Addr::new(203, 0, 113, 99)),
            Some(name) if name.ends_with(".partner.example") => leaves("partner", FIRST),
            Some("allowed.example") => Verdict {
                allows_private: true,
                ..leaves("allowed", FIRST)
            },
            _ => Verdict::unconcerned(),
        }
    }

    fn address(&self, _: &WorkloadId, _: &Verdict, to: SocketAddr) -> Result<(), Denied> {
        if to.ip() == DENIED {
            return Err(Denied {
                policy: "no-cidr".into(),
            });
        }
        Ok(())
    }

    fn is_of_host(&self, address: IpAddr) -> bool {
        [HOST, FIRST, SECOND].map(IpAddr::V4).contains(&address)
    }
}

/// A client of the proxy is the workload if it calls from the router's own address, or shows this.
struct ProxyClients;

pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(crate) const USER: &str = "ci:token";

impl Clients for ProxyClients {
    fn known(&self, peer: SocketAddr, shown: Shown<'_>) -> Option<WorkloadId> {
        let is_proved = match shown.proof {
            Some(Proof::Authorization(value)) => value == b"Basic Y2k6dG9rZW4=",
            Some(Proof::Password { user, password }) => (user, password) == (b"ci", b"token"),
            None => false,
        };
        (peer.ip() == ROUTER || is_proved).then(id)
    }
}

/// Names and their addresses.
struct Names(BTreeMap<&'static str, Vec<Ipv4Addr>>, Arc<Turn>);

impl Names {
    fn all(turn: &Arc<Turn>) -> Self {
        let private = Ipv4Addr::new(10, 0, 0, 1);
        let all = BTreeMap::from([
            (TURNING, vec![ORIGIN]),
            ("api.external.com", vec![ORIGIN]),
            ("gone.example", vec![ORIGIN]),
            ("unnamed.example", vec![ORIGIN]),
            ("a.partner.example", vec![private, DENIED, ORIGIN]),
            ("inside.partner.example", vec![private, HOST, FIRST]),
            ("cidr.partner.example", vec![DENIED]),
            ("secure.example", vec![ORIGIN]),
            ("wrong.example", vec![ORIGIN]),
            ("strange.partner.example", vec![ORIGIN]),
            ("known.partner.example", vec![ORIGIN]),
            ("h2.partner.example", vec![ORIGIN]),
            ("inspected.partner.example", vec![ORIGIN]),
            ("inspected.example", vec![ORIGIN]),
            ("allowed.example", vec![private]),
        ]);
        Self(all, Arc::clone(turn))
    }
}

impl Resolve for Names {
    fn known(&self, _: &WorkloadId, name: &str) -> Option<Addresses> {
        // Some are known at once, the others are waited for.
        let is_known = name.starts_with("api");
        let addresses = self.0.get(name).filter(|_| is_known)?;
        Some(addresses.iter().copied().map(IpAddr::V4).collect())
    }

    fn resolve<'a>(&'a self, _: &'a WorkloadId, name: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            if name == TURNING {
                self.1.answer().await;
            }
            let found = self.0.get(name);
            let found = found.ok_or_else(|| io::Error::other("no such name"))?;
            Ok(found.iter().copied().map(IpAddr::V4).collect())
        })
    }
}

/// The access log of a test.
#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<u8>>);

impl AccessLog for Log {
    fn lines(&self, lines: &[u8]) {
        self.0.lock().unwrap().extend(lines);
    }
}

impl Log {
    /// Waits for a line of which this is true.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
        eventually_true(SOON, what, || {
            let text = self.0.lock().unwrap().clone();
            let mut lines = text
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty());
            lines.any(|line| wanted(&serde_json::from_slice(line).unwrap()))
        })
        .unwrap();
    }
}

pub(crate) struct World {
    pub(crate) origin: Origin,
    pub(crate) tls: TlsOrigin,
    pub(crate) http2: Http2Origin,
    pub(crate) http2_tls: Http2Origin,
    pub(crate) log: Arc<Log>,
    gateway: Gateway,
    turn: Arc<Turn>,
    pub(crate) pki: Pki,
    workload: Host,
    lab: Lab,
}

impl World {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub(crate) fn with(name: &str, change: impl FnOnce(&mut Config)) -> Self {
        let lab = Lab::new(name).unwrap();
        let uplink = UplinkSpec::new(&["203.0.113.5/24"])
            .address("203.0.113.11/32")
            .address("203.0.113.12/32");
        let host = lab.host(&HostSpec::new("h1").uplink(uplink)).unwrap();
        let workload = lab.host(&HostSpec::new("w")).unwrap();
        let origin = Origin::start(lab.internet().netns());
        let pki = Pki::new();
        let tls = TlsOrigin::start(lab.internet().netns(), &pki);
        let http2 = Http2Origin::start(lab.internet().netns(), HTTP2_PORT, None);
        let agrees = Some(pki.http2());
        let http2_tls = Http2Origin::start(lab.internet().netns(), HTTP2_TLS_PORT, agrees);
        // All that it has is a way to nowhere, from which its connections are redirected.
        for line in [
            "link add nowhere type veth peer name elsewhere",
            "link set elsewhere up",
            "addr add 10.9.0.2/24 dev nowhere",
            "link set nowhere up",
            "route add default via 10.9.0.1",
        ] {
            workload.ip(line).unwrap();
        }
        for line in [
            "add table ip steer".to_owned(),
            "add chain ip steer output { type nat hook output priority -110 ; }".to_owned(),
            format!(
                "add rule ip steer output ip daddr != 10.9.0.0/24 tcp dport {{ {PORT}, {TLS_PORT}, {HTTP2_PORT}, {HTTP2_TLS_PORT}, {OTHER_PORT}, {CLOSED_PORT} }} redirect to :{LISTENER}"
            ),
        ] {
            workload.netns().nft(&line).unwrap();
        }
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, LISTENER)).unwrap();
        let listener = workload.netns().run(listen).unwrap();
        let (log, turn) = (Arc::new(Log::default()), Arc::<Turn>::default());
        let outside = Outside {
            decide: Arc::new(Policies::new(&pki, &turn)),
            resolve: Arc::new(Names::all(&turn)),
            log: Arc::clone(&log) as Arc<dyn AccessLog>,
            seen: None,
        };
        let mut config = Config {
            cores: 1,
            ..Config::default()
        };
        change(&mut config);
        let start = || Gateway::start(&config, &outside).unwrap();
        let gateway = host.netns().run(start).unwrap();
        gateway.listen(&id(), vec![listener]).unwrap();
        let clients: Arc<dyn Clients> = Arc::new(ProxyClients);
        let at = (HOST, PROXY_PORT).into();
        let listeners = host.netns().run(|| gateway.listeners(at, Vec::new()));
        let listeners = listeners.unwrap().unwrap();
        gateway.proxy(&clients, at, listeners).unwrap();
        Self {
            origin,
            tls,
            http2,
            http2_tls,
            log,
            gateway,
            turn,
            pki,
            workload,
            lab,
        }
    }

    /// What curl prints, run as the workload.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("curl");
        let limits = ["--silent", "--show-error", "--max-time", "60"];
        let resolve = [
            "api.external.com",
            "a.partner.example",
            "denied.example",
            "unnamed.example",
            "inspected.partner.example",
            "inspected.example",
        ]
        .into_iter()
        .flat_map(|name| {
            [PORT, TLS_PORT, HTTP2_PORT, HTTP2_TLS_PORT]
                .map(|port| format!("{name}:{port}:{CALLED}"))
        });
        command.args(limits);
        for resolve in resolve {
            command.args(["--resolve", &resolve]);
        }
        command.args(arguments);
        let output = self.workload.netns().output(command);
        output.map_err(|error| error.to_string())
    }

    /// What curl prints, run as the workload, which trusts the CA of the inspection and no other.
    pub(crate) fn trusting(&self, arguments: &[&str]) -> Result<String, String> {
        let ca = self.pki.path("inspect.pem");
        let ca = ["--cacert", ca.to_str().unwrap()];
        self.curl(&[&ca[..], arguments].concat())
    }

    /// What curl prints, run outside, with the gateway as its proxy.
    pub(crate) fn proxied(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60", "--insecure"]);
        command.args(arguments);
        let output = self.lab.internet().netns().output(command);
        output.map_err(|error| error.to_string())
    }

    /// What a program prints, run as the workload.
    pub(crate) fn run(&self, command: Command) -> sortie_lab::Result<String> {
        self.workload.netns().output(command)
    }

    /// Starts a server outside, and waits until it listens on [`OTHER_PORT`].
    pub(crate) fn serve(&self, command: &mut Command) -> Server {
        let netns = self.lab.internet().netns();
        let server = Server(netns.run(|| command.spawn()).unwrap().unwrap());
        eventually_true(SOON, "the server listens", || {
            let connect = || TcpStream::connect((ORIGIN, OTHER_PORT)).is_ok();
            netns.run(connect).unwrap()
        })
        .unwrap();
        server
    }

    /// A connection from outside to the proxy.
    pub(crate) fn connect_to_proxy(&self) -> TcpStream {
        let connect = || TcpStream::connect((HOST, PROXY_PORT)).unwrap();
        let stream = self.lab.internet().netns().run(connect).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// A connection of the workload.
    pub(crate) fn connect(&self, port: u16) -> TcpStream {
        let connect = || TcpStream::connect((CALLED, port)).unwrap();
        let stream = self.workload.netns().run(connect).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// A connection of the workload to the gateway's own listener.
    pub(crate) fn connect_to_listener(&self) -> TcpStream {
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, LISTENER)).unwrap();
        self.workload.netns().run(connect).unwrap()
    }

    /// Sends bytes on a connection of its own and returns all that comes back.
    pub(crate) fn say(&self, request: &str) -> String {
        let mut stream = self.connect(PORT);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset ends it too.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The workload's policies are others now, as far as what is kept for it goes.
    pub(crate) fn policies_changed(&self) {
        self.gateway.policies_changed(&id());
    }

    /// Waits until the name is looked up, changes its policy, and lets the answer come.
    pub(crate) fn turn(&self) {
        let asked = || self.turn.asked.load(Ordering::Acquire);
        eventually_true(SOON, "the name is looked up", asked).unwrap();
        self.turn.turned.store(true, Ordering::Release);
        self.policies_changed();
        self.turn.answered.store(true, Ordering::Release);
    }

    pub(crate) fn drain(self) {
        self.gateway.drain();
    }
}

/// A program that ends with this.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn id() -> WorkloadId {
    WorkloadId::from("docker/web")
}

/// Reads one response with a `Content-Length`; its head and its body.
pub(crate) fn response(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "the response ends: {bytes:?}"
        );
        bytes.extend(byte);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}
