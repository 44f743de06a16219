//! A client that speaks HTTP/2 without asking, over one connection.

use std::net::TcpStream;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sortie_lab::SOON;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

pub(crate) type Sent = BoxBody<Bytes, hyper::Error>;

pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    sender: SendRequest<Sent>,
}

/// A response that came whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// The only value of a field.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields[name].to_str().unwrap()
    }
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        stream.set_nonblocking(true).unwrap();
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let begun = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
            let (sender, connection) = begun.await.unwrap();
            // How it ends is seen by who asks.
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    /// To ask with, where the answer is not waited for.
    pub(crate) fn sender(&self) -> SendRequest<Sent> {
        self.sender.clone()
    }

    /// Asks, without waiting for the body.
    pub(crate) fn ask(&self, request: Request<Sent>) -> Result<Response<Incoming>, hyper::Error> {
        let mut sender = self.sender.clone();
        let answer = async { tokio::time::timeout(SOON, sender.send_request(request)).await };
        self.runtime.block_on(answer).unwrap()
    }

    /// The whole response to a request.
    pub(crate) fn whole(&self, request: Request<Sent>) -> Answer {
        let answer = self.ask(request).unwrap();
        self.runtime.block_on(whole(answer))
    }

    pub(crate) fn get(&self, url: &str) -> Answer {
        self.whole(get(url))
    }

    /// The responses to requests that are all on their way at once.
    pub(crate) fn at_once(&self, urls: &[String]) -> Vec<Answer> {
        let asked = urls.iter().map(|url| {
            let mut sender = self.sender.clone();
            async move { whole(sender.send_request(get(url)).await.unwrap()).await }
        });
        let all = async { tokio::time::timeout(SOON, futures_util::future::join_all(asked)).await };
        self.runtime.block_on(all).unwrap()
    }

    /// Bytes of a body up to its end.
    pub(crate) fn rest(&self, body: &mut Incoming) -> u64 {
        let mut length = 0;
        while let Some(frame) = self.frame(body) {
            length += frame.unwrap().into_data().unwrap().len() as u64;
        }
        length
    }

    /// The next part of a body; `None` at its end.
    pub(crate) fn frame(&self, body: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        let frame = async { tokio::time::timeout(SOON, body.frame()).await };
        self.runtime.block_on(frame).unwrap()
    }
}

pub(crate) fn get(url: &str) -> Request<Sent> {
    Request::get(url).body(nothing()).unwrap()
}

pub(crate) fn nothing() -> Sent {
    Sent::new(Empty::new().map_err(|never| match never {}))
}

/// A body that is sent part by part.
pub(crate) fn parts() -> (mpsc::Sender<Frame<Bytes>>, Sent) {
    let (sender, mut receiver) = mpsc::channel(1);
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|f| f.map(Ok)));
    (sender, Sent::new(StreamBody::new(frames)))
}

async fn whole(answer: Response<Incoming>) -> Answer {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let bytes = body.to_bytes();
    Answer {
        status: head.status.as_u16(),
        fields: head.headers,
        body: String::from_utf8_lossy(&bytes).into_owned(),
        trailers,
    }
}
