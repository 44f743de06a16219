//! HTTP/1 from a workload: request by request, each decided by itself, each from its own source.

mod decision;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use sortie_api::workload::WorkloadId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{Dial, Spoken, Ways};
use super::report::Report;
use super::{Called, Client, settled};
use crate::buffer::Buffer;
use crate::deadline::Deadline;
use crate::decide::{Clients, Proof, Shown, Verdict};
use crate::flight::Flight;
use crate::http1::request::Request;
use crate::http1::response::{Asked, pins};
use crate::http1::{FieldSpace, Parsed};
use crate::pool::Key;
use crate::pump::{Body, Pump};
use crate::refusal::Refusal;
use crate::serve::{Connection, Core};
use crate::stream::Stream;
use crate::tls::ShownCertificate;
use crate::upstream::Upstream;
pub(super) use decision::stays;
use decision::{asked_again, called, decide};

/// How long, and for how many bytes, a client that was refused is listened to: closing on bytes that
/// nobody read would be a reset, which takes the refusal with it.
const LINGER: (Duration, u64) = (Duration::from_secs(1), 256 * 1024);

/// A client's connection that speaks HTTP/1.
pub(super) struct Http<'c> {
    pub(super) core: &'c Core,
    connection: &'c Connection,
    pub(super) flight: Flight<'c>,
    pub(super) stream: Stream,
    pub(super) buffer: Buffer,
    pub(super) deadline: Deadline,
    pub(super) workload: WorkloadId,
    to: To<'c>,
    /// The request's head and the first bytes of its body, as they go to the origin. Kept until the
    /// origin answers: they may have to be sent again.
    pub(super) out: Vec<u8>,
    /// The response's head and the first bytes of its body, as they go to the client.
    pub(super) reply: Vec<u8>,
    pub(super) report: Report,
    /// An origin's connection that has proved who this client is (NTLM, Negotiate).
    pinned: Option<(Key, Upstream)>,
}

/// Whom requests are for.
pub(super) enum To<'c> {
    /// Whom the client called.
    Called(Called),
    /// Every request says it to a proxy, and who asks: a program in front may carry those of several
    /// clients on one connection.
    Asked {
        clients: &'c dyn Clients,
        peer: SocketAddr,
        certificate: Option<&'c ShownCertificate>,
    },
}

/// A request that was read and decided.
pub(super) struct Decided {
    pub(super) verdict: Verdict,
    pub(super) called: Called,
    /// What of its body is not in [`Http::out`].
    pub(super) pump: Pump,
    pub(super) asked: Asked,
    pub(super) persists: bool,
    /// Whether it may be sent twice: it is idempotent, and all of it is in [`Http::out`].
    repeats: bool,
    pins: bool,
}

/// Why there is no whole response.
pub(super) enum Failure {
    /// The client is told.
    Refused(Refusal),
    /// The origin went before it said anything.
    Silent,
    /// The client has gone, or has part of a response already: nothing more can be said.
    Gone,
}

/// How an exchange ended.
pub(super) struct Ended {
    /// The origin keeps its connection, and nothing unasked for has come on it.
    pub(super) upstream_persists: bool,
    /// The client keeps its connection.
    pub(super) client_persists: bool,
    pub(super) pins: bool,
}

impl<'c> Http<'c> {
    pub(super) fn new(
        core: &'c Core,
        connection: &'c Connection,
        workload: WorkloadId,
        client: Client,
        to: To<'c>,
    ) -> Self {
        let Client {
            stream,
            buffer,
            deadline,
        } = client;
        let port = match &to {
            To::Called(called) => called.port,
            To::Asked { .. } => 0,
        };
        Self {
            flight: Flight::begin(core, &workload),
            report: Report::begin(&workload, port),
            workload,
            core,
            connection,
            stream,
            buffer,
            deadline,
            to,
            out: Vec::new(),
            reply: Vec::new(),
            pinned: None,
        }
    }

    /// Whether the connection ends after this request.
    pub(super) fn leaves(&self) -> bool {
        self.connection.leaves.get()
    }

    /// Serves it to its end.
    pub(super) async fn serve(mut self) {
        while let Some(request) = self.next().await {
            let persists = match request {
                Ok(decided) => self.exchange(decided).await,
                Err(refusal) => {
                    self.refuse(&refusal, true, false).await;
                    false
                }
            };
            self.report.end(self.core);
            if !persists {
                return;
            }
        }
    }

