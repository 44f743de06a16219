//! A stand-in agent: prepared answers on a Unix socket, and a record of what was asked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixListener;

use crate::{shown, sortie};

pub(crate) struct Agent {
    folder: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// Such as `GET /v1/status?all=false`.
    pub(crate) request: String,
    pub(crate) body: Value,
}

#[derive(Clone)]
struct Answers {
    /// By method and path.
    answers: Arc<BTreeMap<String, String>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Agent {
    /// Answers with these; with 404 and an error to whatever else is asked.
    pub(crate) fn start(answers: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let asked = Arc::default();
        let state = Answers {
            answers: Arc::new(
                answers
                    .iter()
                    .map(|(request, answer)| ((*request).to_owned(), answer.clone()))
                    .collect(),
            ),
            asked: Arc::clone(&asked),
        };
        let socket = folder.path().join("agent.sock");
        let (ready, wait) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(socket).unwrap();
                ready.send(()).unwrap();
                let router = Router::new().fallback(answer).with_state(state);
                axum::serve(listener, router).await.unwrap();
            });
        });
        wait.recv().unwrap();
        Self { folder, asked }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// The binary, told where this agent is.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = sortie(arguments);
        command.env("SORTIE_SOCKET", self.socket());
        command
    }

    /// What the binary shows.
    pub(crate) fn shown(&self, arguments: &[&str]) -> String {
        shown(&self.command(arguments).output().unwrap())
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests without their bodies.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.asked().into_iter().map(|a| a.request).collect()
    }
}

async fn answer(
    State(state): State<Answers>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, String) {
    state.asked.lock().unwrap().push(Asked {
        request: format!("{method} {uri}"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    match state.answers.get(&format!("{method} {}", uri.path())) {
        Some(answer) => (StatusCode::OK, answer.clone()),
        None => (
            StatusCode::NOT_FOUND,
            serde_json::json!({"error": format!("nothing prepared for {method} {}", uri.path())})
                .to_string(),
        ),
    }
}
