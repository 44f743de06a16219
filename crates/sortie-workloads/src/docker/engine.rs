//! Questions to the engine, each with a time limit and an error that names its object.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error as ApiError;
use bollard::models::{EventMessage, SystemInfo, SystemVersion};
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, InspectNetworkOptions, ListContainersOptions,
    ListContainersOptionsBuilder, ListNetworksOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use sortie_api::workload::Engine as EngineKind;
use tokio::net::UnixStream;

use super::EngineConfig;
use super::container::{Container, Face};
use super::libpod;
use super::network::EngineNetwork;
use crate::Error;
use crate::interfaces::indexes;
use crate::netns::Namespace;

/// The engine answers in milliseconds; while it starts many containers at once, in seconds.
const LIMIT: Duration = Duration::from_secs(10);
/// How far back events are asked for: the engine answers before it has really subscribed, and
/// what happened in between is in its buffer.
const OVERLAP: Duration = Duration::from_secs(1);

/// A connection's worth of questions.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    kind: EngineKind,
    api: Docker,
    socket: PathBuf,
}

/// A line of the engine's list of running containers.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) face: Face,
    /// Between two runs under a restart policy: inspecting it would wait for its start.
    pub(crate) restarting: bool,
}

impl Engine {
    /// Finds out whether an engine answers there, and agrees on a version of its API.
    pub(crate) async fn connect(config: &EngineConfig) -> Result<Self, Error> {
        let (socket, kind) = (config.socket.as_path(), config.engine);
        let reached = within("connect to the engine", UnixStream::connect(socket)).await?;
        reached.map_err(|source| unreachable_socket(kind, socket, source))?;

        let not_an_engine = |error: &ApiError| Error::NotAnEngine {
            engine: kind,
            socket: socket.to_owned(),
            detail: words(error),
        };
        let path = socket.to_string_lossy();
        let api = Docker::connect_with_unix(&path, LIMIT.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| not_an_engine(&error))?;
        let api = within("ask the engine for its version", api.negotiate_version())
            .await?
            .map_err(|error| not_an_engine(&error))?;
        let version = within("ask the engine for its version", api.version())
            .await?
            .map_err(|error| not_an_engine(&error))?;
        let found = kind_of(&version);
        if found != kind {
            return Err(Error::OtherEngine {
                socket: socket.to_owned(),
                wanted: kind,
                found,
            });
        }
        Ok(Self {
            kind,
            api,
            socket: socket.to_owned(),
        })
    }