    /// The next request, decided; `None` at the connection's end. A client that could not be told that
    /// the connection ends may just be asking: it gets a moment more.
    async fn next(&mut self) -> Option<Result<Decided, Refusal>> {
        let mut has_begun = false;
        loop {
            if let Some(request) = self.read() {
                return Some(request);
            }
            if self.buffer.is_empty() {
                self.connection.is_idle.set(true);
                let limits = &self.core.config;
                let is_last = self.leaves();
                let limit = if is_last { limits.last } else { limits.idle };
                self.deadline.set(limit);
            } else if !has_begun {
                has_begun = true;
                self.deadline.set(self.core.config.head);
            }
            let (stream, buffer) = (&mut self.stream, &mut self.buffer);
            let connection = self.connection;
            let more = async {
                if buffer.is_empty() {
                    buffer.release();
                    tokio::select! {
                        readable = stream.readable() => readable?,
                        () = connection.left.notified(), if !connection.leaves.get() => {
                            return Ok(None);
                        }
                    }
                }
                poll_fn(|cx| buffer.poll_fill(cx, stream)).await.map(Some)
            };
            let more = self.deadline.within(more).await;
            self.connection.is_idle.set(false);
            match more {
                Ok(Ok(Some(0)) | Err(_)) => return None,
                Ok(Ok(_)) => {}
                Err(_) if self.buffer.is_empty() => return None,
                Err(_) => {
                    self.report.again();
                    return Some(Err(Refusal::slow()));
                }
            }
        }
    }

    /// Reads and decides a request, once its head is whole. What goes on is in `out` then.
    fn read(&mut self) -> Option<Result<Decided, Refusal>> {
        let mut space = FieldSpace::new();
        let limits = self.core.config.heads;
        let mut request = match Request::parse(self.buffer.filled(), &mut space, limits) {
            Parsed::Incomplete => return None,
            Parsed::Head(request) => request,
            Parsed::Refused(refused) => {
                self.report.again();
                return Some(Err(Refusal::request(refused)));
            }
        };
        self.report.again();
        if let To::Asked {
            clients,
            peer,
            certificate,
        } = self.to
        {
            let proof = request.credentials().map(Proof::Authorization);
            // Another client's request has its own connection.
            if clients.known(peer, Shown { certificate, proof }).as_ref() != Some(&self.workload) {
                return Some(Err(Refusal::unknown_client()));
            }
        }
        self.flight.again();
        let called = called(&self.to, &request).and_then(|called| {
            let (core, report) = (self.core, &mut self.report);
            let verdict = decide(core, &self.workload, &called, &mut request, report)?;
            Ok((called, verdict))
        });
        let (called, verdict) = match called {
            Ok(decided) => decided,
            Err(refused) => return Some(Err(Refusal::request(refused))),
        };
        self.out.clear();
        request.write_head(&mut self.out);
        let mut decided = Decided {
            verdict,
            called,
            pump: Pump::new(Body::new(request.body)),
            asked: Asked {
                head: request.method == "HEAD",
                upgrades: request.upgrades,
                version: request.version,
            },
            persists: request.persists,
            repeats: request.is_idempotent(),
            pins: request.values("authorization").any(pins),
        };
        let length = request.length;
        self.buffer.consume(length);
        match decided.pump.body.read(self.buffer.filled()) {
            Ok(part) => {
                self.out.extend_from_slice(&self.buffer.filled()[..part]);
                self.buffer.consume(part);
                decided.pump.written = part as u64;
                decided.repeats &= decided.pump.is_done();
                Some(Ok(decided))
            }
            Err(refused) => Some(Err(Refusal::request(refused))),
        }
    }

    /// Carries a request there and its response back. Whether the connection goes on.
    async fn exchange(&mut self, mut decided: Decided) -> bool {
        let refusal = match self.try_exchange(&mut decided).await {
            Ok(persists) => return persists,
            Err(Failure::Gone) => return false,
            Err(Failure::Refused(refusal)) => refusal,
            Err(Failure::Silent) => {
                Refusal::incomplete("the origin ended the connection without an answer")
            }
        };
        let closes = !decided.persists || !decided.pump.is_done() || self.leaves();
        self.refuse(&refusal, closes, decided.asked.head).await && !closes
    }

