//! `explain`: the plan says what must be, and the kernel is asked for the route that it takes.

use std::net::IpAddr;

use sortie_api::policy::{Protocol, Request};
use sortie_api::workload::WorkloadKind;
use sortie_gateway::http1::path::normalise;
use sortie_gateway::private::is_private;
use sortie_kernel::facts::{self, RouteQuery, RouteTaken};
use sortie_plan::explain::{ByName, Plane};
use sortie_plan::mark::Mark;
use sortie_plan::planner::{Planner, Tracked};
use sortie_plan::precedence::Target;
use sortie_plan::resolve::Addresses;

use super::Core;
use crate::Error;
use crate::api::{Explanation, NameExplanation, NameQuestion, Question, Verdict};

impl Core {
    /// Why a workload leaves with which address towards a destination.
    pub fn explain(&mut self, question: &Question) -> Result<Explanation, Error> {
        let tracked = &*self.find_asker(&question.workload)?;
        let port = port(question.protocol.as_deref(), question.port)?;
        let target = Target::address(question.address, port);
        let mut answer = self.planner.explain(tracked, target);
        if let (Verdict::Egress, Some(source)) = (answer.verdict, answer.source)
            && let Some(query) = way_out(&self.planner, tracked, target.ip, source)
        {
            let taken = facts::lookup(self.kernel.rtnetlink(), &query)?;
            compare(&self.planner, &mut answer, taken.as_ref());
        }
        Ok(answer)
    }

    /// Which plane decides what becomes of a name or a URL, and why. Nothing is looked up.
    ///
    /// What the gateway alone knows is added: the one spelling of a path, and the addresses that it
    /// never calls for a name.
    pub fn explain_name(&self, question: &NameQuestion) -> Result<NameExplanation, Error> {
        let tracked = &*self.find_asker(&question.workload)?;
        let asked = question.request.as_ref();
        let path = asked.map(|asked| normalise(&asked.path)).transpose();
        let request = asked.map(|asked| Request {
            method: &asked.method,
            path: match &path {
                Ok(Some(normal)) => normal,
                _ => &asked.path,
            },
            headers: &asked.headers,
        });
        let mut answer = self.planner.explain_name(
            tracked,
            &ByName {
                name: &question.name,
                port: port(question.protocol.as_deref(), question.port)?,
                request: request.as_ref(),
                encrypted: question.encrypted,
                malformed: path.as_ref().err().map(|refused| refused.reason),
            },
        );
        if answer.plane == Plane::Gateway {
            let of_host = &self.planner.environment().addresses;
            for known in &mut answer.addresses {
                if is_private(known.address) || of_host.contains_key(&known.address) {
                    known.verdict = Verdict::Drop;
                    known.source = None;
                    known.reason =
                        "PrivateAnswer: the gateway calls no such address for a name".to_owned();
                }
            }
            answer.settle();
        }
        Ok(answer)
    }
}

fn port(protocol: Option<&str>, port: Option<u16>) -> Result<Option<(Protocol, u16)>, Error> {
    match (protocol, port) {
        (None | Some("tcp"), Some(port)) => Ok(Some((Protocol::Tcp, port))),
        (Some("udp"), Some(port)) => Ok(Some((Protocol::Udp, port))),
        (_, None) => Ok(None),
        (Some(other), Some(_)) => Err(Error::Refused(format!(
            "{other} has no ports here; write tcp or udp, or leave the port out"
        ))),
    }
}

/// The question that the kernel asks itself for the workload's packet.
fn way_out(
    planner: &Planner,
    tracked: &Tracked,
    destination: IpAddr,
    egress: IpAddr,
) -> Option<RouteQuery> {
    // The gateway's own sockets are routed by their marks from the beginning.
    if tracked.workload.cgroup.is_some() || tracked.workload.kind == WorkloadKind::Client {
        // The mark is there when the kernel routes the packet for the second time.
        return Some(RouteQuery {
            destination,
            source: None,
            input: None,
            mark: planner.mark(egress).map_or(0, Mark::value),
        });
    }
    let mut sources = tracked.workload.endpoints.iter().flat_map(|endpoint| {
        let input = endpoint.bridge.unwrap_or(endpoint.port);
        endpoint
            .addresses
            .iter()
            .map(move |address| (*address, input))
    });
    let v6 = destination.is_ipv6();
    let own = planner.owner(egress);
    let own = own.filter(|owner| owner.workload.id == tracked.workload.id);
    let (source, input) = match own.and_then(|owner| owner.placement.own_endpoint(v6)) {
        Some(endpoint) => (egress, endpoint.bridge.unwrap_or(endpoint.port)),
        None => sources.find(|(address, _)| address.is_ipv6() == v6)?,
    };
    let mark = match tracked.workload.kind {
        WorkloadKind::Docker | WorkloadKind::Podman => planner.mark(egress),
        // Its input interface is what it is routed by.
        WorkloadKind::Process | WorkloadKind::Client => None,
    };
    Some(RouteQuery {
        destination,
        source: Some(source),
        input: Some(input),
        mark: mark.map_or(0, Mark::value),
    })
}

/// What would leave by another interface than the address's is dropped.
fn compare(planner: &Planner, answer: &mut Explanation, taken: Option<&RouteTaken>) {
    let device = taken.map(|taken| planner.environment().name_of(taken.link));
    answer.route = taken.zip(device.as_ref()).map(|(taken, device)| {
        let gateway = taken.gateway.map(|gateway| format!("via {gateway} "));
        format!("{}dev {device}", gateway.unwrap_or_default())
    });
    if device == answer.uplink {
        return;
    }
    answer.verdict = Verdict::Drop;
    let to = answer.destination;
    answer.reason = match (device, answer.source, answer.uplink.take()) {
        (Some(device), Some(source), Some(uplink)) => {
            format!("the host's route to {to} is by {device}, and {source} leaves by {uplink} only")
        }
        _ => format!("the host has no route to {to}"),
    };
}