    /// Which engine answers.
    pub(crate) fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Events from a second ago on, until the connection ends.
    pub(crate) fn events(&self) -> impl Stream<Item = Result<EventMessage, Error>> + Send + use<> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .saturating_sub(OVERLAP);
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        let mut options = EventsOptionsBuilder::default().since(&since);
        if self.kind == EngineKind::Podman {
            // It has types (`system`, `pod`) that Docker's clients take for a broken stream.
            options = options.filters(&HashMap::from([("type", vec!["container", "network"])]));
        }
        let options = options.build();
        let socket = self.socket.clone();
        self.api.events(Some(options)).map(move |event| {
            event.map_err(|error| match error {
                ApiError::JsonDataError { .. } | ApiError::DockerResponseServerError { .. } => {
                    Error::Engine {
                        operation: "read events".to_owned(),
                        detail: words(&error),
                    }
                }
                // However the connection broke, what somebody has to know is that it did.
                _ => Error::EventsEnded {
                    socket: socket.clone(),
                },
            })
        })
    }

    /// The error for the end of the event stream.
    pub(crate) fn events_ended(&self) -> Error {
        Error::EventsEnded {
            socket: self.socket.clone(),
        }
    }

    /// All that have a process.
    pub(crate) async fn containers(&self) -> Result<Vec<Listed>, Error> {
        use bollard::models::ContainerSummaryStateEnum::RESTARTING;
        let operation = "list containers";
        if self.kind == EngineKind::Podman {
            let listed = within(operation, libpod::containers(&self.socket)).await?;
            let listed = listed.map_err(|detail| Error::Engine {
                operation: operation.to_owned(),
                detail,
            })?;
            let faces = listed.into_iter().filter_map(Face::from_summary);
            let alive = |face| Listed {
                face,
                restarting: false,
            };
            return Ok(faces.map(alive).collect());
        }
        let asked = self.api.list_containers(None::<ListContainersOptions>);
        let containers = answer(operation, within(operation, asked).await?)?;
        Ok(containers
            .into_iter()
            .filter_map(|summary| {
                Some(Listed {
                    restarting: summary.state == Some(RESTARTING),
                    face: Face::from_summary(summary)?,
                })
            })
            .collect())
    }

    /// One container; none if it does not run or is not there any more. `name` is for errors.
    pub(crate) async fn container(&self, id: &str, name: &str) -> Result<Option<Container>, Error> {
        let operation = format!("inspect container {name}");
        let asked = self
            .api
            .inspect_container(id, None::<InspectContainerOptions>);
        match within(&operation, asked).await? {
            Err(ApiError::DockerResponseServerError {
                status_code: 404, ..
            }) => Ok(None),
            other => Ok(Container::from_inspect(answer(&operation, other)?)),
        }
    }

    /// What the engine says of itself.
    pub(crate) async fn info(&self) -> Result<SystemInfo, Error> {
        let operation = "ask the engine about itself";
        answer(operation, within(operation, self.api.info()).await?)
    }

    /// All containers, running or not: name and OCI runtime of each.
    pub(crate) async fn runtimes(&self) -> Result<Vec<(String, String)>, Error> {
        let operation = "list containers";
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let asked = self.api.list_containers(Some(options));
        let listed = answer(operation, within(operation, asked).await?)?;
        let mut runtimes = Vec::new();
        for face in listed.into_iter().filter_map(Face::from_summary) {
            let operation = format!("inspect container {}", face.name);
            let asked = self
                .api
                .inspect_container(&face.id, None::<InspectContainerOptions>);
            let inspected = match within(&operation, asked).await? {
                // Removed meanwhile.
                Err(ApiError::DockerResponseServerError {
                    status_code: 404, ..
                }) => continue,
                other => answer(&operation, other)?,
            };
            let runtime = inspected.host_config.and_then(|host| host.runtime);
            runtimes.push((face.name, runtime.unwrap_or_default()));
        }
        Ok(runtimes)
    }

    /// A container that is being started, without inspecting it: its face, with the one
    /// attachment to `network`. None if either is gone.
    pub(crate) async fn starting(&self, id: &str, network: &str) -> Result<Option<Face>, Error> {
        let filters = HashMap::from([("id", vec![id])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let (inspect, list) = (
            format!("inspect network {network}"),
            format!("list container {id}"),
        );
        // At the same time: from Docker 28 on the process runs some 20 ms after the connection.
        let (inspected, listed) = tokio::join!(
            within(
                &inspect,
                self.api
                    .inspect_network(network, None::<InspectNetworkOptions>),
            ),
            within(&list, self.api.list_containers(Some(options))),
        );
        let inspected = match inspected? {
            Err(ApiError::DockerResponseServerError {
                status_code: 404, ..
            }) => return Ok(None),
            other => answer(&inspect, other)?,
        };
        let listed = answer(&list, listed?)?;
        let face = listed.into_iter().find_map(Face::from_summary);
        Ok(face.and_then(|face| face.on_network(inspected)))
    }

    /// All networks, with their bridges' indexes in `home`.
    pub(crate) async fn networks(&self, home: &Namespace) -> Result<Vec<EngineNetwork>, Error> {
        let operation = "list networks";
        if self.kind == EngineKind::Podman {
            let listed = within(operation, libpod::networks(&self.socket)).await?;
            let listed = listed.map_err(|detail| Error::Engine {
                operation: operation.to_owned(),
                detail,
            })?;
            let indexes = indexes(home.clone()).await?;
            let known = |it: libpod::Listed| it.known(|name| indexes.get(name).copied());
            return Ok(listed.into_iter().map(known).collect());
        }
        let asked = self.api.list_networks(None::<ListNetworksOptions>);
        let networks = answer(operation, within(operation, asked).await?)?;
        let indexes = indexes(home.clone()).await?;
        Ok(networks
            .into_iter()
            .filter_map(|network| EngineNetwork::new(network, |name| indexes.get(name).copied()))
            .collect())
    }
}

async fn within<F: Future>(operation: &str, asked: F) -> Result<F::Output, Error> {
    tokio::time::timeout(LIMIT, asked)
        .await
        .map_err(|_| Error::Timeout {
            operation: operation.to_owned(),
            limit: LIMIT,
        })
}

fn answer<T>(operation: &str, outcome: Result<T, ApiError>) -> Result<T, Error> {
    outcome.map_err(|error| match error {
        ApiError::RequestTimeoutError => Error::Timeout {
            operation: operation.to_owned(),
            limit: LIMIT,
        },
        error => Error::Engine {
            operation: operation.to_owned(),
            detail: words(&error),
        },
    })
}

/// Podman names itself among its components; Docker's API has no field for it.
fn kind_of(version: &SystemVersion) -> EngineKind {
    let mut components = version.components.iter().flatten();
    if components.any(|component| component.name.starts_with("Podman")) {
        EngineKind::Podman
    } else {
        EngineKind::Docker
    }
}

fn unreachable_socket(engine: EngineKind, socket: &Path, source: io::Error) -> Error {
    let socket = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => Error::NoSocket { engine, socket },
        io::ErrorKind::PermissionDenied => Error::Denied { socket },
        io::ErrorKind::ConnectionRefused => Error::Refused { engine, socket },
        _ => Error::Connect {
            engine,
            socket,
            source,
        },
    }
}

/// An error with its causes: the client's own words alone are often just “client error”.
fn words(error: &ApiError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let detail = error.to_string();
        if !text.contains(&detail) {
            text = format!("{text}: {detail}");
        }
        cause = error.source();
    }
    text
}
