//! Looking at containers: what the engine says, then what the kernel shows.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};

use super::container::{Container, Face};
use super::describe::Seen;
use super::desk::Survey;
use super::engine::{Engine, Listed};
use crate::Error;
use crate::interfaces::{Found, look};
use crate::netns::Namespace;

/// One container; none if it does not run, or ends while we look.
pub(crate) async fn container(
    engine: &Engine,
    home: &Namespace,
    id: &str,
    name: &str,
) -> Result<Option<Seen>, Error> {
    match engine.container(id, name).await? {
        None => Ok(None),
        Some(container) => Ok(see(home, container).await),
    }
}

/// Everything that runs, `at_once` containers at a time. A container of `known` that the list
/// shows unchanged, and whose process still is in the same namespace, is not inspected again;
/// its namespace is always read.
pub(crate) async fn everything(
    engine: &Engine,
    home: &Namespace,
    known: BTreeMap<String, Seen>,
    at_once: usize,
) -> Result<Survey, Error> {
    let listed = engine.containers().await?;
    let running = listed.into_iter().filter(|listed| !listed.restarting);
    let answers: Vec<(Face, Result<Option<Seen>, Error>)> = stream::iter(running)
        .map(|Listed { face, .. }| {
            let known = known.get(&face.id);
            async move {
                let answer = match known {
                    Some(known) => match still(home, known, &face).await {
                        Some(seen) => Ok(Some(seen)),
                        None => container(engine, home, &face.id, &face.name).await,
                    },
                    None => container(engine, home, &face.id, &face.name).await,
                };
                (face, answer)
            }
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    // Listed last, so that the network of each container is among them.
    let networks = engine.networks(home).await?;

    let mut survey = Survey {
        seen: Vec::new(),
        failed: Vec::new(),
        networks,
    };
    for (face, answer) in answers {
        match answer {
            Ok(Some(seen)) => survey.seen.push(seen),
            Ok(None) => {}
            Err(error) => survey.failed.push((face, error)),
        }
    }
    Ok(survey)
}

/// What is known of a container with its namespace read again; none if it is not the same run.
async fn still(home: &Namespace, known: &Seen, face: &Face) -> Option<Seen> {
    if known.container.face != *face {
        return None;
    }
    let seen = see(home, known.container.clone()).await?;
    let same = match (&known.found, &seen.found) {
        (
            Ok(Found::Own { namespace, .. }),
            Ok(Found::Own {
                namespace: again, ..
            }),
        ) => namespace == again,
        (Ok(Found::Host(cgroup)), Ok(Found::Host(again))) => cgroup == again,
        _ => false,
    };
    same.then_some(seen)
}

async fn see(home: &Namespace, container: Container) -> Option<Seen> {
    let sandbox = container.sandbox.clone();
    let found = match look(home.clone(), container.pid, &container.face.id, sandbox).await {
        Err(Error::Vanished { .. }) => return None,
        other => other.map_err(|error| error.to_string()),
    };
    Some(Seen { container, found })
}
