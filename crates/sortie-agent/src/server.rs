//! The admin API: HTTP on a Unix socket that only root can open.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::future::ready;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Path as UrlPath, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use sortie_api::policy::Carried;
use sortie_workloads::docker::begun;
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use crate::Error;
use crate::api::{self, ErrorBody};
use crate::core::{Caller, Handle};
use crate::verify;

/// Owner may read and write, nobody else anything.
const MODE: u32 = 0o600;

/// Makes the socket; one that nobody listens on any more is replaced.
pub fn bind(path: &Path) -> Result<UnixListener, Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    }
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Error::file("replace", path)(error));
    }
    let listener = UnixListener::bind(path).map_err(Error::file("listen on", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))
        .map_err(Error::file("restrict", path))?;
    Ok(listener)
}

/// Answers until `ended`; then the answers under way are still finished.
pub async fn serve(
    listener: UnixListener,
    handle: Handle,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/policies", get(policies).post(put_policies))
        .route("/v1/policies/whole", get(whole_policies))
        .route("/v1/policies/{name}", delete(delete_policy))
        .route("/v1/explain", post(explain))
        .route("/v1/explain/name", post(explain_name))
        .route("/v1/flows", get(flows))
        .route("/v1/drops", get(drops))
        .route("/v1/verify", post(verify_workloads))
        .route("/v1/attachments", post(attach))
        .route("/v1/attachments/{*owner}", delete(detach))
        .route("/v1/bypasses", get(bypasses).post(bypass))
        .route("/v1/bypasses/{*workload}", delete(end_bypass))
        .route("/v1/starting", post(starting))
        .route("/v1/gateway", get(gateway))
        .route("/v1/gateway/learned", post(learned))
        .route("/v1/gateway/opened", post(opened))
        .route("/v1/gateway/heard", post(heard))
        .route("/v1/gateway/faults", post(faults))
        .route("/v1/gateway/audited", post(audited))
        .route("/v1/down", post(down))
        .with_state(handle);
    axum::serve(
        listener,
        router.into_make_service_with_connect_info::<Peer>(),
    )
    .with_graceful_shutdown(ended)
    .await
    .map_err(Error::system("serve the admin API"))
}

/// `docker run` may return before the engine's event is here: how long `attach` waits for it.
const ENGINE_TELLS: Duration = Duration::from_secs(2);
/// How often it looks.
const ENGINE_ASKED: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DryRun {
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    #[serde(default)]
    follow: bool,
}

/// Whether workloads that no policy concerns are told too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfWorkload {
    #[serde(default)]
    workload: Option<String>,
}

type Answer<T> = Result<Json<T>, Error>;

async fn status(State(handle): State<Handle>, Query(query): Query<Whole>) -> Answer<api::Status> {
    let mut status = handle.call(crate::core::Core::status).await?;
    let concerned = |it: &api::WorkloadStatus| {
        it.state != api::WorkloadState::Unmanaged || !it.audits.is_empty()
    };
    status.workloads.retain(|it| query.all || concerned(it));
    Ok(Json(status))
}

async fn policies(State(handle): State<Handle>) -> Answer<Vec<api::PolicyRecord>> {
    handle
        .call(|core| Ok(core.policy_records()))
        .await
        .map(Json)
}

async fn whole_policies(
    State(handle): State<Handle>,
    Query(query): Query<OfWorkload>,
) -> Answer<Vec<Carried>> {
    let whole = handle.call(move |core| core.whole_policies(query.workload.as_deref()));
    whole.await.map(Json)
}

async fn put_policies(
    State(handle): State<Handle>,
    Query(query): Query<DryRun>,
    Json(body): Json<api::Files>,
) -> Answer<api::Change> {
    let change = handle
        .call(move |core| core.put_policies(&body.files, query.dry_run))
        .await?;
    everywhere(&handle, change).await.map(Json)
}

/// A change is in force when the gateway decides by it too.
async fn everywhere(handle: &Handle, mut change: api::Change) -> Result<api::Change, Error> {
    if !change.dry_run && !handle.gateway_follows().await? {
        let late = "sortie gateway has not said yet that it decides by this; look at its log";
        let warning = change.warning.take().into_iter();
        let warnings: Vec<String> = warning.chain([late.to_owned()]).collect();
        change.warning = Some(warnings.join("\n"));
    }
    Ok(change)
}

async fn delete_policy(
    State(handle): State<Handle>,
    UrlPath(name): UrlPath<String>,
    Query(query): Query<DryRun>,
) -> Answer<api::Change> {
    let change = handle
        .call(move |core| core.delete_policy(&name, query.dry_run))
        .await?;
    everywhere(&handle, change).await.map(Json)
}

async fn explain(
    State(handle): State<Handle>,
    Json(body): Json<api::Question>,
) -> Answer<api::Explanation> {
    handle.call(move |core| core.explain(&body)).await.map(Json)
}

async fn explain_name(
    State(handle): State<Handle>,
    Json(body): Json<api::NameQuestion>,
) -> Answer<api::NameExplanation> {
    let explained = handle.call(move |core| core.explain_name(&body)).await;
    explained.map(Json)
}

async fn flows(
    State(handle): State<Handle>,
    Query(query): Query<Follow>,
) -> Result<Response, Error> {
    let following = handle.flows.subscribe();
    let known = handle.call(|core| Ok(core.known_flows())).await?;
    Ok(lines(known, query.follow.then_some(following)))
}

async fn drops(
    State(handle): State<Handle>,
    Query(query): Query<Follow>,
) -> Result<Response, Error> {
    let following = handle.drops.subscribe();
    let known = handle.call(|core| Ok(core.known_drops())).await?;
    Ok(lines(known, query.follow.then_some(following)))
}

