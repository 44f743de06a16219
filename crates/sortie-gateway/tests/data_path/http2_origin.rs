//! An origin that speaks HTTP/2, with TLS or without: it tells each caller the address it was seen
//! with, and notes every request with it.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use sortie_lab::Netns;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request as the origin got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) source: IpAddr,
    /// Counts connections.
    pub(crate) connection: usize,
    pub(crate) uri: Uri,
    pub(crate) fields: HeaderMap,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) length: usize,
}

/// It notes requests when their bodies have ended.
#[derive(Clone, Default)]
pub(crate) struct Http2Origin {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Bytes of `/large` that somebody has taken.
    pub(crate) taken: Arc<AtomicU64>,
}

/// Bytes of the response to `/large`.
pub(crate) const LARGE: u64 = 64 << 20;

impl Http2Origin {
    /// Without TLS if there is no configuration for it.
    pub(crate) fn start(netns: &Netns, port: u16, tls: Option<Arc<ServerConfig>>) -> Self {
        let origin = Self::default();
        let listen = || std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        let listener = netns.run(listen).unwrap();
        listener.set_nonblocking(true).unwrap();
        let serves = origin.clone();
        thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(serves.accept(listener, tls));
        });
        origin
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn accept(self, listener: std::net::TcpListener, tls: Option<Arc<ServerConfig>>) {
        let listener = TcpListener::from_std(listener).unwrap();
        for connection in 0.. {
            let (stream, peer) = listener.accept().await.unwrap();
            let (origin, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => origin.serve(stream, peer.ip(), connection).await,
                    Some(tls) => {
                        // Who does not trust it goes.
                        let stream = TlsAcceptor::from(tls).accept(stream).await.ok()?;
                        origin.serve(stream, peer.ip(), connection).await
                    }
                }
            });
        }
    }

    async fn serve<S>(self, stream: S, source: IpAddr, connection: usize) -> Option<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answer = service_fn(move |request| {
            let origin = self.clone();
            async move { Ok::<_, Infallible>(origin.answer(request, source, connection).await) }
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), answer)
            .await
            .ok()
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        source: IpAddr,
        connection: usize,
    ) -> Response<BoxBody<Bytes, hyper::Error>> {
        let (parts, body) = request.into_parts();
        let mut seen = Seen {
            source,
            connection,
            uri: parts.uri.clone(),
            fields: parts.headers,
            trailers: None,
            length: 0,
        };
        let text = format!("{source}\n");
        match parts.uri.path().rsplit('/').next() {
            Some("echo") => {
                self.seen.lock().unwrap().push(seen);
                return Response::new(BoxBody::new(body));
            }
            // Its body is never read.
            Some("stuck") => {
                self.seen.lock().unwrap().push(seen);
                return std::future::pending().await;
            }
            _ => {}
        }
        if let Ok(body) = body.collect().await {
            seen.trailers = body.trailers().cloned();
            seen.length = body.to_bytes().len();
        }
        let length = seen.length;
        self.seen.lock().unwrap().push(seen);
        let whole = |text: String| {
            BoxBody::new(Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}))
        };
        match parts.uri.path().rsplit('/').next() {
            Some("length") => Response::new(whole(format!("{source} {length}\n"))),
            Some("trailers") => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "7".parse().unwrap());
                let frames = [Frame::data(Bytes::from(text)), Frame::trailers(trailers)];
                let frames = futures_util::stream::iter(frames.map(Ok));
                Response::new(BoxBody::new(StreamBody::new(frames)))
            }
            // As gRPC refuses: nothing but a head that ends the stream.
            Some("head") => {
                let none = Empty::new().map_err(|never: Infallible| match never {});
                let mut response = Response::new(BoxBody::new(none));
                let fields = response.headers_mut();
                fields.insert("grpc-status", "7".parse().unwrap());
                response
            }
            Some("large") => {
                let taken = Arc::clone(&self.taken);
                Response::new(BoxBody::new(Large { left: LARGE, taken }))
            }
            Some("offers") => {
                let mut response = Response::new(whole(text));
                let offer = "h3=\":443\"".parse().unwrap();
                response.headers_mut().insert("alt-svc", offer);
                response
            }
            _ => Response::new(whole(text)),
        }
    }
}

/// A body that counts what is taken of it.
struct Large {
    left: u64,
    taken: Arc<AtomicU64>,
}

impl Body for Large {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        static PART: [u8; 16 * 1024] = [b'x'; 16 * 1024];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= PART.len() as u64;
        self.taken.fetch_add(PART.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PART)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
