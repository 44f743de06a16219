//! Look-ups that the gateway makes itself: as the workload would make them, of its servers and from
//! inside its namespace, so that split DNS and an engine's own names hold for it too.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sortie_api::workload::WorkloadId;
use tokio::time::timeout;

use super::inside::Inside;
use super::upstream::{Asker, Failure, Upstream};
use crate::answer::Answer;
use crate::names::Wanted;
use crate::question::{Judged, Query, judge};
use crate::secure::Secure;
use crate::wire::{HEADER, Header, class, flag, kind};

/// How long one server may take before the next one is asked.
const SERVER_LIMIT: Duration = Duration::from_secs(4);
/// Response codes (RFC 1035 §4.1.1): there are records or none of this type, or no such name.
const NO_ERROR: u16 = 0;
const NO_SUCH_NAME: u16 = 3;
/// How long addresses hold at least, whatever the server says: many requests of one moment shall
/// not ask as often; and at most, so that a change is noticed.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// Looks names up.
#[derive(Debug)]
pub struct Stub {
    upstream: Upstream,
}

/// A name's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Those of IPv4 first, each family in the server's order; none where the name has none.
    pub addresses: Vec<IpAddr>,
    /// How long they may be used.
    pub lasts: Duration,
}

impl Stub {
    /// With the mark of the sockets that the redirect passes by.
    pub fn new(inside: Inside, mark: u32, secure: Option<Arc<dyn Secure>>) -> Self {
        Self {
            upstream: Upstream::new(inside, mark, secure),
        }
    }

    /// Asks for both families, one server after the other until one answers. `namespace` is the
    /// workload's.
    ///
    /// # Errors
    /// When none answers; the text tells what each said.
    pub async fn look_up(
        &self,
        (workload, namespace): (&WorkloadId, &Arc<File>),
        servers: &[SocketAddr],
        name: &str,
    ) -> io::Result<Found> {
        let asker = Asker {
            workload,
            namespace,
        };
        let mut said = Vec::new();
        for server in servers {
            let (v4, v6) = tokio::join!(
                self.ask(asker, *server, name, kind::A),
                self.ask(asker, *server, name, kind::AAAA),
            );
            match (v4, v6) {
                (Err(why), Err(_)) => said.push(format!("{server}: {why}")),
                // Where one family fails, the other is better than nothing.
                (v4, v6) => {
                    let answers = [v4, v6].into_iter().flatten();
                    return Ok(answers.fold(Found::nothing(), Found::and));
                }
            }
        }
        if said.is_empty() {
            said.push("it has no name server".to_owned());
        }
        Err(io::Error::other(said.join("; ")))
    }

    async fn ask(
        &self,
        asker: Asker<'_>,
        server: SocketAddr,
        name: &str,
        kind: u16,
    ) -> io::Result<Found> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "it is no name");
        let message = message(name, kind).ok_or_else(invalid)?;
        let Judged::Query(query) = judge(&message) else {
            return Err(invalid());
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let asking = self.exchange(asker, server, &query, &message);
        let answer = timeout(SERVER_LIMIT, asking).await.map_err(|_| late())?;
        let answer = answer.map_err(|failure| match failure {
            Failure::Timeout => late(),
            Failure::Unreachable(error) => error,
        })?;
        found(&answer)
    }

    /// Over UDP, and over TCP where that was too small (RFC 7766 §5).
    async fn exchange(
        &self,
        asker: Asker<'_>,
        server: SocketAddr,
        query: &Query,
        message: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let is_answer = |id, answer: &[u8]| query.is_answered_by(id, answer);
        let upstream = &self.upstream;
        let answer = upstream.ask(asker, server, message, is_answer).await?;
        let is_cut = Header::read(&answer).is_some_and(|header| header.has(flag::TRUNCATED));
        if !is_cut {
            return Ok(answer);
        }
        let mut open = upstream.connect(asker, server).await?;
        upstream
            .ask_over(&mut open.stream, message, is_answer)
            .await
    }
}

impl Found {
    fn nothing() -> Self {
        Self {
            addresses: Vec::new(),
            lasts: LONGEST,
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.addresses.extend(other.addresses);
        self.lasts = self.lasts.min(other.lasts);
        self
    }
}

/// A question for the addresses of one family; none where the name cannot be written (RFC 1035
/// §2.3.4).
fn message(name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut message = vec![0; HEADER];
    // RD, and one question.
    *message.get_mut(2)? = 1;
    *message.get_mut(5)? = 1;
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if !(1..=63).contains(&length) {
            return None;
        }
        message.push(length);
        message.extend(label.bytes());
    }
    message.push(0);
    if message.len() > HEADER + 255 {
        return None;
    }
    message.extend(kind.to_be_bytes());
    message.extend(class::IN.to_be_bytes());
    Some(message)
}

fn found(answer: &[u8]) -> io::Result<Found> {
    let code = Header::read(answer).map_or(NO_ERROR, Header::rcode);
    if !matches!(code, NO_ERROR | NO_SUCH_NAME) {
        return Err(io::Error::other(format!("it answered with code {code}")));
    }
    let read = Answer::read(answer).map_err(io::Error::other)?;
    Ok(Found {
        addresses: read.addresses(Wanted::NOTHING),
        lasts: read.lasts().clamp(SHORTEST, LONGEST),
    })
}

#[cfg(test)]
mod tests;
