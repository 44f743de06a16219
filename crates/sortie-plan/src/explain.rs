//! Why a workload leaves with an address towards a destination: every candidate, and why it lost.

mod answer;
mod by_name;
mod candidate;

pub use answer::{
    AuditNote, Considered, Draining, Expected, Explanation, Unusable, Verdict, whole_seconds,
};

pub use by_name::{ByName, Learned, Leaving, NameExplanation, Plane, Refused};

use std::net::IpAddr;

use sortie_api::policy::Protocol;
use sortie_api::workload::{IfIndex, WorkloadKind};

use self::candidate::{lost, matches, uncovered};
use crate::compile::treatment::Treatment;
use crate::flow::{Flow, Source};
use crate::mark::Mark;
use crate::planner::audit::Now;
use crate::planner::{Planner, Tracked};
use crate::precedence::{Candidate, Target};
use crate::resolve::{Addresses, Decision, Exit, Refusal, among, resolve};

/// Behind every default route that a DHCP client or a router's advertisement makes.
const SPARE_METRIC: u32 = 20_000;

impl Planner {
    /// Why packets with this source cannot leave now.
    pub fn unusable(&self, address: IpAddr) -> Option<Unusable> {
        let environment = self.environment();
        let v6 = address.is_ipv6();
        if let Some(owner) = self.owner(address) {
            return Some(Unusable {
                reason: format!(
                    "{address} is {}'s own (`mode: Direct`), and not on this host",
                    owner.workload.name
                ),
                fix: "give one of both another address".to_owned(),
            });
        }
        if !environment.addresses.contains_key(&address) {
            let route = environment.default_route(v6);
            let device = route.map(|route| environment.name_of(route.device));
            let device = device.unwrap_or_else(|| "UPLINK".to_owned());
            let fix = if v6 {
                format!("ip addr add {address}/128 dev {device} preferred_lft 0")
            } else {
                format!("ip addr add {address}/32 dev {device}")
            };
            return Some(Unusable {
                reason: format!("{address} is not on this host"),
                fix,
            });
        }
        self.no_way_out(address)
    }

    /// Why packets with this source find no way out, whoever has the address.
    pub fn no_way_out(&self, address: IpAddr) -> Option<Unusable> {
        let environment = self.environment();
        let v6 = address.is_ipv6();
        let flag = if v6 { "-6 " } else { "" };
        let Some(uplink) = self.uplink(address) else {
            let reason = format!("{address} has no way out: no default route");
            return Some(Unusable {
                reason,
                fix: format!("ip {flag}route add default via GATEWAY dev UPLINK"),
            });
        };
        if environment.is_default_uplink(uplink, v6) {
            return None;
        }
        let device = environment.name_of(uplink);
        if environment.next_hop(uplink, v6).is_none() {
            return Some(Unusable {
                reason: format!("{address} is on {device}, and no gateway is known there"),
                fix: format!(
                    "ip {flag}route add default via GATEWAY dev {device} metric {SPARE_METRIC}"
                ),
            });
        }
        if self.mark(address).is_none() {
            return Some(Unusable {
                reason: format!(
                    "{address} is on {device}, and there are more than {} uplinks besides the default route's",
                    Mark::count(environment.config.mark_mask)
                ),
                fix: format!("ip addr del {address} dev {device}"),
            });
        }
        None
    }