async fn verify_workloads(
    State(handle): State<Handle>,
    Json(body): Json<api::VerifyRequest>,
) -> Answer<Vec<api::Verification>> {
    verify::verify(&handle, body).await.map(Json)
}

async fn attach(
    State(handle): State<Handle>,
    Json(body): Json<api::AttachRequest>,
) -> Answer<api::Attachment> {
    let deadline = Instant::now() + ENGINE_TELLS;
    loop {
        let request = body.clone();
        match handle.call(move |core| core.attach(&request)).await {
            Err(Error::Unknown(_)) if Instant::now() < deadline => {
                tokio::time::sleep(ENGINE_ASKED).await;
            }
            answer => return answer.map(Json),
        }
    }
}

async fn detach(
    State(handle): State<Handle>,
    UrlPath(owner): UrlPath<String>,
) -> Answer<serde_json::Value> {
    handle.call(move |core| core.detach(&owner)).await?;
    Ok(Json(serde_json::json!({})))
}

/// Who is at the other end of the socket, as the kernel tells; nobody where it does not.
#[derive(Debug, Clone, Copy)]
struct Peer(Option<Caller>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let peer = stream.io().peer_cred().ok();
        Self(peer.map(|peer| Caller {
            uid: peer.uid(),
            pid: peer.pid(),
        }))
    }
}

impl Peer {
    /// What is answered for must have somebody who answers.
    fn caller(self) -> Result<Caller, Error> {
        let nobody = "the kernel does not tell who asks, so nobody would answer for it";
        self.0.ok_or_else(|| Error::Refused(nobody.to_owned()))
    }
}

async fn bypasses(State(handle): State<Handle>) -> Answer<Vec<api::Bypass>> {
    handle.call(|core| Ok(core.bypass_list())).await.map(Json)
}

async fn bypass(
    State(handle): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(body): Json<api::BypassRequest>,
) -> Answer<api::Bypass> {
    let caller = peer.caller()?;
    handle
        .call(move |core| core.bypass(&body, caller))
        .await
        .map(Json)
}

async fn end_bypass(
    State(handle): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(workload): UrlPath<String>,
) -> Answer<api::Bypass> {
    let caller = peer.caller()?;
    handle
        .call(move |core| core.end_bypass(&workload, caller))
        .await
        .map(Json)
}

/// The namespace is read here, and not in the core: others need not wait for it.
async fn starting(
    State(handle): State<Handle>,
    Json(body): Json<api::StartingRequest>,
) -> Answer<api::Starting> {
    let place = begun::place(body.pid, &body.container.id).await?;
    handle
        .call(move |core| Ok(core.starting(&body, place)))
        .await
        .map(Json)
}

/// Who is too slow is cut off, and begins anew.
async fn gateway(State(handle): State<Handle>) -> Result<Response, Error> {
    let (known, coming) = handle.call(|core| Ok(core.follow_gateway())).await?;
    let coming = BroadcastStream::new(coming).take_while(|line| ready(line.is_ok()));
    let coming = coming.filter_map(|line| ready(line.ok()));
    Ok(ndjson(tokio_stream::iter(known).chain(coming)))
}

async fn learned(
    State(handle): State<Handle>,
    Json(names): Json<Vec<api::Learned>>,
) -> Answer<Vec<Vec<api::Told>>> {
    handle.learned(names).await.map(Json)
}

async fn opened(State(handle): State<Handle>, Json(opened): Json<api::Opened>) -> Answer<()> {
    let opened = |core: &mut crate::core::Core| {
        core.gateway_opened(opened);
        Ok(())
    };
    handle.call(opened).await.map(Json)
}

async fn heard(State(handle): State<Handle>, Json(heard): Json<api::Heard>) -> Json<()> {
    handle.gateway_heard(heard);
    Json(())
}

async fn faults(State(handle): State<Handle>, Json(faults): Json<BTreeSet<String>>) -> Answer<()> {
    let told = |core: &mut crate::core::Core| {
        core.gateway_faults(faults);
        Ok(())
    };
    handle.call(told).await.map(Json)
}

async fn audited(
    State(handle): State<Handle>,
    Json(audited): Json<Vec<api::AuditedThere>>,
) -> Answer<()> {
    let told = |core: &mut crate::core::Core| {
        core.audited_there(audited);
        Ok(())
    };
    handle.call(told).await.map(Json)
}

async fn down(State(handle): State<Handle>) -> Answer<api::Removed> {
    handle.call(crate::core::Core::down).await.map(Json)
}

/// What is known, and then what comes.
fn lines<T: Serialize + Clone + Send + 'static>(
    known: Vec<T>,
    following: Option<broadcast::Receiver<T>>,
) -> Response {
    let known = tokio_stream::iter(known);
    // A follower who is too slow misses some; the stream goes on.
    let coming = tokio_stream::iter(following).flat_map(BroadcastStream::new);
    let coming = coming.filter_map(|item| ready(item.ok()));
    ndjson(known.chain(coming))
}

/// One JSON object a line.
fn ndjson<T: Serialize + Send + 'static>(
    items: impl Stream<Item = T> + Send + 'static,
) -> Response {
    let lines = items.map(|item| {
        let mut line = serde_json::to_vec(&item).unwrap_or_default();
        line.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Refused(_) | Self::Unknown(_) | Self::Policies(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (
            status,
            Json(ErrorBody {
                error: self.to_string(),
            }),
        )
            .into_response()
    }
}
