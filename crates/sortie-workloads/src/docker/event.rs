//! What an engine's event means for us. Actions are filtered here and not by the engine:
//! Podman's filters name some differently than the events themselves.

use bollard::models::{EventMessage, EventMessageTypeEnum};
use sortie_api::workload::Engine;

/// What to do about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// The container's process runs: look at it.
    Started(String),
    /// Something about a container changed: look at it if it runs.
    Changed(String),
    /// It was connected to a network; if it does not run, it is being started.
    Connected {
        /// The container.
        id: String,
        /// The network's id.
        network: String,
        /// When, in nanoseconds since the epoch.
        at: i64,
    },
    /// It was disconnected from a network; if it does not run, its start failed.
    Disconnected(String),
    /// The container's process ended at this time, in nanoseconds since the epoch.
    Ended(String, i64),
    /// A network came, went or changed: list them.
    Networks,
}

/// None for what does not matter: health checks, `exec`, pauses, images, volumes, …
///
/// Podman says nothing of networks that come and go, and makes a bridge for the first container of
/// a network. So networks are listed when a container is made, and when it has its interfaces but
/// does not run yet (`init`). The container of a connection is the event's own object there.
pub(crate) fn action(event: EventMessage, engine: Engine) -> Option<Action> {
    let actor = event.actor.unwrap_or_default();
    let name = event.action.unwrap_or_default();
    match event.typ? {
        EventMessageTypeEnum::CONTAINER => {
            let id = actor.id.filter(|id| !id.is_empty())?;
            match name.as_str() {
                "start" => Some(Action::Started(id)),
                "rename" => Some(Action::Changed(id)),
                "create" | "init" if engine == Engine::Podman => Some(Action::Networks),
                "die" | "died" | "destroy" | "remove" => {
                    Some(Action::Ended(id, event.time_nano.unwrap_or(i64::MAX)))
                }
                _ => None,
            }
        }
        EventMessageTypeEnum::NETWORK => match name.as_str() {
            "connect" | "disconnect" if engine == Engine::Podman => {
                actor.id.filter(|id| !id.is_empty()).map(Action::Changed)
            }
            "connect" | "disconnect" => {
                let id = actor.attributes.unwrap_or_default().remove("container")?;
                Some(if name == "connect" {
                    Action::Connected {
                        id,
                        network: actor.id.unwrap_or_default(),
                        at: event.time_nano.unwrap_or(0),
                    }
                } else {
                    Action::Disconnected(id)
                })
            }
            "create" | "destroy" | "remove" | "update" | "prune" => Some(Action::Networks),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
