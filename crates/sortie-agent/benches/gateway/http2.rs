//! The load of HTTP/2: many streams at once on one connection, and the server that answers them.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::rig::{name, on_load_cpu};
use crate::server::{BODY, right_source_of};

/// Streams at once.
const STREAMS: u32 = 16;

fn runtime() -> Result<Runtime, Failure> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    Ok(runtime.enable_all().build()?)
}

/// Serves on a thread of its own.
pub(crate) fn serve(listener: TcpListener) -> Result<(), Failure> {
    listener.set_nonblocking(true)?;
    let runtime = runtime()?;
    std::thread::spawn(move || -> Result<(), Failure> {
        on_load_cpu()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let answers = service_fn(move |request| async move {
                    Ok::<_, Infallible>(answer(&request, peer.ip()))
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // How it ends is seen by the client.
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), answers));
            }
        })
    });
    Ok(())
}

fn answer(request: &Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
    static ANSWER: [u8; BODY] = [b'x'; BODY];
    let host = request.uri().host().unwrap_or_default();
    match right_source_of(host, peer) {
        Ok(()) => Response::new(Full::new(Bytes::from_static(&ANSWER))),
        Err(failure) => {
            let mut wrong = Response::new(Full::new(failure.to_string().into()));
            *wrong.status_mut() = hyper::StatusCode::MISDIRECTED_REQUEST;
            wrong
        }
    }
}

/// A client's connection.
pub(crate) struct Client {
    runtime: Runtime,
    sender: hyper::client::conn::http2::SendRequest<Empty<Bytes>>,
}

impl Client {
    pub(crate) fn new(to: SocketAddr) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
            // How it ends is seen by who asks.
            tokio::spawn(connection);
            Ok::<_, Failure>(sender)
        })?;
        Ok(Self { runtime, sender })
    }

    /// Asks so many times, for each name in turn.
    ///
    /// # Errors
    /// When a response is not 200, as it is for a wrong source.
    pub(crate) fn run(&self, sources: u32, count: u32) -> Result<(), Failure> {
        let next = Cell::new(0);
        let stream = || async {
            while next.get() < count {
                let number = next.get();
                next.set(number + 1);
                let url = format!("http://{}/x", name(number % sources));
                let request = Request::get(url).body(Empty::new())?;
                let response = self.sender.clone().send_request(request).await?;
                let status = response.status();
                let body = response.into_body().collect().await?.to_bytes();
                if status != hyper::StatusCode::OK {
                    let text = String::from_utf8_lossy(&body);
                    return Err(format!("a wrong answer: {status} {text}").into());
                }
            }
            Ok::<_, Failure>(())
        };
        let all = (0..STREAMS).map(|_| stream());
        self.runtime
            .block_on(futures_util::future::try_join_all(all))
            .map(drop)
    }
}
