//! The admin API from the caller's side: one method a request, over the agent's Unix socket.

mod lines;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::Stream;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_api::policy::Carried;
use tokio::net::UnixStream;

use crate::api::{
    AttachRequest, Attachment, AuditedThere, Bypass, BypassRequest, Change, Drop, ErrorBody,
    Explanation, Files, Flow, GatewayLine, Heard, Learned, NameExplanation, NameQuestion, Opened,
    PolicyRecord, Question, Removed, Starting, StartingRequest, Status, Told, Verification,
    VerifyRequest,
};
use lines::Lines;

/// Where the agent listens when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/sortie/agent.sock";

/// How long the head of an answer may take. Long, because `verify` and `down` do their work first.
const ANSWER: Duration = Duration::from_mins(2);
/// Largest answer that is read at once, in bytes.
const LARGEST: usize = 256 << 20;

/// Why a request to the agent failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no agent answers at {}: start it with `sortie agent`, or name its socket with --socket",
        .socket.display()
    )]
    NoAgent {
        /// The socket's path.
        socket: PathBuf,
    },
    /// The socket belongs to root.
    #[error("permission denied at {}: run as root", .socket.display())]
    Permission {
        /// The socket's path.
        socket: PathBuf,
    },
    /// Any other failure to connect.
    #[error("cannot connect to the agent at {}: {source}", .socket.display())]
    Connect {
        /// The socket's path.
        socket: PathBuf,
        /// From connect(2).
        source: io::Error,
    },
    /// The agent says no; its own words.
    #[error("{0}")]
    Refused(String),
    /// The agent listens but does not answer.
    #[error("the agent did not answer {request} within {} s: see its log", ANSWER.as_secs())]
    Late {
        /// Method and path.
        request: String,
    },
    /// The agent went away.
    #[error("the connection to the agent broke during {request}: {source}: see its log")]
    Broken {
        /// Method and path.
        request: String,
        /// From HTTP.
        source: hyper::Error,
    },
    /// Something that no agent of this version says.
    #[error(
        "the agent's answer to {request} makes no sense here: {detail}; use the `sortie` of the agent's own version"
    )]
    Unexpected {
        /// Method and path.
        request: String,
        /// What is wrong with the answer.
        detail: String,
    },
}

