//! Decides what to look at next and what to say: events and answers come in, jobs and changes
//! go out. Knows no engine and no clock.

use std::collections::{BTreeMap, BTreeSet};

use sortie_api::workload::{Change, Engine};

use super::book::Book;
use super::container::{Container, Face};
use super::describe::Seen;
use super::event::Action;
use super::network::EngineNetwork;
use super::starting::Starting;
use crate::Error;
use crate::interfaces::Found;
use crate::ports::PortNews;

/// Something to ask the engine and the kernel; each is answered once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Inspect the container with this id; the name is for errors.
    Container {
        /// The engine's id.
        id: String,
        /// Its name, or a short id.
        name: String,
    },
    /// Ask about a container that is being started, without inspecting it.
    Starting {
        /// The engine's id.
        id: String,
        /// The id of the network that it was just connected to.
        network: String,
    },
    /// List the networks.
    Networks,
}

/// All that the engine has, at one time.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) seen: Vec<Seen>,
    /// Containers that run but cannot be inspected, and why.
    pub(crate) failed: Vec<(Face, Error)>,
    pub(crate) networks: Vec<EngineNetwork>,
}

/// A container that is being looked at.
#[derive(Debug, Default, Clone, Copy)]
struct Looking {
    /// It changed meanwhile: this answer does not count, look again.
    again: bool,
    /// It ended meanwhile: this answer does not count.
    ended: bool,
}

/// The state of one connection. Jobs and changes pile up until they are taken.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    book: Book,
    looking: BTreeMap<String, Looking>,
    starting: Starting,
    /// Networks are being listed; true: once more when they are there.
    listing: Option<bool>,
    /// Containers whose networks are being listed: a workload is never said before its network.
    held: BTreeMap<String, Seen>,
    /// A survey is under way; what events have touched since it began is newer than its answer.
    survey: Option<Touched>,
    /// The first snapshot was said.
    spoken: bool,
    jobs: Vec<Job>,
    changes: Vec<Change>,
}

#[derive(Debug, Default)]
struct Touched {
    containers: BTreeSet<String>,
    networks: bool,
}

impl Desk {
    /// For one connection to this engine.
    pub(crate) fn of(engine: Engine) -> Self {
        Self {
            book: Book::of(engine),
            ..Self::default()
        }
    }

    /// Whether the connection has come to its first snapshot.
    pub(crate) fn has_spoken(&self) -> bool {
        self.spoken
    }

    /// What has to be asked.
    pub(crate) fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// What has to be said, in order.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Whether a survey is under way.
    pub(crate) fn is_surveying(&self) -> bool {
        self.survey.is_some()
    }

    /// A survey begins; returns what is known, to spare inspecting it again.
    pub(crate) fn begin_survey(&mut self) -> BTreeMap<String, Seen> {
        self.survey = Some(Touched::default());
        self.book.containers().clone()
    }