    /// 1. The addresses that may be called, each with its source. Where policies change while the name
    ///    is looked up, it is decided again: nothing has begun by then.
    /// 2. An idle connection to one of them, or a new one.
    /// 3. The request and its response.
    /// 4. When a connection that was used before ends without an answer, the origin had ended it
    ///    meanwhile: once, and with a new connection, the request is sent again, if sending it
    ///    twice is sending it once (RFC 9110 §9.2.2).
    async fn try_exchange(&mut self, decided: &mut Decided) -> Result<bool, Failure> {
        let address = decided.called.address;
        let ways = loop {
            let (deadline, called) = (&mut self.deadline, &mut decided.called);
            let verdict = decided.verdict.clone();
            let name = self.report.name();
            let verdict = settled(self.core, &self.workload, deadline, verdict, name, called).await;
            decided.verdict = verdict.map_err(Failure::Refused)?;
            self.report.verdict(&decided.verdict);
            let dial = decided.dial(self.core, &self.workload, self.report.name());
            let ways = dial.ways(&mut self.deadline).await;
            let ways = ways.map_err(Failure::Refused)?;
            if !self.flight.is_former() {
                break ways;
            }
            self.flight.again();
            decided.called.address = address;
            let (policies, workload) = (&*self.core.outside.decide, &self.workload);
            let asked = (&self.report, &*self.out);
            let again = asked_again(self.core, asked, &decided.called, |target| {
                policies.decide(workload, target)
            });
            if let Some(verdict) = again {
                decided.verdict = verdict;
            }
        };
        let mut is_fresh = false;
        loop {
            let mut origin = self.origin(decided, &ways, is_fresh).await?;
            let reused = origin.reused;
            self.report
                .upstream(&decided.verdict, origin.upstream.seen(), reused);
            let ended = match self.round(&mut origin.upstream, decided).await {
                Err(Failure::Silent) if reused && decided.repeats && !is_fresh => {
                    is_fresh = true;
                    continue;
                }
                ended => ended?,
            };
            if ended.upstream_persists && !self.flight.is_former() {
                if origin.pinned || ended.pins || decided.pins {
                    self.pinned = Some((origin.key, origin.upstream));
                } else {
                    self.core.pool.put(origin.key, origin.upstream);
                }
            }
            return Ok(ended.client_persists);
        }
    }

    /// A connection to one of these addresses: this client's own, an idle one, or a new one.
    async fn origin(
        &mut self,
        decided: &Decided,
        ways: &Ways,
        is_fresh: bool,
    ) -> Result<Origin, Failure> {
        let dial = decided.dial(self.core, &self.workload, self.report.name());
        for (to, source) in ways.iter().filter(|_| !is_fresh) {
            let key = dial.key(*to, *source);
            let is_own = self.pinned.as_ref().is_some_and(|(own, _)| *own == key);
            let found = if is_own {
                let own = self.pinned.take().map(|(_, upstream)| upstream);
                own.and_then(|mut upstream| upstream.is_quiet().then_some(upstream))
            } else {
                self.core.pool.take(&key)
            };
            if let Some(upstream) = found {
                return Ok(Origin {
                    upstream,
                    key,
                    reused: true,
                    pinned: is_own,
                });
            }
        }
        let made = dial.connect_to(ways, &mut self.deadline).await;
        let (upstream, source) = made.map_err(Failure::Refused)?;
        Ok(Origin {
            key: dial.key(upstream.peer, source),
            upstream,
            reused: false,
            pinned: false,
        })
    }

    /// Answers a request that does not go on. Whether the client got it.
    async fn refuse(&mut self, refusal: &Refusal, closes: bool, is_head: bool) -> bool {
        self.report.status(refusal.status);
        self.report.refused(refusal);
        self.reply.clear();
        refusal.write(&mut self.reply, closes, is_head);
        if closes {
            say_last(&mut self.stream, &mut self.deadline, &self.reply).await;
            return false;
        }
        self.deadline.set(LINGER.0);
        let written = self.stream.write_all(&self.reply);
        matches!(self.deadline.within(written).await, Ok(Ok(())))
    }
}

/// Says the last thing on a connection, and listens until the client has it.
pub(super) async fn say_last(stream: &mut Stream, deadline: &mut Deadline, bytes: &[u8]) {
    deadline.set(LINGER.0);
    let rest = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut rest = stream.take(LINGER.1);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // It goes anyway.
    let _ = deadline.within(rest).await;
}

impl Decided {
    /// Its way to the origin.
    fn dial<'d>(
        &'d self,
        core: &'d Core,
        workload: &'d WorkloadId,
        name: Option<&'d str>,
    ) -> Dial<'d> {
        Dial {
            core,
            workload,
            verdict: &self.verdict,
            name,
            called: &self.called,
            spoken: Spoken::Http1,
        }
    }
}

/// A connection to an origin, and how it was come by.
struct Origin {
    upstream: Upstream,
    key: Key,
    reused: bool,
    /// It is this client's alone.
    pinned: bool,
}
