//! One gateway after the other: under a service manager, while it is restarted, replaced or killed, what
//! comes waits for the next one; without, the next one is started beside it. What the old one has begun
//! ends there.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sortie_lab::{Container, ContainerSpec, Place, Process, Result, eventually, eventually_true};

use crate::manager::Manager;
use crate::names::query;
use crate::requests::{METRICS, connected};
use crate::stage::{DOCKER_29_NFTABLES, HOST_V4, LIMIT, Stage, ip};

const API: &str = "api.example";
/// The address of the containers' requests, and of the client's that asks the gateway as a proxy.
const OF_WEB: &str = "203.0.113.11";
const OF_CI: &str = "203.0.113.12";
/// By `printf %s token-of-ci | sha256sum`.
const TOKENS: &str = "ci d1968d6184b8eddf4b0d9fee136141d5f88a53784b9aa94e0d648ffc5b952caf\n";
const PROXY_PORT: u16 = 3128;
/// The internet's name server.
const SERVER: &str = "198.51.100.53";
/// How long an answer that is not to come is waited for.
const SOON: Duration = Duration::from_millis(200);

/// Containers with a policy by name, one of which asks all the time, and a client of the proxy's.
struct Scene {
    web: Container,
    destination: IpAddr,
    manager: Manager,
    stage: Stage,
}

impl Scene {
    /// With a gateway that is started so.
    fn new(
        name: &str,
        start: impl FnOnce(&Stage, &Manager) -> Result<Process>,
    ) -> Result<(Self, Process)> {
        let mut stage = Stage::without_agent(name, DOCKER_29_NFTABLES)?;
        let config = serves_clients(&stage);
        stage.start_agent(&config)?;
        let destination = stage.lab.destination()?.v4;
        let names = stage.lab.internet().observer().names();
        names.set(API, &[destination], 1);
        stage.applied(&policies(destination))?;
        stage.network("shop", 1, &[])?;
        let manager = Manager::new(&stage.host);
        let gateway = start(&stage, &manager)?;
        let web = managed(&stage, "web")?;
        let scene = Self {
            web,
            destination,
            manager,
            stage,
        };
        eventually(LIMIT, "the gateway answers", || {
            scene.looks_up(|| false)?;
            scene.asks_once("/ready")?;
            scene.asks_the_proxy("/ready-proxy")
        })?;
        Ok((scene, gateway))
    }

    /// What the service manager does next.
    fn starts(&self, name: &str) -> Result<Process> {
        self.manager.forgets_what_was_said();
        let gateway = self.manager.start(&self.stage.host, name, &GATEWAY, &[])?;
        self.manager.heard("READY=1", 1)?;
        Ok(gateway)
    }

    /// Waits until the manager keeps the sockets for these, and no others.
    fn keeps(&self, names: &[&str]) -> Result<()> {
        let mut wanted = names.to_vec();
        wanted.sort_unstable();
        eventually(LIMIT, "the manager keeps what is needed", || {
            let mut kept = self.manager.kept();
            kept.sort_unstable();
            if kept == wanted {
                Ok(())
            } else {
                Err(format!("{kept:?}, not {wanted:?}"))
            }
        })
    }

    /// A request of which the origin has the first half.
    fn half_of_a_request(&self, path: &str) -> Result<BufReader<TcpStream>> {
        let mut stream = self.connect().expect("a connection");
        let head = format!("POST {path} HTTP/1.1\r\nHost: {API}\r\nContent-Length: 8\r\n\r\nhalf");
        stream.write_all(head.as_bytes()).expect("half a request");
        let observer = self.stage.lab.internet().observer();
        eventually_true(LIMIT, "half a request is at the origin", || {
            observer.requested().iter().any(|it| it.path == path)
        })?;
        Ok(BufReader::new(stream))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let to = SocketAddr::new(self.destination, 80);
        connected(&self.web, to, LIMIT)
    }

    /// The only request of a connection.
    fn asks_once(&self, path: &str) -> io::Result<()> {
        let mut stream = self.connect()?;
        stream.write_all(request(path).as_bytes())?;
        answer(&mut BufReader::new(stream)).map(drop)
    }

    /// The same through the proxy, of a client elsewhere.
    fn asks_the_proxy(&self, path: &str) -> io::Result<()> {
        asks_the_proxy(&self.stage, self.destination, path)
    }

