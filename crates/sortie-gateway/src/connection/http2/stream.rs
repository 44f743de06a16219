//! One stream: the request goes to the origin and the response comes back, both streaming.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::{Body, Frame, Incoming};

use super::request::{self, Asked};
use super::{Session, response};
use crate::body::{Progress, Sent};
use crate::carrier::{Carrier, Place};
use crate::connection::dial::{Dial, Spoken, Ways};
use crate::connection::report::Report;
use crate::connection::{Called, settled};
use crate::deadline::Deadline;
use crate::decide::{self, Verdict};
use crate::flight::{Flight, Leaving};
use crate::http1::Refused;
use crate::http1::authority::Host;
use crate::http1::response::pins;
use crate::refusal::Refusal;

/// A stream of a client.
pub(super) struct Stream<'s> {
    session: &'s Session,
    respond: SendResponse<Bytes>,
    report: Report,
    progress: Rc<Progress>,
    deadline: Deadline,
    flight: Flight<'s>,
}

/// A request on its way: what is asked again when policies have changed.
struct Way<'a> {
    asked: &'a Asked,
    called: &'a Called,
    verdict: &'a Verdict,
    peer: SocketAddr,
}

/// Why there is no whole response.
enum Failure {
    /// The client is told.
    Refused(Refusal),
    /// The client has gone, or has part of a response already: nothing more can be said.
    Gone,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(Refusal::request(refused))
    }
}

impl<'s> Stream<'s> {
    pub(super) fn begin(session: &'s Session, respond: SendResponse<Bytes>) -> Self {
        Self {
            report: Report::begin(&session.workload, session.called.port),
            flight: Flight::begin(&session.core, &session.workload),
            session,
            respond,
            progress: Progress::begin(),
            deadline: Deadline::after(session.core.config.response),
        }
    }

    /// Serves it to its end, and writes its line.
    pub(super) async fn serve(mut self, request: Request<RecvStream>) {
        let (parts, body) = request.into_parts();
        match self.exchange(parts, body).await {
            Ok(()) | Err(Failure::Gone) => {}
            Err(Failure::Refused(refusal)) => self.refuse(&refusal).await,
        }
        let progress = &self.progress;
        self.report
            .bytes(progress.sent.get(), progress.received.get());
        self.report.end(&self.session.core);
    }

    /// 1. The request is read and decided.
    /// 2. The addresses that may be called, each with its source. Where policies change while the name
    ///    is looked up, it is decided again: nothing has begun by then.
    /// 3. A place on a connection to one of them, or a new connection.
    /// 4. The request and its response.
    async fn exchange(
        &mut self,
        parts: http::request::Parts,
        body: RecvStream,
    ) -> Result<(), Failure> {
        let mut asked = request::read(parts)?;
        let mut called = self.session.called.asked(&asked.host)?;
        let address = called.address;
        let (verdict, ways) = loop {
            called.address = address;
            let verdict = self.decide(&mut asked, &called)?;
            let (core, workload) = (&self.session.core, &self.session.workload);
            let name = self.report.name();
            let deadline = &mut self.deadline;
            let verdict = settled(core, workload, deadline, verdict, name, &mut called).await?;
            self.report.verdict(&verdict);
            let dial = Dial {
                core,
                workload,
                verdict: &verdict,
                name: self.report.name(),
                called: &called,
                spoken: Spoken::Http2,
            };
            let ways = dial.ways(&mut self.deadline).await?;
            if !self.flight.is_former() {
                break (verdict, ways);
            }
            self.flight.again();
        };
        let (answer, place) = self.ask(&asked, body, &verdict, &called, &ways).await?;
        if self.flight.is_former() {
            place.carrier().retire();
        }
        self.answer(answer, place, &asked, &verdict, &called).await
    }

    /// Asks the policies, as for a request of HTTP/1.
    fn decide(&mut self, asked: &mut Asked, called: &Called) -> Result<Verdict, Refused> {
        let policies = &*self.session.core.outside.decide;
        let workload = &self.session.workload;
        if let Host::Name(name) = &asked.host {
            self.report.host(name);
            if policies.sees_requests(workload, name, called.port) {
                asked.settle_path()?;
            }
        }
        self.report.request(asked.method.as_str(), &asked.path);
        let target = target(&self.report, asked, called);
        let verdict = policies.decide(workload, &target);
        self.report.verdict(&verdict);
        Ok(verdict)
    }

