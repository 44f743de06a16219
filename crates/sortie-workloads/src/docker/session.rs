//! One connection to the engine: events, jobs and the surveys that make sure nothing was missed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use sortie_api::workload::Change;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::container::Face;
use super::describe::Seen;
use super::desk::{Desk, Job, Survey};
use super::engine::Engine;
use super::event::action;
use super::network::EngineNetwork;
use super::survey;
use crate::Error;
use crate::netns::Namespace;
use crate::ports;

/// A survey comes this long after the last event …
const QUIET: Duration = Duration::from_secs(1);
/// … or this long after the first one since the last survey, where it never gets quiet …
const BUSY: Duration = Duration::from_secs(10);
/// … and this long after the last survey where nothing happens.
const IDLE: Duration = Duration::from_secs(30);
/// Containers looked at at the same time.
const AT_ONCE: usize = 16;

/// One connection and what was learned through it.
pub(crate) struct Session {
    engine: Engine,
    home: Namespace,
    sender: mpsc::Sender<Change>,
    desk: Desk,
    tasks: JoinSet<Done>,
    permits: Arc<Semaphore>,
    /// When the first and the last event since the last survey came.
    events: Option<(Instant, Instant)>,
    surveyed: Instant,
}

/// A job's answer.
enum Done {
    Container(String, Result<Option<Seen>, Error>),
    Starting(String, Result<Option<Face>, Error>),
    Networks(Result<Vec<EngineNetwork>, Error>),
    Survey(Result<Survey, Error>),
}

impl Session {
    /// Nothing is asked before [`run`](Self::run).
    pub(crate) fn new(engine: Engine, home: Namespace, sender: mpsc::Sender<Change>) -> Self {
        Self {
            desk: Desk::of(engine.kind()),
            engine,
            home,
            sender,
            tasks: JoinSet::new(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            events: None,
            surveyed: Instant::now(),
        }
    }

    /// Whether it came to its first snapshot.
    pub(crate) fn has_spoken(&self) -> bool {
        self.desk.has_spoken()
    }

    /// Until the connection fails, with the error; none when nobody listens any more.
    pub(crate) async fn run(&mut self) -> Option<Error> {
        // Asked for before the first survey, and from a second ago on: nothing falls in between.
        let mut events = pin!(self.engine.events());
        let mut ports = match ports::follow(&self.home) {
            Ok(ports) => ports,
            Err(error) => return Some(error),
        };
        self.begin_survey();
        let sender = self.sender.clone();
        let kind = self.engine.kind();
        loop {
            let survey_at = self.survey_at();
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => if let Some(action) = action(event, kind) {
                        let now = Instant::now();
                        self.events = Some((self.events.map_or(now, |(first, _)| first), now));
                        self.desk.act(action);
                    },
                    Some(Err(error)) => return Some(error),
                    None => return Some(self.engine.events_ended()),
                },
                Some(news) = ports.recv() => self.desk.port(news),
                Some(done) = self.tasks.join_next() => {
                    if let Err(error) = self.done(done) {
                        return Some(error);
                    }
                }
                () = tokio::time::sleep_until(survey_at), if !self.desk.is_surveying() => {
                    self.begin_survey();
                }
                () = sender.closed() => return None,
            }
            self.begin_jobs();
            for change in self.desk.take_changes() {
                if self.sender.send(change).await.is_err() {
                    return None;
                }
            }
        }
    }

    fn survey_at(&self) -> Instant {
        match self.events {
            Some((first, last)) => (last + QUIET).min(first + BUSY),
            None => self.surveyed + IDLE,
        }
    }

    fn begin_survey(&mut self) {
        self.events = None;
        let known = self.desk.begin_survey();
        let (engine, home) = (self.engine.clone(), self.home.clone());
        self.tasks.spawn(async move {
            Done::Survey(survey::everything(&engine, &home, known, AT_ONCE).await)
        });
    }

    fn begin_jobs(&mut self) {
        for job in self.desk.take_jobs() {
            let engine = self.engine.clone();
            match job {
                Job::Networks => {
                    let home = self.home.clone();
                    self.tasks
                        .spawn(async move { Done::Networks(engine.networks(&home).await) });
                }
                Job::Starting { id, network } => {
                    self.tasks.spawn(async move {
                        let answer = engine.starting(&id, &network).await;
                        Done::Starting(id, answer)
                    });
                }
                Job::Container { id, name } => {
                    let (home, permits) = (self.home.clone(), Arc::clone(&self.permits));
                    self.tasks.spawn(async move {
                        // Never closed, so there always is a permit in the end.
                        let _permit = permits.acquire().await;
                        let answer = survey::container(&engine, &home, &id, &name).await;
                        Done::Container(id, answer)
                    });
                }
            }
        }
    }

    fn done(&mut self, done: Result<Done, JoinError>) -> Result<(), Error> {
        let done = done.map_err(|error| Error::Engine {
            operation: "look at the engine's containers".to_owned(),
            detail: error.to_string(),
        })?;
        match done {
            Done::Container(id, answer) => {
                if answer.is_err() {
                    // Another try at the next survey, which is due after a quiet second.
                    let now = Instant::now();
                    self.events = Some((self.events.map_or(now, |(first, _)| first), now));
                }
                self.desk.looked(&id, answer);
            }
            Done::Starting(id, answer) => self.desk.told(&id, answer),
            Done::Networks(answer) => self.desk.listed(answer?),
            Done::Survey(answer) => {
                self.surveyed = Instant::now();
                self.desk.surveyed(answer?);
            }
        }
        Ok(())
    }
}
