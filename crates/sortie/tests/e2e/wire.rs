//! A cable of the test's own between a container and the host: for those that no engine connects.

use std::process::Command;

use sortie_lab::{Container, Netns, Result};

use crate::stage::{LIMIT, Stage};

/// The container's end; it has one such cable at most.
pub(crate) const INNER: &str = "wire0";

/// Makes the cable; the host's end is `port`, up and in no bridge. The container has these addresses
/// and default routes by these routers, of both families.
pub(crate) fn connect(
    stage: &Stage,
    container: &Container,
    port: &str,
    addresses: [&str; 2],
    routers: [&str; 2],
) -> Result<Netns> {
    let pid = container.pid()?;
    for line in [
        format!("link add {port} type veth peer name {INNER} netns {pid}"),
        format!("link set {port} up"),
    ] {
        // In the host, whose process ids they are.
        let mut command = Command::new("ip");
        command.args(line.split(' '));
        let outcome = stage.host.run(LIMIT, command)?;
        assert_eq!(outcome.code(), 0, "{line}: {}", outcome.stderr);
    }
    let inside = container.netns()?;
    // Docker turns it off where a network has none.
    inside.set_sysctl(&format!("net.ipv6.conf.{INNER}.disable_ipv6"), "0")?;
    inside.ip(&format!("addr add {}/24 dev {INNER}", addresses[0]))?;
    inside.ip(&format!("addr add {}/64 dev {INNER} nodad", addresses[1]))?;
    inside.ip(&format!("link set {INNER} up"))?;
    for router in routers {
        inside.ip(&format!("route add default via {router} dev {INNER}"))?;
    }
    Ok(inside)
}
