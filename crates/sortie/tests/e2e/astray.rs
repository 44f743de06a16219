//! A container's port that somebody takes out of its network's bridge, without a word to the engine:
//! told at once, never with a wrong source, and as before when it is back.

use std::time::Duration;

use serde_json::Value;
use sortie_lab::{Call, ContainerSpec, NetworkSpec, Place, Result, Traffic, eventually};

use crate::sender::Sender;
use crate::stage::{DOCKER_29_NFTABLES, Stage, ip};

/// Less than the time between two looks at all containers (30 s).
const AT_ONCE: Duration = Duration::from_secs(20);

/// The host's end of a container's `eth0`.
fn port(stage: &Stage, place: &dyn Place) -> Result<String> {
    let read = |text: String| -> Value { serde_json::from_str(&text).expect("what ip -j prints") };
    let inside = read(place.place()?.ip("-j link show eth0")?);
    let links = read(stage.host.ip("-j link show")?);
    let mut links = links.as_array().into_iter().flatten();
    let port = links.find(|link| link["ifindex"] == inside[0]["link_index"]);
    Ok(port.expect("a port")["ifname"]
        .as_str()
        .expect("a name")
        .to_owned())
}

fn is_soon(stage: &Stage, wanted: &str) -> Result<()> {
    eventually(AT_ONCE, &format!("web is {wanted} at once"), || {
        let web = stage.workload("web").unwrap_or_default();
        (web["state"] == wanted)
            .then_some(())
            .ok_or(web.to_string())
    })
}

/// In no bridge, in another network's, in one that no engine knows, and back each time.
#[test]
fn a_port_leaves_its_bridge() -> Result<()> {
    let stage = Stage::new("astray", DOCKER_29_NFTABLES)?;
    let aside = NetworkSpec::new("aside")
        .subnet("10.77.1.0/24")
        .subnet("fd77:1::/64")
        .option("com.docker.network.bridge.name", "aside0");
    stage.engine.network(&aside)?;
    stage.host.ip("link add foreign0 type bridge")?;
    stage.host.ip("link set foreign0 up")?;
    let mut web = Sender::labelled(&stage, ContainerSpec::new("web"), 11)?;
    stage.wait_for("web", "Ready")?;
    web.begins_anew(&stage)?;
    web.arrives(&stage)?;
    let port = port(&stage, &web.container)?;
    for elsewhere in ["nomaster", "master aside0", "master foreign0"] {
        stage.host.ip(&format!("link set {port} {elsewhere}"))?;
        is_soon(&stage, "Error")?;
        let told = stage.workload("web").expect("web").to_string();
        assert!(told.contains("not in that network's bridge"), "{told}");
        // The container looks for its router anew, and finds one there.
        let inside = web.container.place()?;
        inside.ip("neigh flush dev eth0")?;
        let (mark, far) = (stage.lab.mark()?, stage.lab.destination()?);
        for to in [far.v4, far.v6] {
            let call = Call::new(Traffic::Udp(7), to).within(Duration::from_secs(2));
            assert!(call.make(&web.container).is_err(), "{elsewhere}: {to}");
        }
        stage.lab.fence()?;
        for (to, source) in [(far.v4, "203.0.113.11"), (far.v6, "2001:db8:113::11")] {
            stage.lab.expect_only_sources(&mark, to, &[ip(source)])?;
        }
        stage.host.ip(&format!("link set {port} master docker0"))?;
        inside.ip("neigh flush dev eth0")?;
        is_soon(&stage, "Ready")?;
        web.arrives(&stage)?;
        web.never_otherwise(&stage)?;
    }
    Ok(())
}
