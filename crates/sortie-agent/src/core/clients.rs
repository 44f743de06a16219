//! Clients of the gateway's explicit listener: how they stand, and what the gateway is told of them
//! and of containers that may ask it too.

use std::mem;
use std::net::IpAddr;

use sortie_api::policy::{Action, Carried, Client};

use super::Core;
use super::gateway::wire;
use super::report::in_order;
use crate::api::{GatewayLine, GatewayProxy, WorkloadState, WorkloadStatus};

impl Core {
    /// Those that policies name. Nobody knows here who of them is connected.
    pub(super) fn client_statuses(&self) -> impl Iterator<Item = WorkloadStatus> {
        let clients = self.planner.named_clients().into_iter();
        clients.map(|client| self.client_status(&client))
    }

    /// 1. Without a listener nobody can ask, and without a gateway neither.
    /// 2. Who must show a certificate or a token must be asked for it.
    /// 3. An egress address that cannot be used blocks.
    fn client_status(&self, named: &Client) -> WorkloadStatus {
        let client = &self.planner.client(named);
        let proxy = &self.config.gateway.proxy;
        let error = |reason: &str, fix: &str| {
            let told = (Some(reason.to_owned()), Some(fix.to_owned()));
            (WorkloadState::Error, told.0, told.1)
        };
        let mut egress: Vec<IpAddr> = Vec::new();
        for policy in &client.policies {
            if let Action::Egress(it) = &policy.action {
                egress.extend(
                    it.addresses()
                        .filter(|address| !egress.contains(address))
                        .collect::<Vec<_>>(),
                );
            }
        }
        let unusable = egress.iter().find_map(|address| self.unusable(*address));
        let (state, reason, fix) = if !self.planner.serves_clients() {
            error(
                "the gateway listens for no clients",
                "write `gateway: {proxy: {listen: [\"ADDRESS:3128\"]}}` into agent.yaml, and restart the agent",
            )
        } else if named.certificate.is_some()
            && proxy.tls.as_ref().is_none_or(|tls| tls.ca.is_none())
        {
            error(
                "the gateway asks nobody for a certificate",
                "write `gateway: {proxy: {tls: {listen: [\"ADDRESS:3129\"], certificate: FILE, key: FILE, ca: FILE}}}` into agent.yaml, and restart the agent",
            )
        } else if !self.has_gateway() {
            error(
                "no gateway runs that it could ask",
                "systemctl start sortie-gateway, or: sortie gateway",
            )
        } else if let Some(unusable) = unusable {
            (
                WorkloadState::Blocked,
                Some(unusable.reason),
                Some(unusable.fix),
            )
        } else {
            (WorkloadState::Ready, None, None)
        };
        let workload = &client.workload;
        WorkloadStatus {
            id: workload.id.as_str().to_owned(),
            name: workload.name.clone(),
            kind: workload.kind.name().to_owned(),
            addresses: Vec::new(),
            policies: in_order(client),
            audits: self
                .planner
                .auditing(client)
                .map(|policy| policy.name.0.clone())
                .collect(),
            egress,
            draining: Vec::new(),
            bypass: None,
            state,
            reason,
            fix,
            dropped: 0,
        }
    }

    /// Tells the gateway what is different from what it was told last: where it listens, whom policies
    /// mean, and which containers it knows by their addresses.
    pub(super) fn tell_clients(&mut self) {
        let mut lines = Vec::new();
        let proxy = self.gateway_proxy();
        if self.gateway.proxy != proxy {
            lines.push(GatewayLine::Proxy(proxy.clone()));
            self.gateway.proxy = proxy;
        }
        let mut before = mem::take(&mut self.gateway.askers);
        for (tracked, addresses) in self.planner.askers() {
            let id = &tracked.workload.id;
            let told = before.remove(id);
            let Some(mut now) = wire(&self.planner, tracked, addresses, told.as_ref()) else {
                lines.extend(told.map(|_| GatewayLine::AskerGone(id.clone())));
                continue;
            };
            if self.planner.bypassed(id).is_some() {
                now.policies.clear();
                now.audits.clear();
            }
            if told.as_ref() != Some(&now) {
                lines.push(GatewayLine::Asker(now.clone()));
            }
            self.gateway.askers.insert(id.clone(), now);
        }
        lines.extend(before.into_keys().map(GatewayLine::AskerGone));
        for line in lines {
            self.gateway.tell(line);
        }
    }

    /// What the gateway must know to serve clients.
    fn gateway_proxy(&self) -> GatewayProxy {
        let proxy = &self.config.gateway.proxy;
        let policies = self.planner.client_policies().cloned();
        let audits = self.planner.client_audits().cloned();
        GatewayProxy {
            listen: proxy.listen.clone(),
            tokens: proxy.tokens.clone(),
            tls: proxy.tls.clone(),
            policies: policies.map(Carried).collect(),
            audits: audits.map(Carried).collect(),
        }
    }
}
