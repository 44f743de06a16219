//! The gateway's sockets keep their source against other programs' NAT, and leave by its uplink only.

use std::net::UdpSocket;

use nix::sys::socket::{setsockopt, sockopt};
use sortie_api::mark_mask::MarkMask;
use sortie_api::workload::IfIndex;
use sortie_plan::compile::shared::{self, Topology};
use sortie_plan::environment::Environment;
use sortie_plan::mark::Mark;

use super::*;
use crate::testing::Container;

const PATIENCE: Duration = Duration::from_secs(30);
const HOST: &str = "172.17.0.10";
const EGRESS: &str = "172.17.0.11";
const FAR: (&str, u16) = ("172.17.0.2", 9);

/// The host's own chains, with one egress address on an uplink.
fn wanted(uplink: IfIndex) -> HostState {
    let topology = Topology {
        by_gateway: true,
        ..Topology::default()
    };
    let mut state = shared::skeleton(&Environment::default(), &topology);
    for (family, set, key, data) in shared::address(EGRESS.parse().unwrap(), Some(uplink)) {
        let table = state.tables.get_mut(&family).unwrap();
        table.sets.get_mut(&set).unwrap().elements.insert(key, data);
    }
    state
}

fn index(link: &str) -> IfIndex {
    let shown = sh(&format!("ip -o link show {link}"));
    IfIndex(shown.split(':').next().unwrap().parse().unwrap())
}

/// A new flow's first packet, with the gateway's mark or without. The kernel tells a sender at once
/// of a packet that the guard drops.
fn sent(source: &str, is_gateways: bool) -> std::io::Result<usize> {
    let socket = UdpSocket::bind((source, 0))?;
    if is_gateways {
        let mark = Mark::gateway(MarkMask::default()).value();
        setsockopt(&socket, sockopt::Mark, &mark)?;
    }
    socket.send_to(b"?", FAR)
}

#[test]
fn the_gateways_source_stays_against_foreign_nat_and_leaves_by_its_uplink_only() {
    in_namespace(|| {
        let far = Container::new();
        sh(&format!(
            "ip addr add {HOST}/16 dev port; ip addr add {EGRESS}/32 dev port
            nft add table ip other
            nft add chain ip other post '{{ type nat hook postrouting priority 100; }}'
            nft add rule ip other post oifname port masquerade"
        ));
        let seen = far.namespace.enter(|| UdpSocket::bind(FAR).unwrap());
        let seen = seen.unwrap();
        seen.set_read_timeout(Some(PATIENCE)).unwrap();
        let source = || {
            let (_, from) = seen.recv_from(&mut [0; 8]).unwrap();
            from.ip().to_string()
        };
        let (mut kernel, _state) = open_kernel();
        let uplink = index("port");
        let ops = diff(&Observed::default(), wanted(uplink));
        kernel.apply(&ops).unwrap();
        sent(EGRESS, false).unwrap();
        assert_eq!(source(), HOST, "the foreign rule takes it");
        sent(EGRESS, true).unwrap();
        assert_eq!(source(), EGRESS);

        let dropped = |kernel: &mut Kernel, reason: &str| {
            let counts = kernel.named_counts(Family::Inet);
            counts.unwrap()[reason].packets
        };
        let refused = |what: &str, source: &str| {
            let error = sent(source, true).expect_err(what);
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{what}");
        };
        refused("an address that is no policy's", HOST);
        assert_eq!(dropped(&mut kernel, "wrong-source"), 1);
        let observed = kernel.observe().unwrap();
        let ops = diff(&observed, wanted(IfIndex(uplink.0 + 1000)));
        kernel.apply(&ops).unwrap();
        refused("another uplink", EGRESS);
        assert_eq!(dropped(&mut kernel, "wrong-uplink"), 1);
        // Nobody else is touched.
        sent(HOST, false).unwrap();
        assert_eq!(source(), HOST);
    });
}
