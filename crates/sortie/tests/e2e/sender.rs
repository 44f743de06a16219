//! A container that sends to a destination of its own from its first instruction, without end.

use std::net::IpAddr;

use sortie_lab::{ALL_TRAFFIC, Container, ContainerSpec, Destination, Mark, Result, eventually};

use crate::stage::{LIMIT, Stage, ip};

/// The container, and which sources alone the other side may see it with.
pub(crate) struct Sender {
    pub(crate) container: Container,
    pub(crate) to: Destination,
    beginning: Mark,
    v4: IpAddr,
    v6: IpAddr,
}

/// New flows and an old one, with ICMP, TCP and UDP (TCP alone where the engine gives no `NET_RAW`);
/// when one ends, for whatever reason, the next begins. A connection whose flow was cut would else
/// hold its place for minutes, sending ever less. The pause leaves the machine room for the others while there is no way out at all.
fn command(to: Destination) -> String {
    let Destination { v4, v6 } = to;
    let again = |program: &str| {
        format!("while :; do {program} </dev/null >/dev/null 2>&1; usleep 20000; done")
    };
    [
        again(&format!("ping -i 0.1 {v4}")),
        again(&format!("ping -i 0.1 {v6}")),
        again(&format!("ping -c 1 -W 1 {v4}")),
        again(&format!("timeout 5 nc -w 1 {v4} 7")),
        again(&format!("timeout 5 nc -w 1 {v6} 7")),
        again(&format!("traceroute -n -q 1 -w 1 -f 9 -m 9 {v4}")),
    ]
    .join(" & ")
}

impl Sender {
    /// Runs it, labelled with the egress addresses that end with `last`.
    pub(crate) fn labelled(stage: &Stage, spec: ContainerSpec, last: u8) -> Result<Self> {
        let (v4, v6) = (format!("203.0.113.{last}"), format!("2001:db8:113::{last}"));
        let spec = spec.label("sortie.egress", &format!("{v4},{v6}"));
        Self::with_sources(stage, &spec, ip(&v4), ip(&v6))
    }

    /// Runs it; these are the only sources it may be seen with.
    pub(crate) fn with_sources(
        stage: &Stage,
        spec: &ContainerSpec,
        v4: IpAddr,
        v6: IpAddr,
    ) -> Result<Self> {
        let to = stage.lab.destination()?;
        let beginning = stage.lab.mark()?;
        let spec = spec.clone().command(&["sh", "-c", &command(to)]);
        Ok(Self {
            container: stage.engine.run(&spec)?,
            to,
            beginning,
            v4,
            v6,
        })
    }

    fn pairs(&self) -> [(IpAddr, IpAddr); 2] {
        [(self.to.v4, self.v4), (self.to.v6, self.v6)]
    }

    /// Waits until what it sends from now on arrives with its sources; then each kind of traffic
    /// of both families must.
    pub(crate) fn arrives(&self, stage: &Stage) -> Result<()> {
        let mark = stage.lab.mark()?;
        for (to, source) in self.pairs() {
            let what = format!("{to} sees {source}");
            let seen = eventually(LIMIT, &what, || -> Result<(), String> {
                let frames = stage
                    .lab
                    .frames_since(&mark)
                    .map_err(|error| error.to_string())?;
                let packets = frames.iter().filter_map(|(_, frame)| frame.left());
                // An error is the host's answer to what comes in, and no sign of a way out.
                let mut sources =
                    packets.filter(|packet| packet.destination == to && !packet.is_icmp_error());
                if sources.any(|packet| packet.source == source) {
                    return Ok(());
                }
                Err("nothing of it left".to_owned())
            });
            if let Err(error) = seen {
                panic!("{error}\n{:?}", stage.run(&["status", "--all"]));
            }
            for traffic in ALL_TRAFFIC {
                stage
                    .lab
                    .expect_source(&self.container, traffic, to, source)?;
            }
        }
        Ok(())
    }

    /// From now on only what it sends from now on counts.
    pub(crate) fn begins_anew(&mut self, stage: &Stage) -> Result<()> {
        stage.lab.fence()?;
        self.beginning = stage.lab.mark()?;
        Ok(())
    }

    /// Checks that no frame since its beginning had another source.
    pub(crate) fn never_otherwise(&self, stage: &Stage) -> Result<()> {
        stage.lab.fence()?;
        for (to, source) in self.pairs() {
            stage
                .lab
                .expect_only_sources(&self.beginning, to, &[source])?;
        }
        Ok(())
    }
}
