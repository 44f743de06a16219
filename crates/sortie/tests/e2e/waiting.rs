//! What has passed the guard and waits for the link address of its next hop: the kernel keeps it
//! for seconds, and sends it behind a change that gave its sender another address.

use std::net::{IpAddr, UdpSocket};

use sortie_lab::{Container, ContainerSpec, Place as _, Result, Traffic, eventually_true};

use crate::stage::{DOCKER_29_NFTABLES, LIMIT, Stage, ip};

const TO: [&str; 2] = ["198.51.100.9", "2001:db8:51::9"];

/// The policy's address ends with this.
fn apply(stage: &Stage, last: u8) -> Result<()> {
    stage.applied(&format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: pay}}
spec:
  workloads: [{{containers: {{names: [pay]}}}}]
  action: Egress
  egress: {{addresses: [203.0.113.{last}, \"2001:db8:113::{last}\"]}}
"
    ))?;
    Ok(())
}

/// A flow of datagrams to each destination.
fn flows(from: &Container) -> Result<Vec<UdpSocket>> {
    let flow = |to: &str| {
        let to: IpAddr = ip(to);
        let any: IpAddr = match to {
            IpAddr::V4(_) => [0; 4].into(),
            IpAddr::V6(_) => [0; 16].into(),
        };
        let socket = from.place()?.run(|| UdpSocket::bind((any, 0)))?;
        let socket = socket.expect("a socket");
        socket.connect((to, 7)).expect("a route");
        Ok(socket)
    };
    TO.into_iter().map(flow).collect()
}

/// Whether packets of both families wait for the router.
fn wait(stage: &Stage) -> bool {
    let waits = |family: &str| {
        let line = format!("{family} neigh show dev up0 nud incomplete");
        stage.host.ip(&line).is_ok_and(|found| !found.is_empty())
    };
    waits("-4") && waits("-6")
}

#[test]
fn what_waits_for_its_next_hop_is_not_sent_behind_a_change() -> Result<()> {
    let stage = Stage::new("waiting", DOCKER_29_NFTABLES)?;
    apply(&stage, 11)?;
    let pay = stage.managed(&ContainerSpec::new("pay"))?;
    let to = TO.map(ip);
    for (to, source) in to.iter().zip(["203.0.113.11", "2001:db8:113::11"]) {
        stage
            .lab
            .expect_source(&pay, Traffic::Udp(7), *to, ip(source))?;
    }

    // The router does not say where it is.
    let router = stage.lab.internet().netns();
    router.nft("add table bridge deaf")?;
    router.nft("add chain bridge deaf in { type filter hook prerouting priority 0; }")?;
    router.nft("add rule bridge deaf in ether type arp drop")?;
    router.nft("add rule bridge deaf in icmpv6 type nd-neighbor-solicit drop")?;
    stage.host.ip("neigh flush dev up0")?;
    let mark = stage.lab.mark()?;
    let flows = flows(&pay)?;
    eventually_true(LIMIT, "packets wait for the router", || {
        for flow in &flows {
            flow.send(b"?").expect("room in the buffer");
        }
        wait(&stage)
    })?;
    apply(&stage, 12)?;
    router.nft("delete table bridge deaf")?;

    for (to, source) in to.iter().zip(["203.0.113.12", "2001:db8:113::12"]) {
        stage
            .lab
            .expect_source(&pay, Traffic::Udp(7), *to, ip(source))?;
        stage.lab.expect_only_sources(&mark, *to, &[ip(source)])?;
    }
    Ok(())
}
