//! How one workload stands, and what it leaves with.

use std::net::IpAddr;

use sortie_api::workload::WorkloadKind;
use sortie_plan::compile::treatment::Treatment;
use sortie_plan::planner::{Planner, Tracked};
use sortie_plan::resolve::Refusal;

use crate::api::WorkloadState;

/// The egress addresses that a container has itself, beside the engine's.
pub(super) fn own_addresses(tracked: &Tracked) -> impl Iterator<Item = IpAddr> {
    let placement = &tracked.placement;
    let own = [&placement.v4, &placement.v6]
        .into_iter()
        .filter_map(|treated| match treated.treatment {
            Treatment::Own { address, .. } => Some(address),
            _ => None,
        });
    own.filter(|own| placement.own_endpoint(own.is_ipv6()).is_some())
}

/// Every address that it may leave with.
pub(super) fn egress(tracked: &Tracked) -> Vec<IpAddr> {
    let placement = &tracked.placement;
    let direct = placement
        .endpoints
        .iter()
        .flat_map(|endpoint| endpoint.addresses.iter().copied());
    match &placement.v4.treatment {
        Treatment::Direct { .. } => direct.collect(),
        _ => [&placement.v4, &placement.v6]
            .into_iter()
            .flat_map(|treated| treated.treatment.egress_addresses())
            .collect(),
    }
}

/// What a workload leaves with, for people.
pub(super) fn egress_text(planner: &Planner, tracked: &Tracked) -> String {
    let (state, reason, _) = standing(planner, tracked);
    let egress: Vec<String> = egress(tracked).iter().map(ToString::to_string).collect();
    match (state, reason) {
        (WorkloadState::Unmanaged | WorkloadState::Bypassed, _) => "as without Sortie".to_owned(),
        (_, Some(reason)) => {
            format!(
                "{} ({reason})",
                if egress.is_empty() {
                    "nothing".into()
                } else {
                    egress.join(",")
                }
            )
        }
        (_, None) => egress.join(","),
    }
}

/// Steps, in order:
/// 1. Who is bypassed leaves, whatever is wrong.
/// 2. What cannot be managed is an error only where somebody wants it managed.
/// 3. A label that is wrong is an error; nothing leaves.
/// 4. An egress address that cannot be used blocks; one that a container cannot have itself is an
///    error; a family without one is told.
pub(super) fn standing(
    planner: &Planner,
    tracked: &Tracked,
) -> (WorkloadState, Option<String>, Option<String>) {
    let workload = &tracked.workload;
    if planner.bypassed(&workload.id).is_some() {
        let fix = format!("sortie bypass {} --end", workload.name);
        return (WorkloadState::Bypassed, None, Some(fix));
    }
    if let Err(errors) = &tracked.label {
        return (WorkloadState::Error, Some(errors.to_string()), None);
    }
    if let Some(reason) = workload
        .unmanageable
        .as_ref()
        .filter(|_| !tracked.policies.is_empty())
    {
        return (
            WorkloadState::Error,
            Some(format!("it cannot be managed: {reason}")),
            None,
        );
    }
    if !tracked.placement.is_managed() {
        return (WorkloadState::Unmanaged, None, None);
    }
    if workload.kind != WorkloadKind::Process {
        for address in egress(tracked) {
            let own = matches!(
                tracked.placement.of_family(address.is_ipv6()),
                Treatment::Own { .. }
            );
            let unusable = if own {
                planner.no_way_out(address)
            } else {
                planner.unusable(address)
            };
            if let Some(unusable) = unusable {
                return (
                    WorkloadState::Blocked,
                    Some(unusable.reason),
                    Some(unusable.fix),
                );
            }
        }
    }
    for v6 in [false, true] {
        let has = workload
            .endpoints
            .iter()
            .flat_map(|e| &e.addresses)
            .any(|address| address.is_ipv6() == v6);
        let has = has || workload.cgroup.is_some();
        let family = if v6 { "IPv6" } else { "IPv4" };
        match tracked.placement.of_family(v6) {
            Treatment::Blocked(Refusal::NoAddressOfFamily) if has => {
                let reason = format!(
                    "its policy has no {family} egress address: its {family} packets are dropped"
                );
                return (WorkloadState::Ready, Some(reason), None);
            }
            Treatment::Blocked(Refusal::NotDirect) if has => {
                let Some(unusable) = planner.not_direct(tracked, v6) else {
                    continue;
                };
                return (
                    WorkloadState::Error,
                    Some(unusable.reason),
                    Some(unusable.fix),
                );
            }
            Treatment::Blocked(Refusal::Unlearned) if has => {
                let reason = "its policies go by name, and on the host's network nobody can tell whose look-up is whose";
                let fix =
                    "select it by a policy with `cidrs` only, or give it a network of its own";
                return (
                    WorkloadState::Error,
                    Some(reason.to_owned()),
                    Some(fix.to_owned()),
                );
            }
            Treatment::Blocked(Refusal::Denied) if has => {
                return (
                    WorkloadState::Blocked,
                    Some(format!("its policy denies all {family}")),
                    None,
                );
            }
            _ => {}
        }
    }
    (WorkloadState::Ready, None, None)
}
