//! The load of HTTP/1: clients and the server that answers them, in one loop on one thread.
//!
//! Both are on one CPU, since the other one is the proxy's: two threads would wait for each other.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustls::ServerConfig;

use crate::Failure;
use crate::server::{BODY, Server};

/// One measurement may take so long.
const LIMIT: Duration = Duration::from_mins(2);

/// What is asked, and how.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) to: SocketAddr,
    /// Whole requests, which are asked in turn.
    pub(crate) requests: &'a [Vec<u8>],
    pub(crate) count: u32,
    /// Connections at once, at most.
    pub(crate) connections: usize,
    /// Whether each request has a connection of its own.
    pub(crate) fresh: bool,
    /// Requests per second, whether those before are answered or not. Else the next one begins when
    /// one has ended.
    pub(crate) rate: Option<f64>,
}

/// How it went.
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    /// Nanoseconds from when a request was due to its response's end; sorted.
    pub(crate) latencies: Vec<f64>,
}

enum End {
    Listener(TcpListener),
    Server(Box<Server>),
    Client(Client),
}

struct Client {
    stream: TcpStream,
    due: Instant,
    response: Vec<u8>,
}

/// The loop, with the server's connections, which live from one measurement to the next.
pub(crate) struct Load {
    epoll: Epoll,
    ends: Vec<Option<End>>,
    free: Vec<usize>,
    tls: Option<Arc<ServerConfig>>,
}

impl Load {
    /// With a server on this listener.
    pub(crate) fn new(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, Failure> {
        listener.set_nonblocking(true)?;
        let mut load = Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            ends: Vec::new(),
            free: Vec::new(),
            tls,
        };
        load.add(End::Listener(listener))?;
        Ok(load)
    }

    /// Asks everything and waits for the answers.
    ///
    /// # Errors
    /// When a response is not 200, a connection ends early, or a request has a wrong source.
    pub(crate) fn run(&mut self, run: &Run<'_>) -> Result<Outcome, Failure> {
        let begin = Instant::now();
        let (mut asked, mut busy) = (0, 0);
        let mut idle = Vec::new();
        let mut latencies = Vec::with_capacity(run.count as usize);
        let mut events = [EpollEvent::empty(); 256];
        // While requests have their times, the loop does not sleep.
        let timeout = EpollTimeout::from(if run.rate.is_some() { 0_u8 } else { 100 });
        let mut requests = run.requests.iter().cycle();
        while latencies.len() < run.count as usize {
            while asked < run.count && busy < run.connections {
                let now = Instant::now();
                let due = run.rate.map_or(now, |rate| {
                    begin + Duration::from_secs_f64(f64::from(asked) / rate)
                });
                if due > now {
                    break;
                }
                let token = match idle.pop() {
                    Some(token) => token,
                    None => self.connect(run.to, due)?,
                };
                self.ask(token, due, requests.next().ok_or("no requests")?)?;
                asked += 1;
                busy += 1;
            }
            let ready = self.epoll.wait(&mut events, timeout)?;
            for event in &events[..ready] {
                let token = usize::try_from(event.data())?;
                if let Some(due) = self.ready(token)? {
                    latencies.push(due.elapsed().as_secs_f64() * 1e9);
                    busy -= 1;
                    if run.fresh {
                        self.end(token);
                    } else {
                        idle.push(token);
                    }
                }
            }
            if begin.elapsed() > LIMIT {
                let answered = latencies.len();
                return Err(format!("only {answered} of {} answers came", run.count).into());
            }
        }
        for token in idle {
            self.end(token);
        }
        latencies.sort_by(f64::total_cmp);
        Ok(Outcome {
            elapsed: begin.elapsed(),
            latencies,
        })
    }

    fn add(&mut self, end: End) -> Result<usize, Failure> {
        let token = self.free.pop().unwrap_or(self.ends.len());
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token as u64);
        match &end {
            End::Listener(listener) => self.epoll.add(listener, event)?,
            End::Server(server) => self.epoll.add(server.socket(), event)?,
            End::Client(client) => self.epoll.add(&client.stream, event)?,
        }
        if token == self.ends.len() {
            self.ends.push(None);
        }
        self.ends[token] = Some(end);
        Ok(token)
    }

    fn end(&mut self, token: usize) {
        // Closing takes it out of the epoll too.
        self.ends[token] = None;
        self.free.push(token);
    }

    fn connect(&mut self, to: SocketAddr, due: Instant) -> Result<usize, Failure> {
        let stream = TcpStream::connect(to).map_err(|error| format!("{to}: {error}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.add(End::Client(Client {
            stream,
            due,
            response: Vec::new(),
        }))
    }

    fn ask(&mut self, token: usize, due: Instant, request: &[u8]) -> Result<(), Failure> {
        let Some(Some(End::Client(client))) = self.ends.get_mut(token) else {
            return Err("no such client".into());
        };
        client.due = due;
        client.response.clear();
        Ok(client.stream.write_all(request)?)
    }

    /// Does what can be done. Returns when the request was due whose response has ended.
    fn ready(&mut self, token: usize) -> Result<Option<Instant>, Failure> {
        let accepted = match &mut self.ends[token] {
            None => return Ok(None),
            Some(End::Client(client)) => return client.read(),
            Some(End::Server(server)) => {
                if !server.serve()? {
                    self.end(token);
                }
                return Ok(None);
            }
            Some(End::Listener(listener)) => listener.accept(),
        };
        if let Ok((stream, _)) = accepted {
            let server = Server::new(stream, self.tls.as_ref())?;
            self.add(End::Server(Box::new(server)))?;
        }
        Ok(None)
    }
}

impl Client {
    fn read(&mut self) -> Result<Option<Instant>, Failure> {
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => return Err("the proxy has closed a connection".into()),
            Ok(length) => self.response.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let Some(head) = memchr::memmem::find(&self.response, b"\r\n\r\n") else {
            return Ok(None);
        };
        if !self.response.starts_with(b"HTTP/1.1 200 ") {
            let text = String::from_utf8_lossy(&self.response);
            return Err(format!("a wrong answer: {text}").into());
        }
        Ok((self.response.len() >= head + 4 + BODY).then_some(self.due))
    }
}