    /// A lookup that is asked once, and waits for its answer unless nobody can give it any more.
    fn looks_up(&self, is_cut: impl Fn() -> bool + Sync) -> io::Result<()> {
        let ask = || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(SOON))?;
            socket.connect((SERVER, 53))?;
            socket.send(&query(API))?;
            let mut answer = [0; 512];
            let ends = Instant::now() + LIMIT;
            let length = loop {
                match socket.recv(&mut answer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if is_cut() || ends <= Instant::now() {
                            return Err(error);
                        }
                    }
                    received => break received?,
                }
            };
            match (answer[3] & 15, answer[7]) {
                (0, 1..) => Ok(()),
                _ => Err(io::Error::other(format!("{:?}", &answer[..length]))),
            }
        };
        let web = self.web.place().map_err(io::Error::other)?;
        web.run(ask).map_err(io::Error::other)?
    }

    /// All that has come to the observer has its policy's source.
    #[track_caller]
    fn expect_sources(&self) {
        let requested = self.stage.lab.internet().observer().requested();
        for request in &requested {
            let is_of_ci = request.path.starts_with("/proxy") || request.path == "/ready-proxy";
            let source = if is_of_ci { OF_CI } else { OF_WEB };
            assert_eq!(request.source, ip(source), "{request:?}");
        }
        for path in ["/once", "/proxy", "/again", "/halfway/2", "/halfway/3"] {
            assert!(requested.iter().any(|it| it.path == path), "{path}");
        }
    }

    /// A request that nobody takes while no gateway runs.
    fn waiting(&self) -> Result<BufReader<TcpStream>> {
        eventually(LIMIT, "nobody serves", || {
            let mut stream = self.connect()?;
            stream.write_all(request("/waiting").as_bytes())?;
            stream.set_read_timeout(Some(SOON))?;
            match stream.read(&mut [0; 1]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stream.set_read_timeout(Some(LIMIT))?;
                    Ok(BufReader::new(stream))
                }
                other => Err(io::Error::other(format!("{other:?}"))),
            }
        })
    }
}

const GATEWAY: [&str; 3] = ["gateway", "--metrics", METRICS];

/// What the agent's file says of the proxy.
fn serves_clients(stage: &Stage) -> String {
    let tokens = stage.folder().join("tokens");
    fs::write(&tokens, TOKENS).expect("tokens");
    format!(
        "guard: All\ngateway: {{proxy: {{listen: [\"{HOST_V4}:{PROXY_PORT}\"], tokens: {}}}}}\n",
        tokens.display()
    )
}

/// The only request of a connection to the proxy, of a client elsewhere.
fn asks_the_proxy(stage: &Stage, to: IpAddr, path: &str) -> io::Result<()> {
    let internet = stage.lab.internet().netns();
    let mut stream = connected(internet, SocketAddr::new(ip(HOST_V4), PROXY_PORT), LIMIT)?;
    let head = format!(
        "GET http://{to}{path} HTTP/1.1\r\nHost: {to}\r\nProxy-Authorization: Bearer token-of-ci\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    answer(&mut BufReader::new(stream)).map(drop)
}

/// The names are those of the containers that [`managed`] runs.
fn policies(destination: IpAddr) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: web}}
spec:
  workloads: [{{containers: {{names: [web, early, late]}}}}]
  destinations: [{{hosts: [{API}], http: {{match: [{{pathPrefix: /}}]}}}}]
  action: Egress
  egress: {{addresses: [{OF_WEB}]}}
---
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: ci}}
spec:
  workloads: [{{clients: {{tokens: [ci]}}}}]
  destinations: [{{cidrs: [{destination}/32], ports: [{{protocol: TCP, port: 80}}]}}]
  action: Egress
  egress: {{addresses: [{OF_CI}]}}
"
    )
}

/// The process that serves, which is the child of what the manager has started.
fn server(gateway: &Process) -> Pid {
    let pid = gateway.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let child = children
        .expect("it runs")
        .trim()
        .parse()
        .expect("one child");
    Pid::from_raw(child)
}

fn managed(stage: &Stage, name: &str) -> Result<Container> {
    let spec = ContainerSpec::new(name).network("shop");
    stage.managed(&spec.name_server(SERVER))
}

/// What its sockets are kept as.
fn kept_as(container: &Container) -> Result<String> {
    let link = || fs::read_link("/proc/thread-self/ns/net");
    let link = container.netns()?.run(link)?.expect("a namespace");
    let link = link.display().to_string();
    let number = link
        .strip_prefix("net:[")
        .and_then(|it| it.strip_suffix(']'));
    Ok(format!("w-{}", number.expect("net:[NUMBER]")))
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {API}\r\n\r\n")
}

