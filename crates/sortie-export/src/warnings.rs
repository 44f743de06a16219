//! What the other program cannot be told.

use std::fmt;

use sortie_api::policy::{
    Action, EgressPolicy, Enforcement, HostPattern, HttpMatch, Mode, OnUnavailable, Protocol,
    Selector, Tls, Unlearned,
};
use sortie_plan::precedence::{Candidate, Scope};

/// Something that is lost, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The policy it is about; none for all of them.
    pub policy: Option<String>,
    /// What the other program does not do.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(policy) = &self.policy {
            write!(f, "policy {policy}: ")?;
        }
        write!(f, "{}: {}", self.what, self.help)
    }
}

impl Warning {
    pub(crate) fn all(what: &str, help: &str) -> Self {
        Self {
            policy: None,
            what: what.to_owned(),
            help: help.to_owned(),
        }
    }

    pub(crate) fn of(policy: &EgressPolicy, what: &str, help: &str) -> Self {
        Self {
            policy: Some(policy.name.0.clone()),
            ..Self::all(what, help)
        }
    }
}

/// For both: neither program has containers, audits or addresses that come and go.
pub(crate) fn common(policies: &[EgressPolicy]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut add = |warning| warnings.push(warning);
    let enforced = || {
        policies
            .iter()
            .filter(|it| it.enforcement == Enforcement::Enforce)
    };
    let mut selectors: Vec<&[Selector]> = enforced().map(|it| &*it.workloads).collect();
    selectors.dedup();
    if selectors.len() > 1 {
        add(Warning::all(
            "the policies select different workloads, and what is printed decides as for one that all of them select",
            "export the policies of one workload: `--workload NAME`, or the files that are its",
        ));
    }
    for policy in policies {
        if policy.enforcement == Enforcement::Audit {
            add(Warning::of(policy, "it only audits", "left out"));
            continue;
        }
        if let Action::Egress(egress) = &policy.action
            && egress.mode == Mode::Direct
        {
            add(Warning::of(
                policy,
                "`mode: Direct` gives the workload the address",
                "here the proxy has it, and is the one that leaves with it",
            ));
        }
        if policy.on_unavailable == OnUnavailable::NodeAddress {
            add(Warning::of(
                policy,
                "`onUnavailable: NodeAddress` cannot be said",
                "while the address is away, requests get 503",
            ));
        }
        let destinations = policy.destinations.iter();
        if destinations
            .flat_map(|it| &it.ports)
            .any(|it| it.protocol == Protocol::Udp)
        {
            add(Warning::of(
                policy,
                "UDP is not in it",
                "keep Sortie for UDP, or close it elsewhere",
            ));
        }
        for http in policy.destinations.iter().filter_map(|it| it.http.as_ref()) {
            match &http.tls {
                Some(Tls::Inspect(_)) => add(Warning::of(
                    policy,
                    "`tls: {inspect: true}` cannot be said",
                    "TLS is refused where the request would change the decision",
                )),
                Some(Tls::Originate(originate)) if originate.client_certificate.is_some() => {
                    add(Warning::of(
                        policy,
                        "the client certificate is only a name here",
                        "put its files where the configuration looks for them",
                    ));
                }
                _ => {}
            }
        }
    }
    warnings
}

