//! What other programs hold: chains at our hooks, tables of our name, devices that moved.

use super::facts::{Agent, BaseChain, Facts, Hook};
use super::{Finding, Severity};
use crate::environment::Priorities;
use crate::mark::Mark;

fn name(chain: &BaseChain) -> String {
    format!("{} {} {}", chain.family, chain.table, chain.name)
}

/// The first translation decides; of chains with the same priority, the one hooked in last is
/// first (`nf_hook_entries_grow` puts it in front).
pub(super) fn translation(facts: &Facts, findings: &mut Vec<Finding>) {
    let ours = Priorities::default().translate;
    let before = facts
        .chains
        .iter()
        .filter(|chain| chain.hook == Hook::PostroutingNat && chain.priority <= ours);
    for chain in before {
        let order = if chain.priority == ours {
            "may decide before Sortie's"
        } else {
            "decides before Sortie's"
        };
        findings.push(Finding {
            name: "nat-before-ours",
            severity: Severity::Error,
            object: name(chain),
            why: format!(
                "it translates sources at priority {}, so it {order} at {ours}; what it gives another source is then dropped",
                chain.priority
            ),
            fix: format!(
                "nft delete chain {}; let its program add it again with priority srcnat (100)",
                name(chain)
            ),
        });
    }
}

/// A drop in any chain is final, whatever another chain accepts. Rules that decide by sets are not
/// judged.
pub(super) fn forward(facts: &Facts, findings: &mut Vec<Finding>) {
    let drops = |chain: &&BaseChain| chain.hook == Hook::Forward && chain.drops;
    for chain in facts.chains.iter().filter(drops) {
        let Some(names) = &chain.names else { continue };
        let is_named = |interface: &str| {
            names.iter().any(|name| match name.strip_suffix('*') {
                Some(beginning) => interface.starts_with(beginning),
                None => name == interface,
            })
        };
        let families: &[bool] = match chain.family.as_str() {
            "ip" => &[false],
            "ip6" => &[true],
            _ => &[false, true],
        };
        for bridge in facts.bridges() {
            let concerned = families
                .iter()
                .any(|v6| facts.has_family(&bridge.name, *v6));
            if concerned && !is_named(&bridge.name) {
                findings.push(Finding {
                    name: "forward-drop",
                    severity: Severity::Warning,
                    object: name(chain),
                    why: format!(
                        "it drops what its rules do not accept, and none of them names {}",
                        bridge.name
                    ),
                    fix: format!(
                        "nft insert rule {} iifname {} accept",
                        name(chain),
                        bridge.name
                    ),
                });
            }
        }
    }
}

/// Somebody whose packets get a value of ours is routed as our uplink; who sets or clears our bits
/// on a container's packets sends them where the host's routes lead.
pub(super) fn marks(facts: &Facts, findings: &mut Vec<Finding>) {
    let steered = [false, true]
        .iter()
        .any(|v6| !facts.steered(*v6).is_empty());
    let mask = facts.mark_mask;
    let bits = mask.bits();
    let clashes = facts.marks.iter().filter(|mark| match mark.value {
        Some(value) => Mark::is_given_out(mask, value & mark.bits & bits),
        None => mark.bits & bits != 0,
    });
    for mark in clashes {
        findings.push(Finding {
            name: "mark-clash",
            severity: if steered {
                Severity::Warning
            } else {
                Severity::Note
            },
            object: mark.by.clone(),
            why: format!(
                "it uses the mark bits {:#x}, and Sortie names uplinks with {bits:#x}: packets may leave by another uplink, and are dropped there",
                mark.bits
            ),
            fix: "let its program use other bits, or write free ones as `markMask` into agent.yaml"
                .to_owned(),
        });
    }
}

pub(super) fn legacy(facts: &Facts, findings: &mut Vec<Finding>) {
    if facts.legacy.iter().any(|table| table == "filter") {
        findings.push(Finding {
            name: "iptables-legacy-present",
            severity: Severity::Warning,
            object: facts.legacy.join(", "),
            why: "its rules apply beside those of nf_tables and are not seen here: `sortie run` and `attach` cannot add their accept rules to them".to_owned(),
            fix: "update-alternatives --set iptables /usr/sbin/iptables-nft, start again what makes the rules, then: modprobe -r iptable_nat iptable_filter".to_owned(),
        });
    }
}

/// Steps, in order:
/// 1. Without an agent nobody else may own tables of our name.
/// 2. With one that has heard from its engine, they must be there.
pub(super) fn tables(facts: &Facts, findings: &mut Vec<Finding>) {
    let mut add = |name, object: String, why: String, fix: &str| {
        findings.push(Finding {
            name,
            severity: Severity::Error,
            object,
            why,
            fix: fix.to_owned(),
        });
    };
    match &facts.agent {
        Agent::Absent => {
            for table in &facts.tables {
                if let Some(owner) = table.owner {
                    add(
                        "table-held",
                        format!("{} sortie", table.family),
                        format!(
                            "a process that is no agent owns it (netlink port {owner}), so the agent cannot start"
                        ),
                        "sortie down --force",
                    );
                }
            }
        }
        Agent::Running { settled: true, .. } => {
            for family in ["bridge", "inet", "netdev"] {
                if !facts.tables.iter().any(|table| table.family == family) {
                    add(
                        "table-missing",
                        format!("{family} sortie"),
                        "another program removed it: nothing is translated or guarded".to_owned(),
                        "systemctl restart sortie",
                    );
                }
            }
        }
        Agent::Silent(_) | Agent::Running { .. } => {}
    }
}

/// A chain at a device's egress does not follow when the device is renamed or made anew.
pub(super) fn uplinks(facts: &Facts, findings: &mut Vec<Finding>) {
    if !facts.tables.iter().any(|table| table.family == "netdev") {
        return;
    }
    for uplink in facts.uplinks() {
        if !facts.hooked.iter().any(|hooked| hooked == uplink) {
            findings.push(Finding {
                name: "uplink-unhooked",
                severity: Severity::Error,
                object: uplink.to_owned(),
                why: "the last line is not hooked in there: was it renamed or made anew while no agent ran?".to_owned(),
                fix: "systemctl restart sortie".to_owned(),
            });
        }
    }
}

pub(super) fn agent(facts: &Facts, findings: &mut Vec<Finding>) {
    let finding = match &facts.agent {
        Agent::Running { .. } => return,
        Agent::Absent => Finding {
            name: "agent-absent",
            severity: Severity::Note,
            object: "agent".to_owned(),
            why: "no agent runs, so egress addresses were not looked at".to_owned(),
            fix: "systemctl start sortie".to_owned(),
        },
        Agent::Silent(why) => Finding {
            name: "agent-silent",
            severity: Severity::Error,
            object: "agent".to_owned(),
            why: why.clone(),
            fix: "systemctl restart sortie".to_owned(),
        },
    };
    findings.push(finding);
}

/// Their packets are those of a process of the user, whatever policies say.
pub(super) fn rootless(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.extend(facts.rootless.iter().map(|(user, containers)| Finding {
        name: "rootless-unmanaged",
        severity: Severity::Note,
        object: format!("user {user}"),
        why: format!(
            "{containers} of this user's own containers run: nobody manages them, and they leave with the host's address"
        ),
        fix: "run them as root, or what is in them with `sortie run`".to_owned(),
    }));
}
