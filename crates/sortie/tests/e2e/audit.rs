//! `enforcement: Audit`: packets leave as without the policy, and what it would change is told.

use std::net::IpAddr;

use serde_json::Value;
use sortie_lab::{ALL_TRAFFIC, Result, Traffic, eventually};

use crate::stage::{DOCKER_29_NFTABLES, HOST_V4, HOST_V6, LIMIT, Stage, ip};

fn policy(name: &str, priority: u16, select: &str, rest: &str) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: {name}}}
spec:
  priority: {priority}
  workloads: [{{containers: {{{select}}}}}]
  {rest}
"
    )
}

pub(crate) fn apply(stage: &Stage, policies: &[String]) -> Result<String> {
    Ok(stage.applied(&policies.join("---\n"))?.stdout)
}

/// What a policy's counts say of a workload, or of all.
pub(crate) fn counted(stage: &Stage, policy: &str, workload: &str, what: &str) -> u64 {
    let status = stage.json(&["status"]).expect("the status");
    let audits = status["audits"].as_array().cloned().unwrap_or_default();
    let audit = audits.iter().find(|audit| audit["policy"] == policy);
    let Some(audit) = audit else { return 0 };
    let count = if workload == "all" {
        audit["all"][what].clone()
    } else {
        let workloads = audit["workloads"].as_array().cloned().unwrap_or_default();
        let found = workloads.iter().find(|found| found["name"] == workload);
        found.map_or(Value::Null, |found| found[what].clone())
    };
    count.as_u64().unwrap_or_default()
}

/// Waits for a count; a report may come after the packet.
pub(crate) fn comes_to(
    stage: &Stage,
    policy: &str,
    workload: &str,
    what: &str,
    least: u64,
) -> Result<()> {
    eventually(LIMIT, &format!("{policy} counts {what}"), || {
        let count = counted(stage, policy, workload, what);
        let enough = count >= least;
        enough.then_some(()).ok_or_else(|| format!("{count}"))
    })
}

const ADDRESSES: &str = "egress: {addresses: [203.0.113.12, \"2001:db8:113::12\"]}";

#[test]
fn an_audit_counts_what_it_would_change_and_changes_nothing() -> Result<()> {
    let mut stage = Stage::new("audit", DOCKER_29_NFTABLES)?;
    let web = stage.labelled("web", "203.0.113.11,2001:db8:113::11")?;
    let free = stage.unmanaged("free")?;
    let all = |enforcement: &str| {
        let select = "names: [web, free], networks: [bridge]";
        let rest = format!("action: Egress\n  {ADDRESSES}\n  enforcement: {enforcement}");
        policy("all", 10, select, &rest)
    };
    let bank = policy(
        "bank",
        20,
        "names: [web]",
        "destinations: [{cidrs: [192.0.2.0/24]}]\n  action: Deny\n  enforcement: Audit",
    );
    let told = apply(&stage, &[all("Audit"), bank.clone()])?;
    assert!(!told.contains("203.0.113.12"), "{told}");

    let (to, to6, to_bank): (IpAddr, IpAddr, IpAddr) =
        (ip("198.51.100.9"), ip("2001:db8:51::9"), ip("192.0.2.9"));
    for traffic in ALL_TRAFFIC {
        for (container, to, source) in [
            (&web, to, "203.0.113.11"),
            (&web, to6, "2001:db8:113::11"),
            (&web, to_bank, "203.0.113.11"),
            (&free, to, HOST_V4),
            (&free, to6, HOST_V6),
        ] {
            stage
                .lab
                .expect_source(container, traffic, to, ip(source))?;
        }
    }
    let flows = u64::try_from(ALL_TRAFFIC.len()).expect("few");
    comes_to(&stage, "all", "web", "otherSource", 2 * flows)?;
    comes_to(&stage, "all", "free", "otherSource", 2 * flows)?;
    comes_to(&stage, "all", "all", "otherSource", 4 * flows)?;
    comes_to(&stage, "bank", "web", "dropped", flows)?;
    assert_eq!(counted(&stage, "all", "all", "dropped"), 0);
    assert_eq!(
        stage.workload("free").expect("free")["state"],
        "Unmanaged",
        "nothing is enforced"
    );
    let told = stage.ok(&["explain", "web", "198.51.100.9:7"]);
    assert!(told.contains("leaves with 203.0.113.11"), "{told}");
    assert!(told.contains("all would leave with 203.0.113.12"), "{told}");
    assert!(told.contains("audit: would leave"), "{told}");
    let told = stage.ok(&["explain", "web", "192.0.2.9:7"]);
    assert!(told.contains("bank would be dropped"), "{told}");
    let told = stage.ok(&["flows"]);
    assert!(told.contains("all would leave with 203.0.113.12"), "{told}");
    let told = stage.ok(&["status"]);
    assert!(told.contains("OTHER SOURCE"), "{told}");
    assert_eq!(stage.json(&["status"])?["leaks"], 0);

    // A new agent counts anew, and the policies go on to change nothing.
    stage.kill_agent()?;
    stage.start_agent("")?;
    stage.wait_for("web", "Ready")?;
    stage
        .lab
        .expect_source(&free, Traffic::Tcp(7), to, ip(HOST_V4))?;
    comes_to(&stage, "all", "free", "otherSource", 1)?;
    assert_eq!(counted(&stage, "bank", "all", "dropped"), 0);

    // Enforced, it does what it said.
    apply(&stage, &[all("Enforce"), bank])?;
    for (container, to) in [(&web, to), (&free, to)] {
        for traffic in ALL_TRAFFIC {
            let source = ip("203.0.113.12");
            stage.lab.expect_source(container, traffic, to, source)?;
        }
    }
    assert_eq!(counted(&stage, "all", "all", "otherSource"), 0);
    Ok(())
}

/// What is dropped now, and would leave, is counted by packets: no flow begins.
#[test]
fn an_audit_counts_what_it_would_let_pass() -> Result<()> {
    let stage = Stage::new("audit-pass", DOCKER_29_NFTABLES)?;
    let free = stage.unmanaged("free")?;
    let rest = format!("action: Egress\n  {ADDRESSES}\n  enforcement: Audit");
    apply(
        &stage,
        &[
            policy("closed", 0, "names: [free]", "action: Deny"),
            policy("open", 10, "names: [free]", &rest),
        ],
    )?;
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_nothing(&free, traffic, to.v4)?;
    }
    comes_to(&stage, "open", "free", "passedPackets", 3)?;
    assert_eq!(counted(&stage, "open", "free", "otherSource"), 0);
    let told = stage.ok(&["explain", "free", &to.v4.to_string()]);
    assert!(told.contains("is dropped"), "{told}");
    assert!(
        told.contains("open would leave with 203.0.113.12"),
        "{told}"
    );
    Ok(())
}
