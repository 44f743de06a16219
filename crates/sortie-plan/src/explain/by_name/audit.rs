//! What the policies that only audit would change about a name or a URL, if all of them decided.

use sortie_api::policy::PolicyName;
use sortie_api::workload::WorkloadKind;

use super::{ByName, NameExplanation, Outcome, inspects, looks_at, outcome};
use crate::explain::answer::{AuditNote, Verdict};
use crate::named::{Interest, interest};
use crate::planner::audit::{Audited, Now, Would};
use crate::planner::{Planner, Tracked};
use crate::precedence::Candidate;

impl Planner {
    /// Against what becomes of it as things are.
    pub(super) fn audit_by_name(
        &self,
        tracked: &Tracked,
        asked: &ByName<'_>,
        answer: &NameExplanation,
    ) -> Option<AuditNote> {
        let (policy, would) = self.would_of_all(tracked, asked)?;
        let now = match (answer.verdict, answer.sources.first()) {
            (Verdict::Drop, _) => Now::Dropped,
            (Verdict::Egress, Some(leaving)) => Now::With(leaving.source),
            (Verdict::Egress | Verdict::AsWithoutSortie, _) => Now::AsWithoutSortie(None),
        };
        let is_audit = self.audits().contains_key(&policy);
        is_audit.then(|| AuditNote::new(&Audited { policy, would }, now))
    }

    /// Who would decide if every policy were enforced, in the order of
    /// [`explain_name`](Planner::explain_name). Where the gateway would look into TLS, what it would
    /// see is taken for seen.
    fn would_of_all(&self, tracked: &Tracked, asked: &ByName<'_>) -> Option<(PolicyName, Would)> {
        let mut auditing = self.auditing(tracked).map(AsRef::as_ref).peekable();
        auditing.peek()?;
        let enforced = tracked.policies.iter().map(AsRef::as_ref);
        let candidates = Candidate::ordered(enforced.chain(auditing));
        if let Interest::Refused(policy) = interest(&candidates, asked.name, self)
            && tracked.workload.kind != WorkloadKind::Client
        {
            let refused = Would::Refused("the resolver answers REFUSED: `onlyTheseHosts`");
            return Some((policy.clone(), refused));
        }
        let asked = &ByName {
            encrypted: asked.encrypted && inspects(&candidates, asked).is_none(),
            ..*asked
        };
        let mut looks = candidates.iter().filter(|it| looks_at(it, asked));
        if let (Some(_), false, Some(looks)) = (asked.malformed, asked.encrypted, looks.next()) {
            let refused = Would::Refused("AmbiguousPath: its path has no one spelling");
            return Some((looks.policy.name.clone(), refused));
        }
        match outcome(candidates.iter(), asked) {
            Outcome::By(decides) => {
                let decides = decides?;
                Some((decides.policy.name.clone(), self.would_by_name(decides)))
            }
            Outcome::NotVisible(hides) => {
                let refused = Would::Refused("PathNotVisible: TLS hides the request");
                Some((hides.policy.name.clone(), refused))
            }
        }
    }
}