    /// An event.
    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::Started(id) => {
                self.starting.remove(&id);
                self.touch(&id);
                self.look(id);
            }
            // Nothing is known of it: its `start` will come; or the first survey is under way,
            // and the one after a quiet second mends what that misses.
            Action::Changed(id) => self.look_at(BTreeSet::from([id])),
            Action::Connected { id, network, at } => {
                if self.runs(&id) {
                    self.touch(&id);
                    self.look(id);
                } else if self.spoken {
                    self.starting.connected(&id, at);
                    self.jobs.push(Job::Starting { id, network });
                }
            }
            Action::Disconnected(id) => {
                if self.runs(&id) {
                    self.touch(&id);
                    self.look(id);
                } else {
                    self.give_up(&id);
                }
            }
            Action::Ended(id, at) => {
                // Events from before the connection come again: not an older run's end.
                let older = |seen: &Seen| at < seen.container.started;
                if self.book.container(&id).is_some_and(older) {
                    return;
                }
                self.touch(&id);
                if let Some(looking) = self.looking.get_mut(&id) {
                    *looking = Looking {
                        again: false,
                        ended: true,
                    };
                }
                self.held.remove(&id);
                self.starting.remove(&id);
                let changes = self.book.remove(&id);
                self.say(changes);
            }
            Action::Networks => self.list_networks(),
        }
    }

    /// The answer to [`Job::Container`]; none: it does not run. After an error the container is
    /// left as it was, for the next survey.
    pub(crate) fn looked(&mut self, id: &str, answer: Result<Option<Seen>, Error>) {
        let looking = self.looking.remove(id).unwrap_or_default();
        if looking.again {
            self.look(id.to_owned());
            return;
        }
        if looking.ended {
            return;
        }
        match answer {
            Err(error) => tracing::warn!(%error, "a container is not known yet"),
            Ok(None) => {
                let changes = self.book.remove(id);
                self.say(changes);
            }
            Ok(Some(seen)) => {
                let attachments = &seen.container.face.attachments;
                let networks: Vec<&str> = attachments.iter().map(|it| &*it.network_id).collect();
                let missing = self.misses(&networks) || self.misses_bridge(&seen);
                if missing && self.listing.is_none() {
                    self.list_networks();
                }
                if self.listing.is_some() {
                    self.held.insert(id.to_owned(), seen);
                } else {
                    let changes = self.book.put(seen);
                    self.say(changes);
                }
            }
        }
    }

    /// The answer to [`Job::Networks`].
    pub(crate) fn listed(&mut self, networks: Vec<EngineNetwork>) {
        if self.listing.take() == Some(true) {
            self.list_networks();
            return;
        }
        let changes = self.book.set_networks(networks);
        self.say(changes);
        for seen in std::mem::take(&mut self.held).into_values() {
            let changes = self.book.put(seen);
            self.say(changes);
        }
        self.find_ports();
    }

    /// The answer to [`Job::Starting`]; none: nothing to be known before its `start` event.
    pub(crate) fn told(&mut self, id: &str, answer: Result<Option<Face>, Error>) {
        match answer {
            Err(error) => tracing::debug!(%error, "a container is known when it has started"),
            Ok(None) => {}
            Ok(Some(face)) => {
                self.starting.told(id, face);
                let networks: Vec<&str> = self.starting.network_ids(id).collect();
                if self.misses(&networks) && self.listing.is_none() {
                    self.list_networks();
                }
                self.find_port(id);
            }
        }
    }

    /// A port of a bridge came up, moved or went.
    pub(crate) fn port(&mut self, news: PortNews) {
        self.starting.port(news);
        match news {
            PortNews::Up(..) => {
                self.find_ports();
                // Perhaps it is that of one whose cables are laid anew; no event tells of that.
                self.look_at(self.book.portless().clone());
            }
            PortNews::Moved(index) => {
                self.look_at(self.book.behind(index));
            }
            PortNews::Gone(index) => {
                self.book.lose_port(index);
                for id in self.starting.ids() {
                    let seen = self.book.container(&id);
                    if seen.is_some_and(|seen| seen.is_behind(index)) {
                        self.give_up(&id);
                    }
                }
            }
        }
    }

    /// The survey's answer. The first one is said whatever it holds, later ones if they differ
    /// from what was said.
    pub(crate) fn surveyed(&mut self, survey: Survey) {
        let touched = self.survey.take().unwrap_or_default();
        let known = self.book.containers();
        let failed = survey.failed.into_iter().map(|(face, error)| {
            tracing::warn!(%error, container = face.name, "a container cannot be inspected");
            let known = known.get(&face.id).cloned();
            known.unwrap_or_else(|| not_inspected(face, &error))
        });
        let mut seen: BTreeMap<String, Seen> = survey
            .seen
            .into_iter()
            .chain(failed)
            .map(|seen| (seen.container.face.id.clone(), seen))
            .collect();
        // Those that are being started are not in the engine's list yet.
        for id in self.starting.ids() {
            if seen.contains_key(&id) && !touched.containers.contains(&id) {
                self.starting.remove(&id);
            } else if let Some(starting) = known.get(&id) {
                seen.insert(id, starting.clone());
            }
        }
        for id in touched.containers {
            match known.get(&id) {
                Some(newer) => seen.insert(id, newer.clone()),
                // It is being looked at, or waits for its network, and the survey has seen it:
                // events from before the connection come again, and must not make it vanish.
                None if self.held.contains_key(&id) => continue,
                None if self.looking.get(&id).is_some_and(|looking| !looking.ended) => continue,
                None => seen.remove(&id),
            };
        }
        let newer_networks = touched.networks && self.listing.is_none();
        let networks = (!newer_networks).then_some(survey.networks);
        let differs = self.book.replace(seen, networks);
        if !self.spoken {
            self.spoken = true;
            self.changes.push(Change::Snapshot(self.book.snapshot()));
        } else if let Some(snapshot) = differs {
            tracing::info!("a survey found what no event had told");
            self.changes.push(Change::Snapshot(snapshot));
        }
    }

    /// Whether the container has started, so that inspecting it does not block.
    fn runs(&self, id: &str) -> bool {
        let known = self.book.container(id).is_some() && !self.starting.has(id);
        known || self.looking.contains_key(id) || self.held.contains_key(id)
    }

    fn misses(&self, networks: &[&str]) -> bool {
        let known = self.book.networks();
        networks
            .iter()
            .any(|id| !id.is_empty() && !known.contains_key(*id))
    }

    /// Whether a port is in a bridge that was made after its network was listed.
    fn misses_bridge(&self, seen: &Seen) -> bool {
        let Ok(Found::Own { interfaces, .. }) = &seen.found else {
            return false;
        };
        let known = self.book.networks().values();
        let known: BTreeSet<_> = known.filter_map(|it| it.network.bridge).collect();
        let mut bridges = interfaces.iter().filter_map(|it| it.port?.bridge);
        bridges.any(|bridge| !known.contains(&bridge))
    }

    fn find_ports(&mut self) {
        for id in self.starting.ids() {
            self.find_port(&id);
        }
    }

    /// While networks are being listed nothing is said; afterwards all are tried again.
    fn find_port(&mut self, id: &str) {
        if self.listing.is_some() {
            return;
        }
        if let Some(seen) = self.starting.seen(id, self.book.networks()) {
            self.touch(id);
            let changes = self.book.put(seen);
            self.say(changes);
        }
    }

    /// A start that came to nothing.
    fn give_up(&mut self, id: &str) {
        if self.starting.has(id) {
            self.starting.remove(id);
            self.touch(id);
            let changes = self.book.remove(id);
            self.say(changes);
        }
    }

    fn touch(&mut self, id: &str) {
        if let Some(touched) = &mut self.survey {
            touched.containers.insert(id.to_owned());
        }
    }

    fn look_at(&mut self, ids: BTreeSet<String>) {
        for id in ids {
            if self.runs(&id) {
                self.touch(&id);
                self.look(id);
            }
        }
    }

    fn look(&mut self, id: String) {
        self.held.remove(&id);
        if let Some(looking) = self.looking.get_mut(&id) {
            looking.again = true;
            return;
        }
        self.looking.insert(id.clone(), Looking::default());
        let name = match self.book.container(&id) {
            Some(seen) => seen.container.face.name.clone(),
            None => id.get(..12).unwrap_or(&id).to_owned(),
        };
        self.jobs.push(Job::Container { id, name });
    }

    fn list_networks(&mut self) {
        if let Some(touched) = &mut self.survey {
            touched.networks = true;
        }
        if let Some(again) = &mut self.listing {
            *again = true;
            return;
        }
        self.listing = Some(false);
        self.jobs.push(Job::Networks);
    }

    /// Before the first snapshot nothing is said: the snapshot has it all.
    fn say(&mut self, changes: Vec<Change>) {
        if self.spoken {
            self.changes.extend(changes);
        }
    }
}

/// A container that the engine lists but does not tell about: shown, with the reason.
fn not_inspected(face: Face, error: &Error) -> Seen {
    Seen {
        container: Container {
            face,
            pid: 0,
            started: 0,
            sandbox: None,
            published_udp: BTreeSet::new(),
        },
        found: Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
