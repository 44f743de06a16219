//! `sortie observe`, in a network namespace of its own. Needs root.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::sortie;

/// For what must come.
const GENEROUS: Duration = Duration::from_secs(20);

/// The thread that this runs on has the namespace, and so has what it starts.
fn conversation() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make network namespaces");
    let mut ip = Command::new("ip");
    assert!(
        ip.args(["link", "set", "lo", "up"])
            .status()
            .unwrap()
            .success()
    );

    let mut observer = sortie(&["observe", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It listens once somebody answers.
    let mut stream = loop {
        match TcpStream::connect(("::1", 8080)) {
            Ok(stream) => break stream,
            Err(_) => assert!(observer.try_wait().unwrap().is_none(), "observe ended"),
        }
    };
    stream.set_read_timeout(Some(GENEROUS)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\n::1\n"), "{answer}");

    // Answered from the address that was asked, or a connected socket would not take it.
    let socket = UdpSocket::bind(("127.0.0.2", 0)).unwrap();
    socket.connect(("127.0.0.3", 8080)).unwrap();
    socket.set_read_timeout(Some(GENEROUS)).unwrap();
    socket.send(b"?").unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).unwrap();
    let port = socket.local_addr().unwrap().port();
    assert_eq!(answer[..length], *format!("127.0.0.2 {port}\n").as_bytes());

    let lines = BufReader::new(observer.stdout.take().unwrap()).lines();
    let callers: Vec<Value> = lines
        .take(2)
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(
        (&callers[0]["protocol"], &callers[0]["address"]),
        (&"http".into(), &"::1".into())
    );
    assert_eq!(
        (&callers[1]["protocol"], &callers[1]["port"]),
        (&"udp".into(), &port.into())
    );

    // A second one cannot have the port.
    let second = sortie(&["observe", "--listen", "127.0.0.1:8080"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(
        error.starts_with("sortie: cannot listen on 127.0.0.1:8080 (tcp)"),
        "{error}"
    );

    let pid = Pid::from_raw(observer.id().try_into().unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    observer.wait().unwrap();
}

#[test]
fn observe() {
    thread::spawn(conversation).join().unwrap();
}
