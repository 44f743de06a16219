//! The kernel's features and settings.

use super::facts::{Agent, Facts};
use super::{Finding, Severity};

/// From this part of the table on, a burst may fill it.
const CONNTRACK_FULL_PERCENT: u64 = 80;
/// With less room for each managed workload, a few busy ones may fill it for all: closed TCP
/// connections stay for two minutes, so this is a new one each second.
const FLOWS_OF_A_WORKLOAD: u64 = 120;

pub(super) fn features(facts: &Facts, findings: &mut Vec<Finding>) {
    for feature in &facts.missing {
        let (why, fix) = feature
            .meaning
            .rsplit_once("; ")
            .unwrap_or((feature.meaning, "use a newer kernel"));
        findings.push(Finding {
            name: "feature-missing",
            severity: if feature.needed {
                Severity::Error
            } else {
                Severity::Warning
            },
            object: feature.name.to_owned(),
            why: why.to_owned(),
            fix: fix.to_owned(),
        });
    }
}

/// A bridge without packets to route is nobody's network, so a host without containers has none of
/// these. IPv4 asks the interface that a packet came in by, IPv6 the whole namespace
/// (`ip_forward_mode` in net/ipv4/route.c, `ip6_forward` in net/ipv6/ip6_output.c).
pub(super) fn forwarding(facts: &Facts, findings: &mut Vec<Finding>) {
    let mut off = |sysctl: &str, family: &str| {
        if facts.number(sysctl) == Some(0)
            && !findings.iter().any(|finding| finding.object == sysctl)
        {
            findings.push(Finding {
                name: "forwarding-off",
                severity: Severity::Error,
                object: sysctl.to_owned(),
                why: format!("the kernel drops the {family} packets of containers"),
                fix: format!("sysctl -w {sysctl}=1"),
            });
        }
    };
    for bridge in facts.bridges() {
        if facts.has_family(&bridge.name, false) {
            if facts.number("net/ipv4/ip_forward") == Some(0) {
                off("net/ipv4/ip_forward", "IPv4");
            } else {
                off(&format!("net/ipv4/conf/{}/forwarding", bridge.name), "IPv4");
            }
        }
        if facts.has_family(&bridge.name, true) {
            off("net/ipv6/conf/all/forwarding", "IPv6");
        }
    }
}

/// Strict reverse path filtering drops the answers to an address of an uplink that the route back
/// does not lead to. The stricter of the interface's and `all` counts (ip-sysctl.rst). The agent
/// sets 2, the greatest, and puts it back in place when another program changes it, after a while.
pub(super) fn rp_filter(facts: &Facts, findings: &mut Vec<Finding>) {
    let of = |name: &str| facts.number(&format!("net/ipv4/conf/{name}/rp_filter"));
    for uplink in facts.steered(false) {
        if of(uplink).max(of("all")) == Some(1) {
            findings.push(Finding {
                name: "rp-filter-strict",
                severity: Severity::Error,
                object: uplink.to_owned(),
                why: format!(
                    "egress addresses leave through {uplink}, and answers to them are dropped there: the default route leads elsewhere"
                ),
                fix: format!("sysctl -w net/ipv4/conf/{uplink}/rp_filter=2"),
            });
        }
    }
}

pub(super) fn bridged_packets(facts: &Facts, findings: &mut Vec<Finding>) {
    for sysctl in [
        "net/bridge/bridge-nf-call-iptables",
        "net/bridge/bridge-nf-call-ip6tables",
    ] {
        if facts.bridges().next().is_some() && facts.number(sysctl) == Some(1) {
            findings.push(Finding {
                name: "bridge-nf-call",
                severity: Severity::Note,
                object: sysctl.to_owned(),
                why: "packets between containers of one bridge cross the chains of the IP families too; Sortie leaves them alone, rules of others may not".to_owned(),
                fix: format!("sysctl -w {sysctl}=0"),
            });
        }
    }
}

pub(super) fn conntrack(facts: &Facts, findings: &mut Vec<Finding>) {
    let table = facts.conntrack;
    let object = "net/netfilter/nf_conntrack_max".to_owned();
    let larger = format!("sysctl -w {object}={}", table.max.saturating_mul(2));
    if table.dropped > 0 || table.early > 0 {
        findings.push(Finding {
            name: "conntrack-full",
            severity: Severity::Warning,
            object: object.clone(),
            why: format!(
                "the table of tracked flows was full since the host started: {} packets were dropped, {} flows ended early",
                table.dropped, table.early
            ),
            fix: larger.clone(),
        });
    }
    let workloads = match facts.agent {
        Agent::Running { workloads, .. } => workloads,
        Agent::Absent | Agent::Silent(_) => 0,
    };
    let mut small = |severity, why, fix| {
        findings.push(Finding {
            name: "conntrack-small",
            severity,
            object: object.clone(),
            why,
            fix,
        });
    };
    if table.max > 0 && table.count * 100 >= table.max * CONNTRACK_FULL_PERCENT {
        let why = format!(
            "{} of {} flows are tracked; when the table is full, new connections of everybody are dropped",
            table.count, table.max
        );
        small(Severity::Warning, why, larger);
    } else if table.max > 0 && table.max < workloads * FLOWS_OF_A_WORKLOAD {
        let why = format!(
            "{} flows may be tracked, {} for each of {workloads} managed workloads; when the table is full, new connections of everybody are dropped",
            table.max,
            table.max / workloads
        );
        let enough = workloads * FLOWS_OF_A_WORKLOAD;
        small(Severity::Note, why, format!("sysctl -w {object}={enough}"));
    }
    // The agent turns it on when it starts.
    let acct = "net/netfilter/nf_conntrack_acct";
    if matches!(facts.agent, Agent::Running { settled: true, .. }) && facts.number(acct) == Some(0)
    {
        findings.push(Finding {
            name: "conntrack-acct-off",
            severity: Severity::Warning,
            object: acct.to_owned(),
            why: "`sortie flows` has no bytes".to_owned(),
            fix: format!("sysctl -w {acct}=1"),
        });
    }
}

/// A larger packet than the uplink takes must be answered by an ICMP error, which firewalls eat.
pub(super) fn mtu(facts: &Facts, findings: &mut Vec<Finding>) {
    let uplinks = facts.uplinks();
    let smallest = facts
        .interfaces
        .iter()
        .filter(|interface| uplinks.contains(&interface.name.as_str()))
        .min_by_key(|interface| interface.mtu);
    let Some(uplink) = smallest else { return };
    for bridge in facts.bridges().filter(|bridge| bridge.mtu > uplink.mtu) {
        findings.push(Finding {
            name: "mtu-mismatch",
            severity: Severity::Warning,
            object: bridge.name.clone(),
            why: format!(
                "its containers send packets of up to {} bytes, and {} takes {}: connections hang where the ICMP errors about it are lost",
                bridge.mtu, uplink.name, uplink.mtu
            ),
            fix: format!(
                "ip link set {} mtu {mtu}; for Docker make the network with --opt com.docker.network.driver.mtu={mtu}",
                bridge.name,
                mtu = uplink.mtu
            ),
        });
    }
}