pub(crate) fn for_envoy(policies: &[EgressPolicy]) -> Vec<Warning> {
    let mut warnings = common(policies);
    let enforced = || {
        policies
            .iter()
            .filter(|it| it.enforcement == Enforcement::Enforce)
    };
    let candidates = Candidate::ordered(enforced());
    if let Some(first) = candidates
        .iter()
        .find(|it| matches!(it.scope, Scope::Prefix(_)) && it.policy.action != Action::Deny)
        && candidates.iter().any(|it| it.host().is_some())
    {
        warnings.push(Warning::of(
            first.policy,
            "Envoy chooses the source before it knows a name's addresses",
            "requests to a name whose address is in this policy's `cidrs` are refused, where by the policies the address would decide; so are requests to an address",
        ));
    }
    let any = |says: fn(&EgressPolicy) -> bool| enforced().find(|policy| says(policy));
    if let Some(policy) = any(|it| it.unlearned == Unlearned::Deny) {
        warnings.push(Warning::of(
            policy,
            "Envoy answers no look-ups: no address is learned",
            "`unlearned: Deny` denies every address that is not asked for by name",
        ));
    }
    if let Some(policy) = any(|it| it.only_these_hosts) {
        warnings.push(Warning::of(
            policy,
            "Envoy answers no look-ups: `onlyTheseHosts` refuses requests",
            "other names can still be looked up",
        ));
    }
    if candidates.iter().any(|it| it.host().is_some()) {
        warnings.push(Warning::all(
            "a redirected connection may tell no name",
            "it is refused on ports that policies for names are about: give such policies `ports`",
        ));
    }
    warnings.push(Warning::all(
        "what reaches the host's own addresses is not known here",
        "run Envoy where it may not reach anything inside",
    ));
    warnings.push(Warning::all(
        "Envoy does not look into CONNECT",
        "what is sent inside may be for another name, and plain HTTP inside goes by the name alone",
    ));
    warnings.sort();
    warnings.dedup();
    warnings
}

pub(crate) fn for_istio(policies: &[EgressPolicy]) -> Vec<Warning> {
    let mut warnings = common(policies);
    let enforced = || {
        policies
            .iter()
            .filter(|it| it.enforcement == Enforcement::Enforce)
    };
    for policy in enforced() {
        let mut add = |what: &str, help: &str| warnings.push(Warning::of(policy, what, help));
        if matches!(policy.action, Action::Egress(_)) {
            add(
                "Istio has no field for a source address",
                "EnvoyFilters set it at the egress gateway, whose pod must have the address, and which the CNI must not masquerade",
            );
        }
        if policy.destinations.is_empty() {
            add(
                "it is for every destination, and Istio's resources are for names",
                "here it holds for the names of the other policies only",
            );
        }
        for destination in &policy.destinations {
            if destination.hosts.is_empty() {
                add(
                    "destinations by address are not in it",
                    "close addresses with a NetworkPolicy, and keep Sortie for their sources",
                );
            }
            let wide = |it: &HostPattern| !matches!(it, HostPattern::Exact(_));
            if destination.hosts.iter().any(wide) {
                add(
                    "Istio's egress gateway resolves no wildcards: they hold for the exact names of the policies only",
                    "write each name in `hosts`",
                );
            }
            if destination.ports.iter().any(|it| it.last - it.first >= 16) {
                add(
                    "of a range of ports the first 16 are in it",
                    "write the ports that are used",
                );
            }
            if let Some(http) = &destination.http {
                if !http.unless.is_empty() {
                    add(
                        "Istio cannot except what earlier routes of a VirtualService take",
                        "such requests get 403: write EgressPolicies instead",
                    );
                }
                let escapes = |entry: &HttpMatch| {
                    let path = entry.path.as_ref();
                    path.is_some_and(|path| path.to_string().contains('%'))
                };
                if http.matches.iter().any(escapes) {
                    add(
                        "Istio compares escapes as they are written",
                        "a client that writes them in small letters is not meant",
                    );
                }
            }
        }
        if policy.only_these_hosts || policy.unlearned == Unlearned::Deny {
            add(
                "Istio lets other names and addresses by",
                "set `meshConfig.outboundTrafficPolicy.mode: REGISTRY_ONLY`",
            );
        }
    }
    warnings.push(Warning::all(
        "Istio's workloads are pods, and these resources are for all of them",
        "restrict them with `exportTo`, or with `sourceLabels` in each `match`",
    ));
    warnings.push(Warning::all(
        "Istio normalises paths as its mesh is told to",
        "set `meshConfig.pathNormalization.normalization: DECODE_AND_MERGE_SLASHES`",
    ));
    warnings.sort();
    warnings.dedup();
    warnings
}