/// Reads an answer, which must be 200: whether the connection goes on.
fn answer(reader: &mut BufReader<TcpStream>) -> io::Result<bool> {
    let (mut status, mut length, mut persists) = (String::new(), 0, true);
    if reader.read_line(&mut status)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().map_err(io::Error::other)?,
            Some(("Connection", "close")) => persists = false,
            Some(_) => {}
            None => break,
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    if status.split(' ').nth(1) == Some("200") {
        Ok(persists)
    } else {
        Err(io::Error::other(status))
    }
}

/// Something that went wrong: when its connection or lookup began, and when that was seen.
#[derive(Debug)]
struct Failed {
    began: Instant,
    seen: Instant,
    #[expect(dead_code, reason = "the message has it")]
    why: String,
}

/// Who asks all the time, each in its own way.
#[derive(Default)]
struct Load {
    ends: AtomicBool,
    asked: [AtomicUsize; 4],
    failed: Mutex<Vec<Failed>>,
    /// When a gateway was gone that was killed, once the next one serves.
    gone: Mutex<Option<Instant>>,
}

impl Load {
    /// Does one thing again and again; what it needs for that it gets from one to the next. It says
    /// since when it has that.
    fn repeat<T: Default>(
        &self,
        who: usize,
        mut ask: impl FnMut(&mut T, &mut Instant) -> io::Result<()>,
    ) {
        let (mut kept, mut began) = (T::default(), Instant::now());
        while !self.ends.load(Ordering::Relaxed) {
            if let Err(error) = ask(&mut kept, &mut began) {
                let failed = Failed {
                    began,
                    seen: Instant::now(),
                    why: format!("{who}: {error}"),
                };
                let all = self.failed.lock();
                all.unwrap_or_else(PoisonError::into_inner).push(failed);
                kept = T::default();
            }
            self.asked[who].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn gone(&self) -> Option<Instant> {
        *self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until each of them has been answered some times more.
    fn goes_on(&self) -> Result<()> {
        let now = || self.asked.each_ref().map(|it| it.load(Ordering::Relaxed));
        let before = now();
        eventually(LIMIT, "all are answered", || {
            let now = now();
            if now
                .iter()
                .zip(before)
                .all(|(now, before)| *now >= before + 10)
            {
                Ok(())
            } else {
                Err(format!("{before:?} and then {now:?}"))
            }
        })
    }
}

/// Asks on one connection until it is told that it ends.
fn asks_again(
    scene: &Scene,
    kept: &mut Option<BufReader<TcpStream>>,
    began: &mut Instant,
) -> io::Result<()> {
    let mut reader = if let Some(reader) = kept.take() {
        reader
    } else {
        *began = Instant::now();
        BufReader::new(scene.connect()?)
    };
    reader.get_mut().write_all(request("/again").as_bytes())?;
    if answer(&mut reader)? {
        *kept = Some(reader);
    }
    Ok(())
}

/// Ends the load, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does `what` while all ask: what has failed meanwhile.
fn under_load(scene: &Scene, mut what: impl FnMut(&Load) -> Result<()>) -> Result<Vec<Failed>> {
    let load = Load::default();
    std::thread::scope(|scope| {
        let load = &load;
        let _ends = Ends(&load.ends);
        let once = |began: &mut Instant| *began = Instant::now();
        scope.spawn(move || {
            load.repeat(0, |(): &mut (), began| {
                once(began);
                scene.asks_once("/once")
            });
        });
        scope.spawn(move || {
            load.repeat(1, |(): &mut (), began| {
                once(began);
                scene.asks_the_proxy("/proxy")
            });
        });
        scope.spawn(move || {
            load.repeat(2, |(): &mut (), began| {
                once(began);
                let began = *began;
                scene.looks_up(|| load.gone().is_some_and(|gone| began < gone))
            });
        });
        scope.spawn(move || load.repeat(3, |kept, began| asks_again(scene, kept, began)));
        load.goes_on()?;
        what(load)?;
        load.goes_on()
    })?;
    Ok(load
        .failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn nothing_is_refused_while_the_gateway_restarts() -> Result<()> {
    let (scene, mut gateway) = Scene::new("handover", |stage, manager| {
        manager.start(&stage.host, "gateway-1", &GATEWAY, &[])
    })?;
    let (early, late) = (
        managed(&scene.stage, "early")?,
        managed(&scene.stage, "late")?,
    );
    let [web, of_early, of_late] =
        [&scene.web, &early, &late].map(|it| kept_as(it).expect("a name"));
    let proxy = format!("proxy-{HOST_V4}_{PROXY_PORT}");
    let metrics = format!("metrics-{METRICS}").replace(':', "_");
    scene.keeps(&[&web, &of_early, &of_late, &proxy, &metrics])?;
    let (mut early, mut late) = (Some(early), Some(late));

    let failed = under_load(&scene, |load| {
        early.take().map_or(Ok(()), Container::remove)?;
        scene.keeps(&[&web, &of_late, &proxy, &metrics])?;
        // As `systemctl restart`, for which the manager waits for the process that it knows; and that
        // one killed, which carries nothing.
        let signals = [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGKILL];
        for (number, signal) in (2..).zip(signals) {
            let mut halfway = scene.half_of_a_request(&format!("/halfway/{number}"))?;
            gateway.signal(signal)?;
            gateway.wait(LIMIT)?;
            let mut waiting = scene.waiting()?;
            halfway.get_mut().write_all(b"rest").expect("the rest");
            answer(&mut halfway).expect("an answer of the one before");
            late.take().map_or(Ok(()), Container::remove)?;
            gateway = scene.starts(&format!("gateway-{number}"))?;
            answer(&mut waiting).expect("an answer of the next");
            load.goes_on()?;
        }
        Ok(())
    })?;
    assert!(failed.is_empty(), "{failed:?}");
    scene.keeps(&[&web, &proxy, &metrics])?;

    let mut killed = None;
    let failed = under_load(&scene, |load| {
        let begins = Instant::now();
        kill(server(&gateway), Signal::SIGKILL).expect("it runs");
        assert!(
            !gateway.wait(LIMIT)?.success(),
            "or it would not be started again"
        );
        let gone = Instant::now();
        killed = Some((begins, gone));
        let mut waiting = scene.waiting()?;
        gateway = scene.starts("gateway-5")?;
        answer(&mut waiting).expect("an answer of the next");
        *load.gone.lock().unwrap_or_else(PoisonError::into_inner) = Some(gone);
        load.goes_on()
    })?;
    let (begins, gone) = killed.expect("it was killed");
    let is_cut = |it: &Failed| it.began < gone && it.seen >= begins;
    assert!(failed.iter().all(is_cut), "{begins:?} {gone:?} {failed:?}");
    scene.keeps(&[&web, &proxy, &metrics])?;

    scene.expect_sources();
    let scrape = || TcpStream::connect(METRICS).expect("somebody listens");
    scene.stage.host.netns().run(scrape)?;
    Ok(())
}

#[test]
fn a_gateway_that_is_started_beside_another_takes_its_place() -> Result<()> {
    let (scene, mut gateway) =
        Scene::new("successor", |stage, _| stage.spawn("gateway-1", &GATEWAY))?;
    let failed = under_load(&scene, |load| {
        for number in 2..4 {
            let mut halfway = scene.half_of_a_request(&format!("/halfway/{number}"))?;
            let next = scene.stage.spawn(&format!("gateway-{number}"), &GATEWAY)?;
            eventually(LIMIT, "the next one serves", || match next.stderr() {
                Ok(log) if log.contains("ends what it has begun") => Ok(()),
                other => Err(format!("{other:?}")),
            })?;
            assert_eq!(gateway.ended()?, None, "it has begun something");
            halfway.get_mut().write_all(b"rest").expect("the rest");
            answer(&mut halfway).expect("an answer of the one before");
            assert!(gateway.wait(LIMIT)?.success(), "{}", gateway.tail());
            gateway = next;
            load.goes_on()?;
        }
        Ok(())
    })?;
    assert!(failed.is_empty(), "{failed:?}");
    scene.expect_sources();
    assert!(scene.manager.kept().is_empty(), "nobody was told of it");
    Ok(())
}

/// A host of clients only: there is nobody who would tell of containers.
#[test]
fn without_an_engine_the_next_one_takes_the_place_too() -> Result<()> {
    let mut stage = Stage::without_agent("no-engine", DOCKER_29_NFTABLES)?;
    let config = serves_clients(&stage);
    let nowhere = stage.folder().join("nowhere.sock");
    stage.spawn_agent_for(&nowhere, &config, &[])?;
    stage.wait_for_agent()?;
    let destination = stage.lab.destination()?.v4;
    stage.applied(&policies(destination))?;
    let mut gateway = stage.spawn("gateway-1", &GATEWAY)?;
    eventually(LIMIT, "a client is served", || {
        asks_the_proxy(&stage, destination, "/ready")
    })?;
    for number in 2..4 {
        let next = stage.spawn(&format!("gateway-{number}"), &GATEWAY)?;
        assert!(gateway.wait(LIMIT)?.success(), "{}", gateway.tail());
        asks_the_proxy(&stage, destination, &format!("/{number}")).expect("served");
        gateway = next;
    }
    for request in stage.lab.internet().observer().requested() {
        assert_eq!(request.source, ip(OF_CI), "{}", request.path);
    }
    Ok(())
}
