//! The workload that somebody means.

use std::borrow::Cow;
use std::collections::BTreeSet;

use sortie_api::workload::Workload;
use sortie_plan::planner::Tracked;

use super::Core;
use crate::Error;
use crate::api::EngineState;

impl Core {
    /// A workload by its name (after its engine's where two have one of that name), its id, or the
    /// beginning of its id that only it has.
    pub fn find(&self, wanted: &str) -> Result<&Tracked, Error> {
        let all = || self.planner.workloads().values();
        let short = |tracked: &Tracked| {
            tracked
                .workload
                .id
                .as_str()
                .split_once('/')
                .map_or("", |(_, id)| id)
                .to_owned()
        };
        // A container without networks and the interface attached to it have one name.
        let exact = || {
            all().filter(|tracked| {
                let Workload { id, name, kind, .. } = &tracked.workload;
                let of_engine = || wanted.strip_prefix(kind.name())?.strip_prefix('/');
                name == wanted || id.as_str() == wanted || of_engine() == Some(name.as_str())
            })
        };
        let engines: BTreeSet<_> = exact().filter_map(|t| t.workload.kind.engine()).collect();
        if engines.len() > 1 {
            let names = engines
                .iter()
                .map(|engine| format!("{}/{wanted}", engine.name()));
            let names: Vec<String> = names.collect();
            return Err(Error::Refused(format!(
                "two engines have a container named {wanted:?}: write {}",
                names.join(" or ")
            )));
        }
        if let Some(exact) = exact().max_by_key(|tracked| !tracked.workload.endpoints.is_empty()) {
            return Ok(exact);
        }
        let mut beginnings =
            all().filter(|tracked| !wanted.is_empty() && short(tracked).starts_with(wanted));
        match (beginnings.next(), beginnings.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(Error::Refused(format!(
                "several workloads' ids begin with {wanted:?}"
            ))),
            (None, _) => Err(self.unknown(wanted)),
        }
    }

    /// The same, or a client of the gateway's explicit listener, by its name or id.
    pub(super) fn find_asker(&self, wanted: &str) -> Result<Cow<'_, Tracked>, Error> {
        let is_wanted = |client: &Tracked| {
            let Workload { id, name, .. } = &client.workload;
            name == wanted || id.as_str() == wanted
        };
        match (self.find(wanted), self.planner.clients().find(is_wanted)) {
            (Err(_), Some(client)) => Ok(Cow::Owned(client)),
            (found, _) => found.map(Cow::Borrowed),
        }
    }

    fn unknown(&self, wanted: &str) -> Error {
        let engines = self.engine_statuses();
        let answers = engines.iter().any(|it| it.state == EngineState::Connected);
        let mut silent = engines.iter().filter(|it| match it.state {
            EngineState::Connected => false,
            EngineState::Away => true,
            EngineState::Absent => !answers,
        });
        match silent.next() {
            None => Error::Unknown(format!(
                "no running workload is named {wanted:?}; `sortie status --all` lists them"
            )),
            Some(engine) => Error::Refused(format!(
                "no workload named {wanted:?} is known, and the engine {} does not answer: {}",
                engine.name,
                engine.reason.as_deref().unwrap_or("no reason given")
            )),
        }
    }
}
