//! What the gateway keeps in memory: nothing of bodies, and little of those who wait. It runs as a
//! process of its own, with clients and origins here, all in one namespace.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use http::Request;
use hyper::body::Frame;
use sortie_api::workload::WorkloadId;
use sortie_gateway::decide::{Clients, Decide, Denied, Resolve, Resolving, Shown, Target, Verdict};
use sortie_gateway::{AccessLog, Config, Gateway, Outside};
use sortie_lab::{Host, HostSpec, Lab, SOON, eventually_true};

use crate::http2_client::{Client, get, parts};
use crate::http2_origin::{Http2Origin, LARGE};
use crate::world::HTTP2_PORT;

const GATEWAY: SocketAddr = local(3128);
const ORIGIN: SocketAddr = local(80);
/// Who connects there is kept, and told nothing.
const SILENT: SocketAddr = local(81);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

const MIB: u64 = 1 << 20;

/// How much is sent each way: `GATEWAY_MIB`, in MiB.
fn size() -> u64 {
    let told = std::env::var("GATEWAY_MIB");
    told.map_or(256, |text| text.parse().unwrap()) * MIB
}

/// Everybody may do everything.
struct Open;

impl Decide for Open {
    fn sees_requests(&self, _: &WorkloadId, _: &str, _: u16) -> bool {
        false
    }

    fn decide(&self, _: &WorkloadId, _: &Target<'_>) -> Verdict {
        Verdict {
            policy: Some("open".into()),
            allows_private: true,
            names_port: true,
            ..Verdict::unconcerned()
        }
    }

    fn address(&self, _: &WorkloadId, _: &Verdict, _: SocketAddr) -> Result<(), Denied> {
        Ok(())
    }

    fn is_of_host(&self, _: IpAddr) -> bool {
        false
    }
}

impl Clients for Open {
    fn known(&self, _: SocketAddr, _: Shown<'_>) -> Option<WorkloadId> {
        Some(WorkloadId::from("docker/web"))
    }
}

impl Resolve for Open {
    fn known(&self, _: &WorkloadId, _: &str) -> Option<Arc<[IpAddr]>> {
        None
    }

    fn resolve<'a>(&'a self, _: &'a WorkloadId, _: &'a str) -> Resolving<'a> {
        Box::pin(async { Err(std::io::Error::other("there are no names")) })
    }
}

impl AccessLog for Open {
    fn lines(&self, _: &[u8]) {}
}

#[test]
#[ignore = "the gateway's process; other tests start it"]
fn gateway_alone() {
    let open = Arc::new(Open);
    let outside = Outside {
        decide: Arc::clone(&open) as Arc<dyn Decide>,
        resolve: Arc::clone(&open) as Arc<dyn Resolve>,
        log: Arc::clone(&open) as Arc<dyn AccessLog>,
        seen: None,
    };
    let config = Config {
        cores: 1,
        connections: usize::MAX,
        ..Config::default()
    };
    let gateway = Gateway::start(&config, &outside).unwrap();
    let clients: Arc<dyn Clients> = open;
    let listeners = gateway.listeners(GATEWAY, Vec::new()).unwrap();
    gateway.proxy(&clients, GATEWAY, listeners).unwrap();
    // Until who started it goes.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// The gateway's process.
struct Alone {
    child: Child,
    host: Host,
    _lab: Lab,
}

impl Alone {
    fn start(name: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let host = lab.host(&HostSpec::new("h")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "memory::gateway_alone", "--ignored"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = host.netns().run(|| command.spawn()).unwrap().unwrap();
        let alone = Self {
            child,
            host,
            _lab: lab,
        };
        eventually_true(SOON, "the gateway listens", || {
            let connect = || TcpStream::connect(GATEWAY).is_ok();
            alone.host.netns().run(connect).unwrap()
        })
        .unwrap();
        alone
    }

    fn listen(&self, at: SocketAddr) -> TcpListener {
        let listen = || TcpListener::bind(at).unwrap();
        self.host.netns().run(listen).unwrap()
    }

    /// Connections to the gateway.
    fn connect<T: Send>(&self, connect: impl FnOnce() -> T + Send) -> T {
        self.host.netns().run(connect).unwrap()
    }

    /// Bytes in memory: of now (`VmRSS`), or the most so far (`VmHWM`).
    fn memory(&self, which: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(which));
        let kib = line.unwrap().trim_start_matches(':').trim_end_matches("kB");
        kib.trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect() -> TcpStream {
    let stream = TcpStream::connect(GATEWAY).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// A connection that SOCKS5 leads to a port.
fn socks(port: u16) -> TcpStream {
    let mut stream = connect();
    stream.write_all(&[5, 1, 0]).unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    let [high, low] = port.to_be_bytes();
    let request = [5, 1, 0, 1, 127, 0, 0, 1, high, low];
    stream.write_all(&request).unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    stream
}

/// An origin that takes bodies and sends one of the asked length.
fn serve(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            // It ends with the connection.
            thread::spawn(move || answer(stream.ok()?));
        }
    });
}

fn answer(mut stream: TcpStream) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut sent, mut wanted) = (0, 0);
        loop {
            let mut line = String::new();
            if input.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(path) = line.strip_prefix("GET /") {
                wanted = path.split(' ').next()?.parse().ok()?;
            } else if let Some(length) = line.strip_prefix("Content-Length: ") {
                sent = length.trim().parse().ok()?;
            } else if line == "\r\n" {
                break;
            }
        }
        let taken = std::io::copy(&mut (&mut input).take(sent), &mut std::io::sink());
        assert_eq!(taken.ok()?, sent);
        // In one piece, or its rest would wait for an acknowledgement.
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {wanted}\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        std::io::copy(&mut std::io::repeat(b'x').take(wanted), &mut stream).ok()?;
    }
}

