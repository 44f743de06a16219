//! Labelled containers beside unlabelled ones, on every engine.

use sortie_lab::{ALL_TRAFFIC, ContainerSpec, EngineKind, Result, Traffic};

use crate::stage::{HOST_V4, HOST_V6, Stage, ip};

/// Two labelled containers on one bridge leave with two addresses, their neighbour as ever; TCP,
/// UDP and ICMP echo, IPv4 and IPv6; among each other nothing changes.
fn each_leaves_with_its_own_address(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("own", engine)?;
    stage.network("shop", 1, &[])?;
    // Which Docker gives, and Podman does not: busybox pings with a raw socket.
    let spec = |name: &str| {
        ContainerSpec::new(name)
            .network("shop")
            .capability("NET_RAW")
    };
    let labelled = |name: &str, last: u8| {
        let egress = format!("203.0.113.{last},2001:db8:113::{last}");
        stage.managed(&spec(name).label("sortie.egress", &egress))
    };
    let web = labelled("web", 11)?;
    let mail = labelled("mail", 12)?;
    let other = stage.engine.run(&spec("other"))?;
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        for (container, v4, v6) in [
            (&web, "203.0.113.11", "2001:db8:113::11"),
            (&mail, "203.0.113.12", "2001:db8:113::12"),
            (&other, HOST_V4, HOST_V6),
        ] {
            stage.lab.expect_source(container, traffic, to.v4, ip(v4))?;
            stage.lab.expect_source(container, traffic, to.v6, ip(v6))?;
        }
    }
    // On the bridge itself nothing is translated.
    for v6 in [false, true] {
        let own = web.address("shop", v6)?;
        let neighbour =
            sortie_lab::Call::new(Traffic::Ping, mail.address("shop", v6)?).make(&web)?;
        assert_eq!(neighbour, None, "echo replies tell no source");
        assert!(
            mail.exec(&["busybox", "ping", "-c", "1", &own.to_string()])?
                .code
                == 0
        );
    }
    Ok(())
}

on_every_engine_and_podman!(each_leaves_with_its_own_address);