/// Asks one agent. Every request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// For the agent that listens at this path; nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        Self { socket }
    }

    /// Where the agent listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /v1/status`; with `all`, workloads that nothing concerns too.
    pub async fn status(&self, all: bool) -> Result<Status, ClientError> {
        let path = format!("/v1/status?all={all}");
        self.ask(Method::GET, &path, None::<&()>).await
    }

    /// `GET /v1/policies`.
    pub async fn policies(&self) -> Result<Vec<PolicyRecord>, ClientError> {
        self.ask(Method::GET, "/v1/policies", None::<&()>).await
    }

    /// `GET /v1/policies/whole`: those of the policy folder, or all that select a workload.
    pub async fn whole_policies(
        &self,
        workload: Option<&str>,
    ) -> Result<Vec<Carried>, ClientError> {
        let of = workload.map(|workload| format!("?workload={}", segment(workload)));
        let path = format!("/v1/policies/whole{}", of.unwrap_or_default());
        self.ask(Method::GET, &path, None::<&()>).await
    }

    /// `POST /v1/policies`; with `dry_run` nothing changes.
    pub async fn apply(&self, files: &Files, dry_run: bool) -> Result<Change, ClientError> {
        let path = format!("/v1/policies?dryRun={dry_run}");
        self.ask(Method::POST, &path, Some(files)).await
    }

    /// `DELETE /v1/policies/{name}`; with `dry_run` nothing changes.
    pub async fn delete(&self, name: &str, dry_run: bool) -> Result<Change, ClientError> {
        let path = format!("/v1/policies/{}?dryRun={dry_run}", segment(name));
        self.ask(Method::DELETE, &path, None::<&()>).await
    }

    /// `POST /v1/explain`.
    pub async fn explain(&self, question: &Question) -> Result<Explanation, ClientError> {
        self.ask(Method::POST, "/v1/explain", Some(question)).await
    }

    /// `POST /v1/explain/name`.
    pub async fn explain_name(
        &self,
        question: &NameQuestion,
    ) -> Result<NameExplanation, ClientError> {
        self.ask(Method::POST, "/v1/explain/name", Some(question))
            .await
    }

    /// `GET /v1/flows`: the flows there are, and with `follow` those that come.
    pub async fn flows(
        &self,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Flow, ClientError>> + use<>, ClientError> {
        self.stream(&format!("/v1/flows?follow={follow}")).await
    }

    /// `GET /v1/drops`: the latest drops, and with `follow` those that come.
    pub async fn drops(
        &self,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Drop, ClientError>> + use<>, ClientError> {
        self.stream(&format!("/v1/drops?follow={follow}")).await
    }

    /// `POST /v1/verify`.
    pub async fn verify(&self, request: &VerifyRequest) -> Result<Vec<Verification>, ClientError> {
        self.ask(Method::POST, "/v1/verify", Some(request)).await
    }

    /// `POST /v1/attachments`.
    pub async fn attach(&self, request: &AttachRequest) -> Result<Attachment, ClientError> {
        self.ask(Method::POST, "/v1/attachments", Some(request))
            .await
    }

    /// `DELETE /v1/attachments/{owner}`, with [`Attachment::owner`].
    pub async fn detach(&self, owner: &str) -> Result<(), ClientError> {
        let path = format!("/v1/attachments/{}", segment(owner));
        let _: serde_json::Value = self.ask(Method::DELETE, &path, None::<&()>).await?;
        Ok(())
    }

    /// `GET /v1/bypasses`.
    pub async fn bypasses(&self) -> Result<Vec<Bypass>, ClientError> {
        self.ask(Method::GET, "/v1/bypasses", None::<&()>).await
    }

    /// `POST /v1/bypasses`.
    pub async fn bypass(&self, request: &BypassRequest) -> Result<Bypass, ClientError> {
        self.ask(Method::POST, "/v1/bypasses", Some(request)).await
    }

    /// `DELETE /v1/bypasses/{workload}`.
    pub async fn end_bypass(&self, workload: &str) -> Result<Bypass, ClientError> {
        let path = format!("/v1/bypasses/{}", segment(workload));
        self.ask(Method::DELETE, &path, None::<&()>).await
    }

    /// `POST /v1/starting`.
    pub async fn starting(&self, request: &StartingRequest) -> Result<Starting, ClientError> {
        self.ask(Method::POST, "/v1/starting", Some(request)).await
    }

    /// `GET /v1/gateway`: who needs the gateway, and what changes.
    pub async fn gateway(
        &self,
    ) -> Result<impl Stream<Item = Result<GatewayLine, ClientError>> + use<>, ClientError> {
        self.stream("/v1/gateway").await
    }

    /// `POST /v1/gateway/learned`: answered when the kernel has them.
    pub async fn learned(&self, names: &[Learned]) -> Result<Vec<Vec<Told>>, ClientError> {
        self.ask(Method::POST, "/v1/gateway/learned", Some(&names))
            .await
    }

    /// `POST /v1/gateway/opened`.
    pub async fn opened(&self, opened: &Opened) -> Result<(), ClientError> {
        self.ask(Method::POST, "/v1/gateway/opened", Some(opened))
            .await
    }

    /// `POST /v1/gateway/heard`.
    pub async fn heard(&self, heard: &Heard) -> Result<(), ClientError> {
        self.ask(Method::POST, "/v1/gateway/heard", Some(heard))
            .await
    }

    /// `POST /v1/gateway/faults`.
    pub async fn gateway_faults(&self, faults: &BTreeSet<String>) -> Result<(), ClientError> {
        self.ask(Method::POST, "/v1/gateway/faults", Some(faults))
            .await
    }

    /// `POST /v1/gateway/audited`.
    pub async fn gateway_audited(&self, audited: &[AuditedThere]) -> Result<(), ClientError> {
        self.ask(Method::POST, "/v1/gateway/audited", Some(&audited))
            .await
    }

    /// `POST /v1/down`.
    pub async fn down(&self) -> Result<Removed, ClientError> {
        self.ask(Method::POST, "/v1/down", None::<&()>).await
    }

    /// One request with one answer in JSON.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let request = format!("{method} {path}");
        let unexpected = |detail: String| ClientError::Unexpected {
            request: request.clone(),
            detail,
        };
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|e| unexpected(e.to_string()))?;
        let answer = self.send(method, path, body).await?;
        let bytes = whole(answer.into_body(), &request).await?;
        serde_json::from_slice(&bytes).map_err(|e| unexpected(e.to_string()))
    }

    /// One request whose answer is a JSON object a line, until the agent ends it.
    async fn stream<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<T, ClientError>> + use<T>, ClientError> {
        let answer = self.send(Method::GET, path, None).await?;
        Ok(Lines::new(answer.into_body(), format!("GET {path}")).stream())
    }

    /// Connects, asks, and hands on answers of success only.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let name = format!("{method} {path}");
        let broken = |source| ClientError::Broken {
            request: name.clone(),
            source,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "sortie");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| ClientError::Unexpected {
                request: name.clone(),
                detail: e.to_string(),
            })?;
        let exchange = async {
            let stream = self.connect().await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(broken)?;
            // It ends with the answer's body; what goes wrong shows in the answer as well.
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(broken)
        };
        let late = |_| ClientError::Late {
            request: name.clone(),
        };
        let answer = tokio::time::timeout(ANSWER, exchange)
            .await
            .map_err(late)??;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let bytes = whole(answer.into_body(), &name).await?;
        Err(match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => ClientError::Refused(body.error),
            Err(_) => ClientError::Unexpected {
                request: name,
                detail: status.to_string(),
            },
        })
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let socket = self.socket.clone();
        UnixStream::connect(&self.socket)
            .await
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NoAgent { socket }
                }
                io::ErrorKind::PermissionDenied => ClientError::Permission { socket },
                _ => ClientError::Connect { socket, source },
            })
    }
}

/// A whole body, of bounded size.
async fn whole(body: Incoming, request: &str) -> Result<Bytes, ClientError> {
    let collected = Limited::new(body, LARGEST).collect().await;
    let request = request.to_owned();
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(source) => ClientError::Broken {
                request,
                source: *source,
            },
            Err(other) => ClientError::Unexpected {
                request,
                detail: other.to_string(),
            },
        }),
    }
}

/// One segment of a path: what is not unreserved (RFC 3986, 2.3) is percent-encoded, `/` too.
fn segment(text: &str) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests;
