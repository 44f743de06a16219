//! Policies: reloaded, changed, or only asked what a change would do.

use std::collections::BTreeSet;

use sortie_api::policy::{Carried, EgressPolicy, PolicySet, certified};
use sortie_plan::op::describe;
use sortie_plan::planner::Planner;

use super::Core;
use super::workload_state::egress_text;
use crate::Error;
use crate::api::{self, Change, PolicyChange, WorkloadChange};
use crate::policies::Texts;

impl Core {
    /// Reads the policy folder; says why, if what it holds is not in force then.
    pub(super) fn reload_policies(&mut self) -> Result<(), String> {
        if let Err(error) = self.policies.reload() {
            tracing::error!(%error, "the policy folder cannot be read; what ran before keeps running");
            return Err(error.to_string());
        }
        if let Some(problem) = &self.policies.problem {
            tracing::error!(
                "the policy folder is refused; what ran before keeps running:\n{problem}"
            );
        }
        let policies = self.policies.set.policies().cloned().collect();
        let ops = self.planner.policies_changed(policies);
        self.audits.follow(&self.planner);
        self.enforce(&ops)
    }

    /// All that there is to say of the policies of the policy folder that decide, or of all that
    /// select a workload, labels' included.
    pub fn whole_policies(&self, workload: Option<&str>) -> Result<Vec<Carried>, Error> {
        let policies: Vec<_> = match workload {
            None => self.planner.policies().values().cloned().collect(),
            Some(workload) => self.find_asker(workload)?.policies.to_vec(),
        };
        Ok(policies.into_iter().map(Carried).collect())
    }

    /// Puts files into the policy folder, or only says what that would do.
    pub fn put_policies(&mut self, files: &[api::File], dry_run: bool) -> Result<Change, Error> {
        let (texts, set) = self.policies.with(files)?;
        for file in files {
            let known = &self.planner.environment().config.tls;
            certified(&file.name, &file.text, known).map_err(Error::Policies)?;
        }
        self.change_policies(&texts, &set, dry_run)
    }

    /// Removes a policy from the policy folder, or only says what that would do.
    pub fn delete_policy(&mut self, name: &str, dry_run: bool) -> Result<Change, Error> {
        let (texts, set) = self.policies.without(name)?;
        self.change_policies(&texts, &set, dry_run)
    }

    fn change_policies(
        &mut self,
        texts: &Texts,
        set: &PolicySet,
        dry_run: bool,
    ) -> Result<Change, Error> {
        let new: Vec<EgressPolicy> = set.policies().cloned().collect();
        let mut planner = self.planner.clone();
        let ops = planner.policies_changed(new.clone());
        let mut change = Change {
            dry_run,
            policies: changed_policies(&self.planner, &new),
            workloads: changed_workloads(&self.planner, &planner),
            steps: describe(&ops),
            warning: None,
        };
        if !dry_run {
            self.policies.write(texts)?;
            self.reload_policies()
                .map_err(|why| Error::Refused(format!("the policies are kept, but {why}")))?;
            change.warning = self.warning();
        }
        Ok(change)
    }
}

fn changed_policies(before: &Planner, after: &[EgressPolicy]) -> Vec<PolicyChange> {
    let known = |name| {
        let enforced = before.policies().get(name);
        enforced.or_else(|| before.audits().get(name))
    };
    let names: BTreeSet<_> = before
        .policies()
        .keys()
        .chain(before.audits().keys())
        .chain(after.iter().map(|policy| &policy.name))
        .collect();
    let change = |name| {
        let old = known(name).map(AsRef::as_ref);
        match (old, after.iter().find(|policy| policy.name == *name)) {
            (None, _) => "created",
            (_, None) => "deleted",
            (old, new) if old == new => "unchanged",
            _ => "changed",
        }
    };
    names
        .into_iter()
        .map(|name| PolicyChange {
            name: name.0.clone(),
            change: change(name).to_owned(),
        })
        .collect()
}

fn changed_workloads(before: &Planner, after: &Planner) -> Vec<WorkloadChange> {
    let pairs = before
        .workloads()
        .iter()
        .filter_map(|(id, old)| Some((old, after.workloads().get(id)?)));
    let texts = pairs.map(|(old, new)| {
        (
            old.workload.name.clone(),
            egress_text(before, old),
            egress_text(after, new),
        )
    });
    let changed = texts.filter(|(_, before, after)| before != after);
    changed
        .map(|(name, before, after)| WorkloadChange {
            name,
            before,
            after,
        })
        .collect()
}
