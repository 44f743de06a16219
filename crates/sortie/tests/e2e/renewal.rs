//! Egress addresses whose lifetimes somebody renews: a real DHCP client, and what clients of DHCPv6
//! and router advertisements do. Renewed, they disturb nothing; lost, they close; another address is
//! not taken for them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::sys::signal::Signal;
use sortie_lab::{ContainerSpec, Host, HostSpec, Process, Result, Traffic, UplinkSpec, eventually};

use crate::change::Open;
use crate::sender::Sender;
use crate::stage::{DOCKER_29_NFTABLES, GUARD_ALL, LIMIT, Stage, ip};

const V4: &str = "203.0.113.50";
const V6: &str = "2001:db8:113::50";
/// What the server gives at another time.
const OTHER: &str = "203.0.113.51";

/// What udhcpc runs. A renewal takes the default route away and adds it again, as the script of the
/// package does.
const SCRIPT: &str = r#"#!/bin/sh -e
case $1 in
deconfig)
    ip -4 addr flush dev $interface
    ;;
bound|renew)
    ip addr replace $ip/24 dev $interface valid_lft $lease preferred_lft $lease
    ip -4 route del default dev $interface 2>/dev/null || :
    ip route add default via $router dev $interface metric 100
    echo "$1 $ip" >>$(dirname $0)/leases
    ;;
esac
"#;

/// A DHCP server on the uplink's link that has one address to give.
fn server(host: &Host, address: &str) -> Result<Process> {
    let folder = host.folder();
    let file = folder.join("udhcpd.conf");
    let leases = folder.join(format!("leases-{address}"));
    fs::write(&leases, "").expect("a file");
    let config = format!(
        "interface up0\nstart {address}\nend {address}\nlease_file {}\npidfile {}\n\
         option subnet 255.255.255.0\noption router 203.0.113.1\noption lease 3600\n",
        leases.display(),
        folder.join("udhcpd.pid").display(),
    );
    fs::write(&file, config).expect("a file");
    let mut command = Command::new("busybox");
    command.args(["udhcpd", "-f"]).arg(&file);
    host.spawn("udhcpd", command)
}

fn client(stage: &Stage) -> Result<Process> {
    let script = stage.folder().join("dhcp");
    fs::write(&script, SCRIPT).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a script");
    let mut command = Command::new("busybox");
    command.args(["udhcpc", "-f", "-i", "up0", "-t", "100", "-T", "1", "-s"]);
    command.arg(&script);
    stage.host.spawn("udhcpc", command)
}

/// Waits until the client has got so many leases and renewals, the last one of this kind.
fn leased(stage: &Stage, count: usize, last: &str) -> Result<()> {
    let file = stage.folder().join("leases");
    eventually(LIMIT, &format!("lease {count} is {last:?}"), || {
        let leases = fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<_> = leases.lines().collect();
        let found = lines.len() == count && lines.last() == Some(&last);
        found.then_some(()).ok_or(leases)
    })
}

/// Nothing of this family leaves.
#[track_caller]
fn closed(stage: &Stage, web: &Sender, v6: bool) -> Result<()> {
    let to = if v6 { web.to.v6 } else { web.to.v4 };
    stage
        .lab
        .expect_nothing(&web.container, Traffic::Udp(7), to)
}

/// What a client of DHCPv6 does with its address.
fn lives(stage: &Stage, verb: &str, lifetimes: &str) -> Result<()> {
    let line = format!("addr {verb} {V6}/128 dev up0 {lifetimes}");
    stage.host.ip(&line).map(drop)
}

#[test]
fn a_lease_is_renewed_lost_and_another() -> Result<()> {
    let uplink = UplinkSpec::new(&["203.0.113.5/24", "2001:db8:113::5/64"]);
    let mut stage = Stage::with_uplinks("renewal", DOCKER_29_NFTABLES, [uplink])?;
    let other = HostSpec::new("dhcp").uplink(UplinkSpec::new(&["203.0.113.6/24"]));
    let other = stage.lab.host(&other)?;
    let serving = server(&other, V4)?;
    let client = client(&stage)?;
    leased(&stage, 1, &format!("bound {V4}"))?;
    lives(&stage, "add", "valid_lft 3600 preferred_lft 3600 nodad")?;
    stage.start_agent(GUARD_ALL)?;
    let spec = ContainerSpec::new("web").label("sortie.egress", &format!("{V4},{V6}"));
    let web = Sender::with_sources(&stage, &spec, ip(V4), ip(V6))?;
    web.arrives(&stage)?;
    let mut open = [
        Open::new(&web.container, ip("198.51.100.99"), ip(V4))?,
        Open::new(&web.container, ip("2001:db8:51::99"), ip(V6))?,
    ];

    // Renewed: longer, shorter, deprecated, and preferred again.
    for (count, preferred) in [(2, 7200), (3, 0), (4, 1800)] {
        client.signal(Signal::SIGUSR1)?;
        leased(&stage, count, &format!("renew {V4}"))?;
        let v4 = format!("addr change {V4}/24 dev up0 valid_lft 7200 preferred_lft {preferred}");
        stage.host.ip(&v4)?;
        lives(
            &stage,
            "change",
            &format!("valid_lft 7200 preferred_lft {preferred}"),
        )?;
        for open in &mut open {
            open.goes_on();
        }
        web.arrives(&stage)?;
        stage.wait_for("web", "Ready")?;
    }

    // Another lease; the IPv6 address is not concerned.
    drop(serving);
    let serving = server(&other, OTHER)?;
    client.signal(Signal::SIGUSR2)?;
    client.signal(Signal::SIGUSR1)?;
    leased(&stage, 5, &format!("bound {OTHER}"))?;
    stage.wait_for("web", "Blocked")?;
    let told = stage.workload("web").expect("web").to_string();
    assert!(
        told.contains(&format!("{V4} is not on this host")),
        "{told}"
    );
    closed(&stage, &web, false)?;
    let to = stage.lab.destination()?;
    let udp = Traffic::Udp(7);
    stage
        .lab
        .expect_source(&stage.host, udp, to.v4, ip(OTHER))?;
    stage
        .lab
        .expect_source(&web.container, udp, to.v6, ip(V6))?;
    open[1].goes_on();

    // It runs out: the kernel takes it away.
    lives(&stage, "change", "valid_lft 1 preferred_lft 1")?;
    eventually(LIMIT, "its time is over", || {
        let left = stage.host.ip("-6 addr show dev up0");
        let left = left.map_err(|error| error.to_string())?;
        if left.contains(V6) { Err(left) } else { Ok(()) }
    })?;
    closed(&stage, &web, true)?;

    // Back again.
    drop(serving);
    let _serving = server(&other, V4)?;
    client.signal(Signal::SIGUSR2)?;
    client.signal(Signal::SIGUSR1)?;
    leased(&stage, 6, &format!("bound {V4}"))?;
    lives(&stage, "add", "valid_lft 3600 preferred_lft 0 nodad")?;
    stage.wait_for("web", "Ready")?;
    web.arrives(&stage)?;
    web.never_otherwise(&stage)
}
