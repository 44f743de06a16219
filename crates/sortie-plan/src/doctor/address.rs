//! Egress addresses: there, ours alone, and chosen by nobody else.

use std::net::IpAddr;

use super::facts::{Address, Facts};
use super::{Finding, Severity};

fn on_host(facts: &Facts, wanted: IpAddr) -> Option<&Address> {
    facts.addresses.iter().find(|found| found.address == wanted)
}

pub(super) fn missing(facts: &Facts, findings: &mut Vec<Finding>) {
    for egress in facts.egress() {
        if let Some(fix) = &egress.fix
            && on_host(facts, egress.address).is_none()
        {
            findings.push(Finding {
                name: "address-missing",
                severity: Severity::Error,
                object: egress.address.to_string(),
                why: "it is not on this host, so what a policy gives it to sends nothing"
                    .to_owned(),
                fix: fix.clone(),
            });
        }
    }
}

/// The kernel does not use an address that another machine answered for (RFC 4862, 5.4).
pub(super) fn duplicate(facts: &Facts, findings: &mut Vec<Finding>) {
    let duplicates = facts.addresses.iter().filter(|address| address.duplicate);
    for Address {
        address,
        prefix,
        interface,
        ..
    } in duplicates
    {
        findings.push(Finding {
            name: "address-duplicate",
            severity: Severity::Error,
            object: address.to_string(),
            why: format!("another machine behind {interface} has it, so the kernel does not use it"),
            fix: format!(
                "take it off the other machine, then: ip addr del {address}/{prefix} dev {interface}; ip addr add {address}/128 dev {interface} preferred_lft 0"
            ),
        });
    }
}

/// Steps, in order:
/// 1. A route or the host's own choice names it: others leave with it now.
/// 2. IPv6 that is not deprecated: any new connection may choose it (RFC 6724, rule 3).
/// 3. IPv4 with a subnet: the kernel chooses it in that subnet when the address before it goes.
pub(super) fn selectable(facts: &Facts, findings: &mut Vec<Finding>) {
    for egress in facts.egress() {
        let Some(found) = on_host(facts, egress.address) else {
            continue;
        };
        let Address {
            address,
            prefix,
            interface,
            ..
        } = found;
        let chosen = facts.chosen.iter().find(|chosen| chosen.source == *address);
        let (why, fix) = if let Some(chosen) = chosen {
            let why = format!(
                "the host itself and unmanaged containers leave with it by the route {}",
                chosen.route
            );
            let fix = if address.is_ipv6() && !found.deprecated {
                deprecate(*address, *prefix, interface)
            } else {
                format!("ip route change {} src HOST_ADDRESS", chosen.route)
            };
            (why, fix)
        } else if address.is_ipv6() && !found.deprecated {
            (
                "the kernel may choose it for any new connection of the host".to_owned(),
                deprecate(*address, *prefix, interface),
            )
        } else if address.is_ipv4() && *prefix < 32 {
            (
                format!(
                    "with its subnet /{prefix} the kernel chooses it when the interface's first address goes"
                ),
                format!(
                    "ip addr add {address}/32 dev {interface} && ip addr del {address}/{prefix} dev {interface}"
                ),
            )
        } else {
            continue;
        };
        findings.push(Finding {
            name: "address-selectable",
            severity: Severity::Error,
            object: address.to_string(),
            why,
            fix,
        });
    }
}

pub(super) fn ports(facts: &Facts, findings: &mut Vec<Finding>) {
    for egress in facts.egress() {
        if let Some(scarce) = &egress.scarce {
            findings.push(Finding {
                name: "ports-scarce",
                severity: Severity::Warning,
                object: egress.address.to_string(),
                why: format!(
                    "{} of its {} source ports towards {} are in use; when there are no more, new connections there are dropped",
                    scarce.used, scarce.of, scarce.towards
                ),
                fix: format!(
                    "ip addr add OTHER_ADDRESS dev {}; write it into the policies of some of the workloads",
                    egress.uplink.as_deref().unwrap_or("UPLINK")
                ),
            });
        }
    }
}

fn deprecate(address: IpAddr, prefix: u8, interface: &str) -> String {
    format!("ip addr change {address}/{prefix} dev {interface} preferred_lft 0")
}