    /// Steps, in order:
    /// 1. What cannot be managed goes its way, and why.
    /// 2. A workload with an address of its own leaves with it.
    /// 3. The decision of `resolve`, and each candidate with why it lost.
    pub fn explain(&self, tracked: &Tracked, target: Target<'_>) -> Explanation {
        let target = self.known(&tracked.workload.id, target);
        let mut answer = Explanation {
            workload: tracked.workload.name.clone(),
            destination: target.ip,
            port: target.port.map(|(protocol, number)| port(protocol, number)),
            verdict: Verdict::AsWithoutSortie,
            plane: "kernel".to_owned(),
            policy: None,
            source: None,
            uplink: None,
            route: None,
            draining: Vec::new(),
            reason: String::new(),
            fix: None,
            audit: None,
            candidates: Vec::new(),
        };
        let unmanageable = tracked.workload.unmanageable.as_ref();
        if let Some(reason) = unmanageable.filter(|_| tracked.workload.endpoints.is_empty()) {
            answer.reason = format!("it cannot be managed: {reason}");
            return answer;
        }
        if tracked.workload.kind == WorkloadKind::Process {
            self.explain_direct(tracked, target, &mut answer);
            return answer;
        }
        let candidates = Candidate::ordered(tracked.policies.iter().map(AsRef::as_ref));
        answer.candidates = self.considered(tracked, target);
        match resolve(
            &candidates,
            target,
            &self.environment().local_ranges(),
            self,
        ) {
            Decision::Local(range) => {
                answer.reason = format!("{} is in {range}, which is local", target.ip);
            }
            Decision::NoPolicy if candidates.is_empty() => {
                answer.reason = "no policy selects it".to_owned();
            }
            Decision::NoPolicy => {
                answer.reason = "no policy that selects it covers this destination".to_owned();
            }
            Decision::Decided { policy, exit } => {
                answer.policy = Some(policy.0);
                self.explain_exit(exit, &mut answer);
                self.explain_own(tracked, target, &mut answer);
            }
        }
        answer.draining = self.old_flows(tracked, target);
        if let Some(where_it_is) = self
            .stays_inside(target.ip)
            .filter(|_| answer.verdict != Verdict::AsWithoutSortie)
        {
            answer.verdict = Verdict::AsWithoutSortie;
            answer.source = None;
            answer.uplink = None;
            answer.draining = Vec::new();
            answer.fix = None;
            answer.reason = format!("{} is {where_it_is}: left alone", target.ip);
        }
        if let (Err(errors), Verdict::Drop) = (&tracked.label, answer.verdict) {
            answer.reason = format!("its label is wrong: {errors}");
        }
        if let Some(left) = self.bypassed(&tracked.workload.id)
            && answer.verdict != Verdict::AsWithoutSortie
        {
            answer.verdict = Verdict::AsWithoutSortie;
            answer.source = None;
            answer.uplink = None;
            answer.fix = None;
            answer.reason = format!("it is bypassed for {} s still", whole_seconds(left));
        }
        if let Some(reason) = unmanageable {
            answer.reason = format!("{}; but {reason}", answer.reason);
        }
        if tracked.workload.kind == WorkloadKind::Client {
            "gateway".clone_into(&mut answer.plane);
            let mut local = self.environment().local_ranges().into_iter();
            if self.stays_inside(target.ip).is_some() || local.any(|it| it.contains(&target.ip)) {
                answer.verdict = Verdict::Drop;
                answer.reason = format!("PrivateAnswer: {} is local here", target.ip);
            }
        }
        let now = match (answer.verdict, answer.source) {
            (Verdict::Egress, Some(source)) => Now::With(source),
            (Verdict::Drop, _) => Now::Dropped,
            _ => Now::AsWithoutSortie(None),
        };
        let audited = self.audited(tracked, target);
        answer.audit = audited.map(|audited| AuditNote::new(&audited, now));
        answer
    }