    /// Sends the request and waits for the response's head.
    ///
    /// A request that did not get onto a connection which was used before is sent again on a new
    /// one, once; so is one without a body that may be sent twice, when the origin ended the
    /// connection or refused the stream.
    async fn ask(
        &mut self,
        asked: &Asked,
        body: RecvStream,
        verdict: &Verdict,
        called: &Called,
        ways: &Ways,
    ) -> Result<(Response<Incoming>, Place), Failure> {
        let repeats = asked.is_idempotent() && body.is_end_stream();
        let mut body = Sent::new(body, &self.progress);
        let mut is_fresh = false;
        loop {
            let (place, reused) = self.place(verdict, called, ways, is_fresh).await?;
            let carrier = place.carrier();
            self.report
                .upstream(verdict, (carrier.peer, carrier.source), reused);
            let is_encrypted = verdict.originate.is_some() || called.inside.is_some();
            let request = asked.forward(body, carrier.is_http2(), is_encrypted)?;
            let mut answer = pin!(carrier.send(request));
            let came = poll_fn(|cx| {
                if let Poll::Ready(came) = answer.as_mut().poll(cx) {
                    return Poll::Ready(Ok(came.map_err(Box::new)));
                }
                if self.respond.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(Failure::Gone));
                }
                let way = Way {
                    asked,
                    called,
                    verdict,
                    peer: carrier.peer,
                };
                if self.poll_ended(cx, Some(&way)).is_ready() {
                    return Poll::Ready(Err(Failure::Refused(Refusal::changed())));
                }
                let limits = self.session.limits();
                let stalled = self.progress.poll_stalled(cx, &mut self.deadline, limits);
                stalled.map(|()| Err(Failure::Refused(Refusal::late())))
            })
            .await;
            let mut error = match came {
                Ok(Ok(response)) => return Ok((response, place)),
                Ok(Err(error)) => error,
                Err(failure) => {
                    if matches!(failure, Failure::Refused(_)) {
                        // Perhaps nobody is there any more.
                        carrier.retire();
                    }
                    return Err(failure);
                }
            };
            let unsent = error.take_message().map(Request::into_body);
            let error = error.into_error();
            body = match unsent {
                Some(body) if reused && !is_fresh => body,
                None if repeats && !is_fresh && (reused || is_refused(&error)) => {
                    Sent::empty(&self.progress)
                }
                _ => return Err(failed(&error).into()),
            };
            is_fresh = true;
        }
    }

    /// A place on a connection to one of these addresses, and whether it was there before.
    async fn place(
        &mut self,
        verdict: &Verdict,
        called: &Called,
        ways: &Ways,
        is_fresh: bool,
    ) -> Result<(Place, bool), Refusal> {
        let core = &self.session.core;
        let dial = Dial {
            core,
            workload: &self.session.workload,
            verdict,
            name: self.report.name(),
            called,
            spoken: Spoken::Http2,
        };
        if !is_fresh {
            let mut known = ways.iter().map(|(to, source)| dial.key(*to, *source));
            if let Some(place) = known.find_map(|key| core.carriers.take(&key)) {
                return Ok((place, true));
            }
        }
        let (upstream, source) = dial.connect_to(ways, &mut self.deadline).await?;
        let to = upstream.peer;
        let carrier = Carrier::begin(upstream, self.session.heads());
        let carrier = match self.deadline.within(carrier).await {
            Ok(Ok(carrier)) => carrier,
            Ok(Err(error)) => return Err(Refusal::connect(to, &error)),
            Err(_) => return Err(Refusal::late()),
        };
        Ok((core.carriers.put(dial.key(to, source), carrier), false))
    }

    /// Sends the response on.
    async fn answer(
        &mut self,
        answer: Response<Incoming>,
        place: Place,
        asked: &Asked,
        verdict: &Verdict,
        called: &Called,
    ) -> Result<(), Failure> {
        self.progress.answered();
        let (parts, mut body) = answer.into_parts();
        if parts.status.is_informational() {
            let refused = Refused::bad("101 where nobody asked for another protocol");
            return Err(Refusal::response(refused).into());
        }
        let mut proofs = asked.fields.get_all(AUTHORIZATION).iter();
        if response::pins_connection(&parts.headers)
            || proofs.any(|value: &HeaderValue| pins(value.as_bytes()))
        {
            place.carrier().retire();
        }
        let status = parts.status.as_u16();
        let head = response::forward(parts, verdict.hides_http3);
        let is_whole = body.is_end_stream() || asked.method == Method::HEAD;
        let sent = self.respond.send_response(head, is_whole);
        let mut to = sent.map_err(|_| Failure::Gone)?;
        self.report.status(status);
        if is_whole {
            return Ok(());
        }
        let way = Way {
            asked,
            called,
            verdict,
            peer: place.carrier().peer,
        };
        let carried = self.carry(&mut body, &mut to, Some(&way)).await;
        if let Err(reason) = carried {
            self.report.broke();
            if let Some(reason) = reason {
                to.send_reset(reason);
            }
        }
        Ok(())
    }

    /// Carries a response's body and trailers, no faster than the client takes them. An error says
    /// with what the client's stream is reset, if it is still there.
    async fn carry(
        &mut self,
        body: &mut Incoming,
        to: &mut SendStream<Bytes>,
        way: Option<&Way<'_>>,
    ) -> Result<(), Option<Reason>> {
        while let Some(frame) = self.frame(body, to, way).await? {
            match frame.into_data() {
                Ok(data) => self.data(data, to, way).await?,
                Err(frame) => {
                    // What is neither data nor trailers does not exist.
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return to.send_trailers(trailers).map_err(|_| None);
                }
            }
        }
        to.send_data(Bytes::new(), true).map_err(|_| None)
    }

    /// The next part of a body; `None` at its end.
    async fn frame(
        &mut self,
        body: &mut Incoming,
        to: &mut SendStream<Bytes>,
        way: Option<&Way<'_>>,
    ) -> Result<Option<Frame<Bytes>>, Option<Reason>> {
        let limits = self.session.limits();
        poll_fn(|cx| {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                let frame = frame.transpose();
                return Poll::Ready(frame.map_err(|error| Some(reason_of(&error))));
            }
            if to.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(None));
            }
            if self.poll_ended(cx, way).is_ready() {
                self.report.changed();
                return Poll::Ready(Err(Some(Reason::CANCEL)));
            }
            let stalled = self.progress.poll_stalled(cx, &mut self.deadline, limits);
            stalled.map(|()| Err(Some(Reason::CANCEL)))
        })
        .await
    }

    async fn data(
        &mut self,
        mut data: Bytes,
        to: &mut SendStream<Bytes>,
        way: Option<&Way<'_>>,
    ) -> Result<(), Option<Reason>> {
        let limits = self.session.limits();
        while !data.is_empty() {
            to.reserve_capacity(data.len());
            let room = poll_fn(|cx| match to.poll_capacity(cx) {
                Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
                Poll::Ready(_) => Poll::Ready(Err(None)),
                Poll::Pending => {
                    if self.poll_ended(cx, way).is_ready() {
                        self.report.changed();
                        return Poll::Ready(Err(Some(Reason::CANCEL)));
                    }
                    let stalled = self.progress.poll_stalled(cx, &mut self.deadline, limits);
                    stalled.map(|()| Err(Some(Reason::CANCEL)))
                }
            })
            .await?;
            let part = data.split_to(room.min(data.len()));
            self.progress.receives(part.len());
            to.send_data(part, false).map_err(|_| None)?;
        }
        Ok(())
    }

    /// Ready when policies have changed and it may not go on.
    fn poll_ended(&mut self, cx: &mut Context<'_>, way: Option<&Way<'_>>) -> Poll<()> {
        let Some(way) = way else {
            return Poll::Pending;
        };
        let (session, report) = (self.session, &self.report);
        self.flight.poll_ended(cx, || {
            let target = target(report, way.asked, way.called);
            let leaving = Leaving {
                workload: &session.workload,
                verdict: way.verdict,
                peer: way.peer,
                is_tunnel: false,
            };
            leaving.now(&session.core, &target)
        })
    }

    /// Answers a request that does not go on.
    async fn refuse(&mut self, refusal: &Refusal) {
        self.report.status(refusal.status);
        self.report.refused(refusal);
        let (head, body) = response::refused(refusal);
        // The client may have gone; a body that it has no window for is a client's own loss.
        if let Ok(mut to) = self.respond.send_response(head, false)
            && self.data(body.into(), &mut to, None).await.is_ok()
        {
            let _ = to.send_data(Bytes::new(), true);
        }
    }
}

