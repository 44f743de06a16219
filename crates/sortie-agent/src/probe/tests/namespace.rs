//! Observer and probe end to end, in a network namespace of the test's own. Needs root.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::observe::{Caller, Observer};
use crate::probe::{ProbeError, probe};

/// For what must succeed.
const GENEROUS: Duration = Duration::from_secs(20);
/// For what must time out.
const SHORT: Duration = Duration::from_millis(600);

/// Whether `ip` succeeds in the thread's namespace.
fn ip(line: &str) -> bool {
    let output = Command::new("ip").args(line.split(' ')).output();
    output.unwrap().status.success()
}

/// An observer inside a namespace that has only `lo`, with a second address of each family.
struct Observed {
    namespace: PathBuf,
    port: u16,
    callers: tokio::sync::mpsc::Receiver<Caller>,
    /// A TCP port where nobody ever answers.
    silent: u16,
    _end: oneshot::Sender<()>,
}

impl Observed {
    /// The namespace lives as long as the thread in it.
    fn start() -> Self {
        let (ready, wait) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make network namespaces");
            for line in [
                "link set lo up",
                "addr add 203.0.113.11/32 dev lo",
                "addr add 2001:db8::11/128 dev lo nodad",
                "route add unreachable 198.51.100.0/24",
            ] {
                assert!(ip(line), "ip {line}");
            }
            // The kernel adds the routes to IPv6 addresses a moment later (addrconf_dad_work).
            let begin = Instant::now();
            for line in ["-6 route get ::1", "-6 route get 2001:db8::11"] {
                while !ip(line) {
                    assert!(begin.elapsed() < GENEROUS, "ip {line}");
                }
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                // Nobody else listens in here.
                let port = 4007;
                let echo = Observer::bind_all(port).unwrap();
                let any: SocketAddr = ([0, 0, 0, 0], 0).into();
                let silent = TcpListener::bind(any).await.unwrap();
                let (sender, callers) = tokio::sync::mpsc::channel(16);
                let (end, ended) = oneshot::channel();
                let observed = Self {
                    namespace: format!("/proc/{}/ns/net", gettid()).into(),
                    port,
                    callers,
                    silent: silent.local_addr().unwrap().port(),
                    _end: end,
                };
                ready.send(observed).unwrap();
                tokio::select! {
                    () = echo.serve(sender) => {}
                    _ = ended => {}
                }
            });
        });
        wait.recv().expect("the observer starts")
    }

    fn ask(&self, scheme: &str, host: &str, port: u16) -> Result<IpAddr, ProbeError> {
        self.ask_within(scheme, host, port, GENEROUS)
    }

    fn ask_within(
        &self,
        scheme: &str,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> Result<IpAddr, ProbeError> {
        let url = format!("{scheme}://{host}:{port}").parse().unwrap();
        probe(&self.namespace, &url, limit)
    }
}

#[test]
fn every_protocol_and_family() {
    let mut observed = Observed::start();
    // On `lo` a connection to an address of the host comes from that address.
    for (host, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("203.0.113.11", "203.0.113.11"),
        ("[::1]", "::1"),
        ("[2001:db8::11]", "2001:db8::11"),
    ] {
        for scheme in ["http", "tcp", "udp"] {
            let seen = observed.ask(scheme, host, observed.port).unwrap();
            assert_eq!(seen.to_string(), address, "{scheme} {host}");
            let caller = observed.callers.blocking_recv().unwrap();
            assert_eq!((caller.protocol.as_str(), caller.address), (scheme, seen));
        }
    }
}

#[test]
fn failures_have_names() {
    let observed = Observed::start();
    let unused = 1;
    for scheme in ["http", "tcp", "udp"] {
        let error = observed.ask(scheme, "127.0.0.1", unused).unwrap_err();
        assert!(matches!(error, ProbeError::Refused { .. }), "{error}");
        // Without a default route nothing outside can be reached from in there.
        for outside in ["192.0.2.1", "198.51.100.1"] {
            let error = observed.ask(scheme, outside, 80).unwrap_err();
            assert!(matches!(error, ProbeError::Unreachable { .. }), "{error}");
        }
    }
    for scheme in ["http", "tcp"] {
        let error = observed
            .ask_within(scheme, "127.0.0.1", observed.silent, SHORT)
            .unwrap_err();
        assert!(matches!(error, ProbeError::TimedOut { .. }), "{error}");
    }
    let nowhere = PathBuf::from("/proc/self/ns/no-such");
    let url = "tcp://127.0.0.1:1".parse().unwrap();
    let error = probe(&nowhere, &url, SHORT).unwrap_err();
    assert!(matches!(error, ProbeError::Namespace { .. }), "{error}");
}

#[test]
fn the_callers_namespace_is_left_as_it_was() {
    let observed = Observed::start();
    let mine = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    observed.ask("tcp", "127.0.0.1", observed.port).unwrap();
    let after = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    assert_eq!(mine, after);
}

/// One connection from the test's own thread, put into the namespace.
fn conversation(observed: &Observed, said: &'static [u8]) -> String {
    let namespace = observed.namespace.clone();
    let port = observed.port;
    let inside = move || {
        let namespace = std::fs::File::open(namespace).unwrap();
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            for byte in said.chunks(7) {
                stream.write_all(byte).await.unwrap();
            }
            let mut answer = String::new();
            let answered = stream.read_to_string(&mut answer);
            tokio::time::timeout(GENEROUS, answered)
                .await
                .expect("the observer closes")
                .unwrap();
            let port = stream.local_addr().unwrap().port();
            answer.replace(&port.to_string(), "PORT")
        })
    };
    thread::spawn(inside).join().unwrap()
}

#[test]
fn tcp_callers_of_every_kind() {
    let observed = Observed::start();
    for said in [&b""[..], b"hello\n", b"GET / x\r\n\r\n"] {
        assert_eq!(conversation(&observed, said), "127.0.0.1 PORT\n");
    }
    let answer = conversation(
        &observed,
        b"GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n",
    );
    assert!(
        answer.ends_with("\r\n\r\n{\"address\":\"127.0.0.1\",\"port\":PORT}\n"),
        "{answer}"
    );
    // Unread bytes must not reset the connection before the answer is read.
    let mut long = b"POST / HTTP/1.1\r\n\r\n".to_vec();
    long.resize(50_000, b'x');
    let answer = conversation(&observed, long.leak());
    assert!(answer.ends_with("\r\n\r\n127.0.0.1\n"), "{answer}");
}