    /// Each candidate, those that only audit among them, and what became of it.
    fn considered(&self, tracked: &Tracked, target: Target<'_>) -> Vec<Considered> {
        let enforced = tracked.policies.iter().map(AsRef::as_ref);
        let auditing = self.auditing(tracked).map(AsRef::as_ref);
        let candidates = Candidate::ordered(enforced.chain(auditing));
        let decides = among(candidates.iter().filter(|c| !c.audits()), target);
        let would_decide = among(candidates.iter(), target);
        let is = |candidate: &Candidate<'_>, one: Option<&Candidate<'_>>| {
            one.is_some_and(|one| std::ptr::eq(one, candidate))
        };
        let outcome = |candidate: &Candidate<'_>| match (decides, would_decide) {
            _ if !candidate.covers(target) => uncovered(candidate, target),
            (_, Some(first)) if candidate.audits() && !is(candidate, would_decide) => {
                format!("audit: {}", lost(first, candidate, target))
            }
            _ if candidate.audits() => {
                let would = self.would(candidate.exit(target.ip.is_ipv6(), self));
                format!("audit: would {would}")
            }
            (Some(winner), _) if !is(candidate, decides) => lost(winner, candidate, target),
            _ => "decides".to_owned(),
        };
        let considered = candidates.iter().map(|candidate| Considered {
            policy: candidate.policy.name.0.clone(),
            matches: matches(candidate),
            outcome: outcome(candidate),
        });
        considered.collect()
    }

    /// What answered flows to this destination may leave with besides.
    fn old_flows(&self, tracked: &Tracked, target: Target<'_>) -> Vec<Draining> {
        let addresses = tracked.placement.endpoints.iter();
        let addresses = addresses.flat_map(|endpoint| &endpoint.addresses);
        let of_family = addresses.filter(|own| own.is_ipv6() == target.ip.is_ipv6());
        let mut draining = Vec::new();
        // A flow is known by its address alone.
        let target = Target::address(target.ip, target.port);
        for source in of_family {
            let keep = self.keep(Source::Address(*source));
            for (address, left) in self.draining(*source) {
                let answered = Flow {
                    target,
                    asked: target.ip,
                    source: address,
                    answered: true,
                };
                if keep.keeps(&answered) {
                    draining.push(Draining::new(address, left));
                }
            }
        }
        draining
    }

    /// Why packets to an address do not leave the host at all, if so.
    pub(crate) fn stays_inside(&self, address: IpAddr) -> Option<String> {
        if self.environment().addresses.contains_key(&address) {
            return Some("an address of this host".to_owned());
        }
        self.inside_network(address)
            .map(|network| format!("on the container network {network}"))
    }

    fn explain_direct(&self, tracked: &Tracked, target: Target<'_>, answer: &mut Explanation) {
        let own = tracked
            .workload
            .endpoints
            .iter()
            .flat_map(|endpoint| &endpoint.addresses);
        let own = own
            .copied()
            .find(|address| address.is_ipv6() == target.ip.is_ipv6());
        let treatment = tracked.placement.of_family(target.ip.is_ipv6());
        match (own, treatment) {
            (
                Some(address),
                Treatment::Direct {
                    uplink: Some(uplink),
                },
            ) => {
                answer.verdict = Verdict::Egress;
                answer.source = Some(address);
                answer.uplink = Some(self.environment().name_of(*uplink));
                answer.reason = "the address is on its own interface".to_owned();
            }
            (own, _) => {
                answer.verdict = Verdict::Drop;
                let without = "it has no address of this family";
                answer.reason = own
                    .map_or(without, |_| "there is no default route to leave by")
                    .to_owned();
            }
        }
    }

    /// The policy says that it has the address itself.
    fn explain_own(&self, tracked: &Tracked, target: Target<'_>, answer: &mut Explanation) {
        let v6 = target.ip.is_ipv6();
        let (verdict, told) = match tracked.placement.of_family(v6) {
            Treatment::Own { address, .. } => match self.no_way_out(*address) {
                None => {
                    let reason = "the policy says that it has the address itself".to_owned();
                    (Verdict::Egress, (reason, None))
                }
                Some(unusable) => (Verdict::Drop, (unusable.reason, Some(unusable.fix))),
            },
            Treatment::Blocked(Refusal::NotDirect) => {
                answer.source = None;
                answer.uplink = None;
                let told = self.not_direct(tracked, v6);
                let told = told.map(|unusable| (unusable.reason, Some(unusable.fix)));
                (Verdict::Drop, told.unwrap_or_default())
            }
            _ => return,
        };
        answer.verdict = verdict;
        (answer.reason, answer.fix) = told;
    }

    fn explain_exit(&self, exit: Exit, answer: &mut Explanation) {
        match exit {
            Exit::Bypass => answer.reason = "the policy says Bypass".to_owned(),
            Exit::NodeAddress => {
                answer.reason =
                    "its egress address cannot be used, and the policy allows the host's"
                        .to_owned();
            }
            Exit::Drop(refusal) => {
                answer.verdict = Verdict::Drop;
                answer.reason = match refusal {
                    Refusal::Denied => "the policy says Deny".to_owned(),
                    Refusal::NoAddressOfFamily => {
                        "the policy has no egress address of this family".to_owned()
                    }
                    Refusal::ByGateway => "the gateway sends it in the workload's stead".to_owned(),
                    Refusal::Unlearned => {
                        "no name was looked up for this address (`unlearned: Deny`)".to_owned()
                    }
                    Refusal::NotDirect => String::new(),
                };
            }
            Exit::Egress(address) => {
                answer.source = Some(address);
                answer.uplink = self
                    .uplink(address)
                    .map(|uplink: IfIndex| self.environment().name_of(uplink));
                match self.unusable(address) {
                    None => {
                        answer.verdict = Verdict::Egress;
                        answer.reason = "as the policy says".to_owned();
                    }
                    Some(unusable) => {
                        answer.verdict = Verdict::Drop;
                        answer.reason = unusable.reason;
                        answer.fix = Some(unusable.fix);
                    }
                }
            }
        }
    }

    /// The source that packets must leave with; none where the engine decides.
    pub fn expected(&self, tracked: &Tracked, target: Target<'_>) -> Expected {
        let target = self.known(&tracked.workload.id, target);
        if tracked.workload.kind == WorkloadKind::Process {
            let own = tracked
                .workload
                .endpoints
                .iter()
                .flat_map(|endpoint| &endpoint.addresses)
                .copied();
            return own
                .filter(|own| own.is_ipv6() == target.ip.is_ipv6())
                .map(Expected::Source)
                .next()
                .unwrap_or(Expected::Nothing);
        }
        if self.stays_inside(target.ip).is_some() || self.bypassed(&tracked.workload.id).is_some() {
            return Expected::Any;
        }
        let candidates = Candidate::ordered(tracked.policies.iter().map(AsRef::as_ref));
        match resolve(
            &candidates,
            target,
            &self.environment().local_ranges(),
            self,
        ) {
            Decision::Local(_)
            | Decision::NoPolicy
            | Decision::Decided {
                exit: Exit::Bypass | Exit::NodeAddress,
                ..
            } => Expected::Any,
            Decision::Decided {
                exit: Exit::Drop(_),
                ..
            } => Expected::Nothing,
            Decision::Decided { .. }
                if *tracked.placement.of_family(target.ip.is_ipv6())
                    == Treatment::Blocked(Refusal::NotDirect) =>
            {
                Expected::Nothing
            }
            Decision::Decided {
                exit: Exit::Egress(address),
                ..
            } => Expected::Source(address),
        }
    }
}

/// As `explain` shows it.
fn port(protocol: Protocol, number: u16) -> String {
    format!("{number}/{}", format!("{protocol:?}").to_lowercase())
}