/// What policies are asked about.
fn target<'a>(report: &'a Report, asked: &'a Asked, called: &Called) -> decide::Target<'a> {
    decide::Target {
        name: report.name(),
        address: called.address,
        port: called.port,
        request: Some(decide::Asked {
            method: asked.method.as_str(),
            path: &asked.path,
            fields: &asked.fields,
        }),
        tls: called.tls(),
        by_address: false,
    }
}

/// The reason of HTTP/2 that an error has inside, if it has one.
fn reason_in(error: &hyper::Error) -> Option<Reason> {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            return h2.reason();
        }
        cause = inner.source();
    }
    None
}

/// Why the client's stream ends, when the origin's did.
fn reason_of(error: &hyper::Error) -> Reason {
    match reason_in(error) {
        // Else a client would take a part for the whole.
        None | Some(Reason::NO_ERROR) => Reason::INTERNAL_ERROR,
        Some(reason) => reason,
    }
}

/// Whether the origin says that it did nothing with the request.
fn is_refused(error: &hyper::Error) -> bool {
    reason_in(error) == Some(Reason::REFUSED_STREAM)
}

/// What the client is told when no response came.
fn failed(error: &hyper::Error) -> Refusal {
    if error.is_parse() {
        return Refusal::response(Refused::bad("the origin's answer cannot be read"));
    }
    Refusal::incomplete("the origin ended the connection without an answer")
}