/// A response's head; how long its body is.
fn head(stream: &mut impl BufRead) -> u64 {
    let mut length = None;
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the answer ends");
        if let Some(text) = line.strip_prefix("Content-Length: ") {
            length = Some(text.trim().parse().unwrap());
        } else if line == "\r\n" {
            return length.unwrap();
        }
    }
}

#[test]
fn bodies_go_through_without_being_kept() {
    const MORE: u64 = 24 * MIB;
    let alone = Alone::start("memory");
    serve(alone.listen(ORIGIN));
    let http2 = Http2Origin::start(alone.host.netns(), HTTP2_PORT, None);
    let size = size();
    let before = alone.memory("VmRSS");
    let kept = |what: &str| {
        let kept = alone.memory("VmHWM") - before;
        println!("{what}: {size} bytes, at most {kept} bytes more in memory");
        assert!(kept < MORE, "{what}: {kept} bytes more");
    };

    let mut client = alone.connect(connect);
    write!(
        client,
        "GET http://{ORIGIN}/{size} HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    .unwrap();
    let mut answer = BufReader::new(client.try_clone().unwrap());
    let length = head(&mut answer);
    let taken = std::io::copy(&mut (&mut answer).take(length), &mut std::io::sink());
    assert_eq!(taken.unwrap(), size);
    kept("HTTP/1 download");

    let request =
        format!("POST http://{ORIGIN}/ HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    std::io::copy(&mut std::io::repeat(b'x').take(size), &mut client).unwrap();
    assert_eq!(head(&mut answer), 0);
    kept("HTTP/1 upload");

    let client = Client::new(alone.connect(|| socks(HTTP2_PORT)));
    let url = format!("http://127.0.0.1:{HTTP2_PORT}");
    for _ in 0..size / LARGE {
        let mut large = client.ask(get(&format!("{url}/large"))).unwrap();
        assert_eq!(client.rest(large.body_mut()), LARGE);
    }
    kept("HTTP/2 download");
    for _ in 0..size / LARGE {
        let (send, body) = parts();
        client.runtime.spawn(async move {
            let part = Bytes::from_static(&[b'x'; 16 * 1024]);
            for _ in 0..LARGE / part.len() as u64 {
                send.send(Frame::data(part.clone())).await.unwrap();
            }
        });
        let request = Request::post(format!("{url}/length")).body(body).unwrap();
        let answer = client.whole(request);
        assert_eq!(answer.body, format!("127.0.0.1 {LARGE}\n"));
    }
    kept("HTTP/2 upload");
    assert_eq!(http2.seen().len() as u64, 2 * (size / LARGE));
}

/// What goes through a tunnel first.
const TUNNELLED: &[u8] = b"SSH-2.0-x\r\n";

/// Needs 11,000 open files at once.
#[test]
#[ignore = "opens more files than most limits allow; `make gateway-memory` runs it"]
fn who_waits_costs_little() {
    // A process each: memory that one kind has given back is not taken for the next one's.
    // So many of a kind, and how many of them reach the silent side: what that is sent says nothing to
    // the client.
    type Open<'a> = &'a (dyn Fn() -> TcpStream + Sync);
    let costs = |what: &str, (count, reaching): (u64, usize), most: u64, open: Open<'_>| {
        let alone = Alone::start("waiting");
        serve(alone.listen(ORIGIN));
        let silent = alone.listen(SILENT);
        let (reached, has_reached) = mpsc::channel();
        thread::spawn(move || {
            let accepted = silent.incoming().map(|stream| {
                let mut stream = stream.unwrap();
                stream.read_exact(&mut [0; TUNNELLED.len()]).unwrap();
                // Of the last ones nobody may hear.
                let _ = reached.send(());
                stream
            });
            accepted.collect::<Vec<_>>()
        });
        let before = alone.memory("VmRSS");
        let opened: Vec<_> = alone.connect(|| (0..count).map(|_| open()).collect());
        assert_eq!(has_reached.iter().take(reaching).count(), reaching);
        let each = alone.memory("VmRSS").saturating_sub(before) / count;
        println!("{what}: {count}, {each} bytes each");
        assert!(each < most, "{what}: {each} bytes each");
        drop(opened);
    };
    costs("idle HTTP/1 connections", (10_000, 0), 16 << 10, &|| {
        let mut client = connect();
        let request = format!("GET http://{ORIGIN}/0 HTTP/1.1\r\nHost: x\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = BufReader::new(client.try_clone().unwrap());
        assert_eq!(head(&mut answer), 0);
        client
    });
    costs("idle tunnels", (4000, 4000), 16 << 10, &|| {
        let mut client = socks(SILENT.port());
        client.write_all(TUNNELLED).unwrap();
        client
    });
    costs("idle HTTP/2 connections", (4000, 0), 64 << 10, &|| {
        let mut client = socks(SILENT.port());
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .unwrap();
        // The gateway's settings.
        client.read_exact(&mut [0; 9]).unwrap();
        client
    });
}
