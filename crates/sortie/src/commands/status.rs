//! `sortie status`.

use std::process::ExitCode;

use sortie_agent::api::{
    AddressStatus, AuditCount, AuditStatus, EngineState, EngineStatus, Status, WorkloadState,
    WorkloadStatus,
};
use sortie_agent::client::Client;

use super::addresses::with_port;
use crate::error::CliError;
use crate::output::{Output, dash, list, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show workloads that no policy concerns too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let status = client.status(args.all).await?;
    args.output.print(&status, as_text)?;
    Ok(if is_right(&status) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether nothing needs attention. Drops alone do not: a guard that works drops.
fn is_right(status: &Status) -> bool {
    let workloads = status.workloads.iter();
    status.engines_answer()
        && status.problems.is_empty()
        && status.leaks == 0
        && status.addresses.iter().all(|address| address.usable)
        && workloads
            .filter(|workload| workload.state != WorkloadState::Unmanaged)
            .all(|workload| workload.state == WorkloadState::Ready)
}

/// Sections with a line between them: workloads and what mends them, addresses, problems, drops,
/// and the agent itself.
fn as_text(status: &Status) -> String {
    let mut sections = Vec::new();
    if status.workloads.is_empty() {
        sections.push("No workload is concerned by a policy.\n".to_owned());
    } else {
        sections.push(workloads(&status.workloads));
    }
    sections.extend(status.workloads.iter().filter_map(why));
    sections.extend(status.workloads.iter().filter_map(draining));
    if !status.addresses.is_empty() {
        sections.push(addresses(&status.addresses));
        let said = |fix| status.workloads.iter().any(|w| w.fix.as_ref() == Some(fix));
        let broken = status.addresses.iter().filter(|a| !a.usable);
        sections.extend(broken.filter_map(|a| {
            let fix = a.fix.as_ref().filter(|fix| !said(fix))?;
            Some(format!("{} cannot be used\n  fix: {fix}\n", a.address))
        }));
    }
    let scarce = status.addresses.iter().filter_map(|address| {
        let ports = address.source_ports.as_ref().filter(|ports| ports.scarce)?;
        let to = with_port(ports.destination, Some(ports.port));
        Some([
            address.address.to_string(),
            format!("{to}/{}", ports.protocol),
            ports.used.to_string(),
            ports.of.to_string(),
        ])
    });
    let scarce: Vec<_> = scarce.collect();
    if !scarce.is_empty() {
        sections.push(table(["SOURCE PORTS OF", "TOWARDS", "USED", "OF"], scarce));
    }
    if !status.problems.is_empty() {
        let rows = status.problems.iter();
        let rows = rows.map(|problem| {
            let message = problem.message.trim_end().replace('\n', "\n  ");
            format!("{}: {message}\n", problem.object)
        });
        let rows: Vec<String> = rows.collect();
        sections.push(format!("Problems:\n{}", rows.concat()));
    }
    if !status.drops.is_empty() {
        let rows = status.drops.iter().map(|drop| {
            [
                drop.reason.clone(),
                drop.packets.to_string(),
                drop.meaning.clone(),
            ]
        });
        sections.push(table(["DROPS", "PACKETS", "MEANING"], rows.collect()));
    }
    if !status.audits.is_empty() {
        sections.push(audits(&status.audits));
    }
    sections.push(agent(status));
    sections.join("\n")
}

/// The table that `get workloads` shows too.
pub(super) fn workloads(workloads: &[WorkloadStatus]) -> String {
    let rows = workloads.iter().map(|workload| {
        [
            workload.name.clone(),
            list(&workload.policies),
            list(&workload.egress),
            format!("{:?}", workload.state),
            workload.dropped.to_string(),
        ]
    });
    table(
        ["WORKLOAD", "POLICY", "EGRESS", "STATE", "DROPPED"],
        rows.collect(),
    )
}

/// The table that `get addresses` shows too.
pub(super) fn addresses(addresses: &[AddressStatus]) -> String {
    let rows = addresses.iter().map(|address| {
        let inside = address.container.as_ref();
        let inside = inside.map(|container| format!("in {container}"));
        [
            address.address.to_string(),
            dash(address.interface.as_ref().or(inside.as_ref())),
            dash(address.uplink.as_ref()),
            if address.usable { "yes" } else { "no" }.to_owned(),
        ]
    });
    table(["ADDRESS", "INTERFACE", "UPLINK", "USABLE"], rows.collect())
}

fn audits(audits: &[AuditStatus]) -> String {
    let row = |policy: &str, workload: &str, count: &AuditCount| {
        [
            policy.to_owned(),
            workload.to_owned(),
            count.other_source.to_string(),
            count.dropped.to_string(),
            count.same.to_string(),
            count.unseen.to_string(),
            count.passed_requests.to_string(),
            count.passed_packets.to_string(),
        ]
    };
    let rows = audits.iter().flat_map(|audit| {
        let named = audit.workloads.iter();
        let named = named.map(move |w| row(&audit.policy, &w.name, &w.count));
        std::iter::once(row(&audit.policy, "all", &audit.all)).chain(named)
    });
    let head = [
        "AUDIT",
        "WORKLOAD",
        "OTHER SOURCE",
        "DROPPED",
        "SAME",
        "UNSEEN",
        "PASSED REQUESTS",
        "PASSED PACKETS",
    ];
    table(head, rows.collect())
}

fn draining(workload: &WorkloadStatus) -> Option<String> {
    let drains = workload.draining.iter();
    let drains: Vec<String> = drains
        .map(|drain| format!("{} for {} s", drain.address, drain.seconds_left))
        .collect();
    let name = &workload.name;
    (!drains.is_empty()).then(|| {
        let drains = drains.join(", ");
        format!("{name}: connections from before a change go on with {drains}\n")
    })
}

fn why(workload: &WorkloadStatus) -> Option<String> {
    let reason = workload.reason.as_ref()?.trim_end();
    let fix = workload.fix.as_ref();
    let fix = fix.map(|fix| format!("  fix: {}\n", fix.trim_end()));
    Some(format!(
        "{} is {:?}: {reason}\n{}",
        workload.name,
        workload.state,
        fix.unwrap_or_default()
    ))
}

fn agent(status: &Status) -> String {
    let engines = status.engines.iter().map(|engine| {
        let EngineStatus { name, socket, .. } = engine;
        match engine.state {
            EngineState::Connected => format!("Engine {name} {socket}: connected\n"),
            EngineState::Away => {
                let reason = dash(engine.reason.as_ref());
                format!("Engine {name} {socket}: not connected: {reason}\n")
            }
            EngineState::Absent => format!("Engine {name} {socket}: not there\n"),
        }
    });
    let engines: Vec<String> = engines.collect();
    format!(
        "Agent {} (process {}), tables {}, uplinks {}, leaks {}\n{}",
        status.version,
        status.pid,
        status.tables,
        list(&status.uplinks),
        status.leaks,
        engines.concat()
    )
}
