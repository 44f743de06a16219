//! HTTP/2 from a workload: stream by stream, each decided by itself, each from its own source.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Request;
use sortie_api::workload::WorkloadId;
use tokio::task::JoinSet;

use super::{Called, Client};
use crate::deadline::Deadline;
use crate::serve::{Connection, Core};
use crate::stream::Replayed;

mod request;
mod response;
mod stream;

/// Streams that a client may have open at once.
const STREAMS: u32 = 100;

/// Streams that are at work at once: a stream that the client has reset counts no more as open, but
/// may still have to notice it.
const AT_WORK: usize = 2 * STREAMS as usize;

/// Bytes that a client may send of one request before the origin takes them, and of all of its
/// connection's.
const WINDOWS: (u32, u32) = (256 * 1024, 1024 * 1024);

/// Streams that a client opened and reset before they were looked at (CVE-2023-44487), and those
/// that ended with an error of the client: with more the connection ends.
const RESETS: (usize, usize) = (20, 1024);

/// How long a client that was told to go may take to go.
const LINGER: Duration = Duration::from_secs(1);

/// What the streams of a connection share.
pub(super) struct Session {
    pub(super) core: Rc<Core>,
    pub(super) workload: WorkloadId,
    pub(super) called: Called,
}

impl Session {
    /// How long a response is waited for, and how long a body may make no progress.
    fn limits(&self) -> (Duration, Duration) {
        (self.core.config.response, self.core.config.idle)
    }

    /// Bytes of a head.
    fn heads(&self) -> u32 {
        u32::try_from(self.core.config.heads.head).unwrap_or(u32::MAX)
    }
}

/// Serves it to its end: until the client goes, breaks the protocol, or has had no stream for the
/// limit. A gateway that drains lets the streams end and takes no new ones.
pub(super) async fn serve(
    core: &Rc<Core>,
    shared: &Connection,
    workload: WorkloadId,
    client: Client,
    called: Called,
) {
    let Client {
        stream,
        buffer,
        mut deadline,
    } = client;
    let left = shared.left.notified();
    let mut left = pin!(left);
    deadline.set(core.config.head);
    let heads = u32::try_from(core.config.heads.head).unwrap_or(u32::MAX);
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(STREAMS)
        .initial_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        // The larger it is, the more CONTINUATION frames are read (CVE-2024-27316).
        .max_header_list_size(heads)
        .max_send_buffer_size(WINDOWS.0 as usize)
        .max_pending_accept_reset_streams(RESETS.0)
        .max_local_error_reset_streams(Some(RESETS.1))
        .handshake::<_, Bytes>(Replayed { buffer, stream });
    let Ok(Ok(mut connection)) = deadline.within(handshake).await else {
        return;
    };
    let session = Rc::new(Session {
        core: Rc::clone(core),
        workload,
        called,
    });
    let mut streams = JoinSet::new();
    let mut ends = false;
    let mut idle = Deadline::after(core.config.idle);
    loop {
        let is_idle = streams.is_empty();
        tokio::select! {
            asked = connection.accept() => match asked {
                Some(Ok((request, mut respond))) => {
                    while streams.try_join_next().is_some() {}
                    if streams.len() < AT_WORK {
                        streams.spawn_local(exchange(Rc::clone(&session), (request, respond)));
                    } else {
                        respond.send_reset(Reason::REFUSED_STREAM);
                    }
                }
                // The client has gone, or broke the protocol and was told so.
                Some(Err(_)) | None => break,
            },
            _ = streams.join_next(), if !is_idle => {
                idle.set(if ends { LINGER } else { core.config.idle });
            }
            () = &mut left, if !ends => {
                ends = true;
                connection.graceful_shutdown();
                idle.set(LINGER);
            }
            _ = idle.within(std::future::pending::<()>()), if is_idle => {
                if ends {
                    break;
                }
                ends = true;
                connection.graceful_shutdown();
                idle.set(LINGER);
            }
        }
    }
    // What the last streams have to say was said or cannot be; their lines are still written.
    drop(connection);
    while streams.join_next().await.is_some() {}
}

/// One stream, from its request to its line in the log.
async fn exchange(
    session: Rc<Session>,
    (request, respond): (Request<h2::RecvStream>, SendResponse<Bytes>),
) {
    stream::Stream::begin(&session, respond)
        .serve(request)
        .await;
}
