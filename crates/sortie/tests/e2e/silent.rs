//! An uplink whose router answers no more, though the cable is there: its containers are closed, and
//! never leave by another uplink; those of other uplinks are not concerned.

use std::time::Duration;

use sortie_lab::{Call, Container, Result, Traffic, eventually};

use crate::stage::{DOCKER_29_NFTABLES, LIMIT, Stage};
use crate::uplinks::{self, FIRST, FIRST_V6, SECOND, SECOND_V6, leaves, nothing_leaves};

/// The router on a link of the internet's hears and says nothing.
fn silence(stage: &Stage, link: usize) -> Result<()> {
    let internet = stage.lab.internet().netns();
    internet.nft("add table netdev silent")?;
    for hook in ["ingress", "egress"] {
        internet.nft(&format!(
            "add chain netdev silent {hook} {{ type filter hook {hook} device segment{link} priority 0 ; policy drop ; }}"
        ))?;
    }
    // The host forgets where it was, as it does by itself after some time.
    for family in ["-4", "-6"] {
        stage
            .host
            .ip(&format!("{family} neigh flush dev up{link}"))?;
    }
    Ok(())
}

/// What `status` says of an uplink.
fn told(stage: &Stage, uplink: &str) -> Result<String> {
    let status = stage.json(&["status"])?;
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    let of_uplink = problems
        .iter()
        .filter(|problem| problem["object"] == format!("uplink {uplink}"));
    let messages = of_uplink.map(|problem| problem["message"].to_string());
    Ok(messages.collect::<Vec<_>>().join("\n"))
}

fn is_answered(stage: &Stage, container: &Container) -> Result<()> {
    for v6 in [false, true] {
        eventually(LIMIT, "the container is answered again", || {
            let to = stage.lab.destination().map_err(|error| error.to_string())?;
            let to = if v6 { to.v6 } else { to.v4 };
            let call = Call::new(Traffic::Udp(7), to).within(Duration::from_secs(1));
            call.make(container).map_err(|error| error.to_string())
        })?;
    }
    Ok(())
}

#[test]
fn a_router_answers_no_more() -> Result<()> {
    let mut stage = uplinks::stage("silent", DOCKER_29_NFTABLES)?;
    stage.start_agent("")?;
    let first = uplinks::container(&stage, "first", [FIRST, FIRST_V6], 8081)?;
    let second = uplinks::container(&stage, "second", [SECOND, SECOND_V6], 8082)?;
    let all = [
        (
            &first,
            [FIRST, FIRST_V6],
            ["203.0.113.1", "2001:db8:113::1"],
        ),
        (&second, [SECOND, SECOND_V6], ["192.0.2.1", "2001:db8:2::1"]),
    ];
    for (container, name) in [(&first, "first"), (&second, "second")] {
        stage.wait_for(name, "Ready")?;
        is_answered(&stage, container)?;
    }
    for link in [1, 0] {
        let (container, sources, gateways) = all[link];
        let (other, other_sources, _) = all[1 - link];
        let uplink = format!("up{link}");
        leaves(&stage, container, sources, &uplink)?;
        assert_eq!(told(&stage, &uplink)?, "");
        silence(&stage, link)?;
        nothing_leaves(&stage, container)?;
        leaves(&stage, other, other_sources, &format!("up{}", 1 - link))?;
        let message = told(&stage, &uplink)?;
        for (gateway, how) in gateways.into_iter().zip(["ARP", "neighbour discovery"]) {
            let wanted = format!("its gateway {gateway} does not answer ({how})");
            assert!(message.contains(&wanted), "{message}");
        }
        assert_eq!(stage.run(&["status"])?.code(), 1);

        stage
            .lab
            .internet()
            .netns()
            .nft("delete table netdev silent")?;
        is_answered(&stage, container)?;
        leaves(&stage, container, sources, &uplink)?;
        assert_eq!(told(&stage, &uplink)?, "");
    }
    Ok(())
}
