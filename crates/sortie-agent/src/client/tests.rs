//! The client against a stand-in agent on a Unix socket.

use std::net::IpAddr;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use futures_util::TryStreamExt;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::{Client, ClientError, segment};
use crate::api::{Files, Flow};

/// Serves until the test's runtime ends.
fn agent(router: Router) -> (TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    (folder, Client::new(socket))
}

fn flow(port: u16) -> Flow {
    let address: IpAddr = [203, 0, 113, 11].into();
    Flow {
        time: "2026-01-01T00:00:00Z".to_owned(),
        event: "new".to_owned(),
        workload: "web".to_owned(),
        protocol: "tcp".to_owned(),
        from: [172, 17, 0, 2].into(),
        to: [198, 51, 100, 1].into(),
        port: Some(port),
        expected: Some(address),
        actual: address,
        verdict: "right".to_owned(),
        audit: None,
        bytes: None,
    }
}

#[tokio::test]
async fn asks_with_query_and_name() {
    let seen = |Path(name): Path<String>, RawQuery(query): RawQuery| async move {
        let steps = [name, query.unwrap_or_default()];
        axum::Json(json!({"dryRun": true, "policies": [], "workloads": [], "steps": steps}))
    };
    let (_folder, client) = agent(Router::new().route("/v1/policies/{name}", delete(seen)));
    let change = client.delete("label:a/b c", true).await.unwrap();
    assert_eq!(change.steps, ["label:a/b c", "dryRun=true"]);
}

#[tokio::test]
async fn owner_with_a_slash_is_one_segment() {
    let seen = |Path(owner): Path<String>| async move {
        if owner == "run/12" {
            axum::Json(json!({})).into_response()
        } else {
            (StatusCode::NOT_FOUND, axum::Json(json!({"error": owner}))).into_response()
        }
    };
    let (_folder, client) = agent(Router::new().route("/v1/attachments/{owner}", delete(seen)));
    client.detach("run/12").await.unwrap();
    assert_eq!(segment("run/12"), "run%2F12");
}

#[tokio::test]
async fn refusal_is_the_agents_own_words() {
    let refuse = || async {
        let body = json!({"error": "no workload `w`\n  help: there are web, db"});
        (StatusCode::NOT_FOUND, axum::Json(body))
    };
    let (_folder, client) = agent(Router::new().route("/v1/status", get(refuse)));
    let error = client.status(false).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)));
    assert_eq!(
        error.to_string(),
        "no workload `w`\n  help: there are web, db"
    );
}

#[tokio::test]
async fn answers_that_make_no_sense() {
    let router = Router::new()
        .route("/v1/policies", get(|| async { "{\"a\": 1}" }))
        .route("/v1/down", post(|| async { StatusCode::BAD_GATEWAY }));
    let (_folder, client) = agent(router);
    for (error, part) in [
        (client.policies().await.unwrap_err(), "GET /v1/policies"),
        (client.down().await.unwrap_err(), "502 Bad Gateway"),
        // An agent without this request.
        (client.status(true).await.unwrap_err(), "404 Not Found"),
    ] {
        assert!(matches!(error, ClientError::Unexpected { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn sends_files_as_json() {
    let echo = |body: axum::Json<serde_json::Value>| async move {
        axum::Json(json!({"dryRun": false, "policies": [], "workloads": [],
            "steps": [body.0.to_string()]}))
    };
    let (_folder, client) = agent(Router::new().route("/v1/policies", post(echo)));
    let files = Files { files: Vec::new() };
    let change = client.apply(&files, false).await.unwrap();
    assert_eq!(change.steps, [r#"{"files":[]}"#]);
}

#[tokio::test]
async fn lines_in_any_pieces() {
    let text = [1, 2, 3].map(|port| serde_json::to_string(&flow(port)).unwrap());
    let text = text.join("\n\r\n");
    let body = move || {
        let bytes = text.clone().into_bytes().into_iter();
        let pieces = bytes.map(|byte| Ok::<_, std::io::Error>(vec![byte]));
        async { Body::from_stream(futures_util::stream::iter(pieces)) }
    };
    let (_folder, client) = agent(Router::new().route("/v1/flows", get(body)));
    let flows = client.flows(false).await.unwrap();
    let flows: Vec<Flow> = flows.try_collect().await.unwrap();
    assert_eq!(flows, [flow(1), flow(2), flow(3)]);
}

#[tokio::test]
async fn a_stream_that_breaks_off() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert_ne!(stream.read(&mut request).await.unwrap(), 0);
        let line = serde_json::to_string(&flow(1)).unwrap() + "\n";
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked";
        let answer = format!("{head}\r\n\r\n{:x}\r\n{line}\r\n", line.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let client = Client::new(socket);
    let mut flows = std::pin::pin!(client.flows(true).await.unwrap());
    assert_eq!(flows.try_next().await.unwrap(), Some(flow(1)));
    let error = flows.try_next().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_line_without_end() {
    let endless = || async {
        let piece = || Ok::<_, std::io::Error>(vec![b' '; 65536]);
        Body::from_stream(futures_util::stream::iter((0..1024).map(move |_| piece())))
    };
    let (_folder, client) = agent(Router::new().route("/v1/drops", get(endless)));
    let mut drops = std::pin::pin!(client.drops(false).await.unwrap());
    let error = drops.try_next().await.unwrap_err();
    assert!(matches!(error, ClientError::Unexpected { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone.sock");
    drop(UnixListener::bind(&gone).unwrap());
    for socket in [gone, PathBuf::from("/nonexistent/agent.sock")] {
        let error = Client::new(&socket).status(false).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "no agent answers at {}: start it with `sortie agent`, or name its socket with --socket",
                socket.display()
            )
        );
    }
}
