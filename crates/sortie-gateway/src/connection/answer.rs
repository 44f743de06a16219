//! One round: a request goes to the origin, and the response comes back, both streaming.

use std::future::poll_fn;
use std::task::Poll;

use tokio::io::AsyncWriteExt;

use super::http::{Decided, Ended, Failure, Http, stays};
use super::tunnel;
use crate::buffer::Buffer;
use crate::http1::response::Response;
use crate::http1::{FieldSpace, Parsed, Version};
use crate::pump::{Body, Broken, Pump};
use crate::refusal::Refusal;
use crate::upstream::Upstream;

/// What the origin's bytes so far are.
enum Answer {
    Incomplete,
    /// An interim response, in [`Http::reply`]; the other one follows.
    Interim,
    /// The origin speaks WebSocket from here on; the 101 is in [`Http::reply`].
    Switched,
    /// The response: its head and the first of its body are in [`Http::reply`].
    Final(Final),
}

struct Final {
    pump: Pump,
    upstream_persists: bool,
    client_persists: bool,
    pins: bool,
}

/// What came while a response's head was waited for.
enum Came {
    Bytes,
    End,
    ClientGone,
    Late,
    /// Policies are others now, and it may not go on.
    Changed,
}

impl Http<'_> {
    /// Sends what is in `out` and the rest of the request's body; brings back the response.
    ///
    /// The body goes on while the response is waited for: the origin may answer before it has all
    /// (100 Continue, or a refusal).
    pub(super) async fn round(
        &mut self,
        upstream: &mut Upstream,
        decided: &mut Decided,
    ) -> Result<Ended, Failure> {
        self.deadline.set(self.core.config.response);
        let sent = async {
            upstream.write_all(&self.out).await?;
            upstream.flush().await
        };
        match self.deadline.within(sent).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Failure::Silent),
            Err(_) => return Err(Failure::Refused(Refusal::late())),
        }
        let mut answer = self.core.buffers.take();
        let mut has_said = false;
        let last = loop {
            match self.read_answer(&mut answer, decided)? {
                Answer::Incomplete => {
                    let came = self.wait_for_answer(upstream, &mut answer, decided).await;
                    match came {
                        Came::Bytes => has_said = true,
                        Came::End if !has_said => return Err(Failure::Silent),
                        Came::End => {
                            let refusal = Refusal::incomplete("the origin's answer has no end");
                            return Err(Failure::Refused(refusal));
                        }
                        Came::ClientGone => return Err(Failure::Gone),
                        Came::Late => return Err(Failure::Refused(Refusal::late())),
                        Came::Changed => return Err(Failure::Refused(Refusal::changed())),
                    }
                }
                // HTTP/1.0 knows none (RFC 9110 §15.2).
                Answer::Interim if decided.asked.version == Version::Http10 => {}
                Answer::Interim => self.send_reply().await?,
                Answer::Switched => {
                    self.send_reply().await?;
                    let peer = upstream.peer;
                    let now = || {
                        let known = (&decided.verdict, &decided.called);
                        let request = (&self.report, &*self.out);
                        stays(self.core, (&self.workload, known, peer), request, true)
                    };
                    let carried = tunnel::run(
                        self.core,
                        (&mut self.stream, &mut self.buffer),
                        (upstream, &mut answer),
                        &mut self.deadline,
                        &mut self.flight,
                        now,
                    )
                    .await;
                    self.report.carried(&carried);
                    return Err(Failure::Gone);
                }
                Answer::Final(last) => break last,
            }
        };
        let ended = self.finish(upstream, answer, decided, last).await;
        if ended.is_err() {
            self.report.broke();
        }
        ended
    }

    /// Reads a response's head, once it is whole.
    fn read_answer(&mut self, answer: &mut Buffer, decided: &Decided) -> Result<Answer, Failure> {
        let mut space = FieldSpace::new();
        let limits = self.core.config.heads;
        let parsed = Response::parse(answer.filled(), &mut space, decided.asked, limits);
        let mut response = match parsed {
            Parsed::Incomplete => return Ok(Answer::Incomplete),
            Parsed::Head(response) => response,
            Parsed::Refused(refused) => {
                return Err(Failure::Refused(Refusal::response(refused)));
            }
        };
        if decided.verdict.hides_http3 {
            response.remove_http3();
        }
        let (status, length) = (response.status, response.length);
        let mut pump = Pump::new(Body::new(response.body));
        let client_persists =
            decided.persists && !self.leaves() && !matches!(pump.body, Body::UntilClose);
        self.reply.clear();
        response.write_head(&mut self.reply, !client_persists);
        let is_interim = response.is_interim();
        let (upstream_persists, pins) = (response.persists, response.pins);
        answer.consume(length);
        if is_interim {
            return Ok(Answer::Interim);
        }
        self.report.status(status);
        if status == 101 {
            return Ok(Answer::Switched);
        }
        let part = pump.body.read(answer.filled());
        let part = part.map_err(|refused| Failure::Refused(Refusal::response(refused)))?;
        self.reply.extend_from_slice(&answer.filled()[..part]);
        answer.consume(part);
        pump.written = part as u64;
        Ok(Answer::Final(Final {
            pump,
            upstream_persists,
            client_persists,
            pins,
        }))
    }

    /// Waits for more of the answer, while the request's body goes on.
    async fn wait_for_answer(
        &mut self,
        upstream: &mut Upstream,
        answer: &mut Buffer,
        decided: &mut Decided,
    ) -> Came {
        let (response, idle) = (self.core.config.response, self.core.config.idle);
        let mut takes = !decided.pump.is_done();
        let peer = upstream.peer;
        poll_fn(|cx| {
            if takes {
                let before = decided.pump.written;
                let pump = &mut decided.pump;
                match pump.poll(cx, &mut self.stream, &mut self.buffer, upstream) {
                    Poll::Ready(Ok(())) => {
                        takes = false;
                        self.deadline.set(response);
                    }
                    // It will take no more, but may have said why.
                    Poll::Ready(Err(Broken::Taker)) => takes = false,
                    Poll::Ready(Err(Broken::Sender)) => return Poll::Ready(Came::ClientGone),
                    Poll::Pending if pump.written > before => self.deadline.set(idle),
                    Poll::Pending => {}
                }
            }
            match answer.poll_fill(cx, upstream) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Came::End),
                Poll::Ready(Ok(_)) => Poll::Ready(Came::Bytes),
                Poll::Pending => {
                    let now = || {
                        let known = (&decided.verdict, &decided.called);
                        let request = (&self.report, &*self.out);
                        stays(self.core, (&self.workload, known, peer), request, false)
                    };
                    if self.flight.poll_ended(cx, now).is_ready() {
                        return Poll::Ready(Came::Changed);
                    }
                    self.deadline.poll(cx).map(|()| Came::Late)
                }
            }
        })
        .await
    }

    /// Sends what is in `reply`. Behind it nothing else can be told to the client.
    async fn send_reply(&mut self) -> Result<(), Failure> {
        self.deadline.set(self.core.config.idle);
        let written = self.stream.write_all(&self.reply);
        match self.deadline.within(written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::Gone),
        }
    }

    /// Sends the response's beginning and carries the rest of both bodies.
    async fn finish(
        &mut self,
        upstream: &mut Upstream,
        mut answer: Buffer,
        decided: &mut Decided,
        mut last: Final,
    ) -> Result<Ended, Failure> {
        self.send_reply().await?;
        let idle = self.core.config.idle;
        let mut takes = !decided.pump.is_done();
        let peer = upstream.peer;
        let whole = poll_fn(|cx| {
            let before = decided.pump.written + last.pump.written;
            if takes {
                let pump = &mut decided.pump;
                let sent = pump.poll(cx, &mut self.stream, &mut self.buffer, upstream);
                takes = sent.is_pending();
            }
            if let Poll::Ready(ended) = last.pump.poll(cx, upstream, &mut answer, &mut self.stream)
            {
                return Poll::Ready(ended.is_ok());
            }
            if decided.pump.written + last.pump.written > before {
                self.deadline.set(idle);
            }
            let now = || {
                let known = (&decided.verdict, &decided.called);
                let request = (&self.report, &*self.out);
                stays(self.core, (&self.workload, known, peer), request, false)
            };
            if self.flight.poll_ended(cx, now).is_ready() {
                self.report.changed();
                return Poll::Ready(false);
            }
            self.deadline.poll(cx).map(|()| false)
        })
        .await;
        self.report.bytes(decided.pump.written, last.pump.written);
        if !whole {
            return Err(Failure::Gone);
        }
        let is_sent = decided.pump.is_done();
        Ok(Ended {
            // Bytes behind the response answer nothing that was asked.
            upstream_persists: last.upstream_persists && is_sent && answer.is_empty(),
            client_persists: last.client_persists && is_sent,
            pins: last.pins,
        })
    }
}
