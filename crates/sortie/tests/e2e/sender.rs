//! A container that sends to a destination of its own from its first instruction, without end.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use sortie_lab::{
    ALL_TRAFFIC, Call, Container, ContainerSpec, Destination, Mark, Result, Traffic, eventually,
};

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

/// Open connections of a container, one of each family.
pub(crate) struct Connections {
    open: [TcpStream; 2],
    to: Destination,
    /// What conntrack calls them. Without its entry a connection may go on as a new flow that is
    /// translated just so; where the other side speaks first, it ends.
    tracked: BTreeSet<String>,
}

impl Connections {
    /// Connects; the other side sees these sources.
    pub(crate) fn open(
        stage: &Stage,
        from: &Container,
        to: Destination,
        sources: [&str; 2],
    ) -> Result<Self> {
        let open = |to: IpAddr, source: &str| -> Result<TcpStream> {
            let tcp = Call::new(Traffic::Tcp(7), to).connect(from, 7)?;
            let mut greeting = String::new();
            let mut reader = BufReader::new(&tcp);
            reader.read_line(&mut greeting).expect("a greeting");
            let seen: SocketAddr = greeting.trim().parse().expect("an address");
            assert_eq!(seen.ip(), ip(source));
            Ok(tcp)
        };
        let open = [open(to.v4, sources[0])?, open(to.v6, sources[1])?];
        let tracked = tracked(stage, to)?;
        assert_eq!(tracked.len(), 2, "{tracked:?}");
        Ok(Self { open, to, tracked })
    }

    /// Each still gets its echo, as the flow that it was.
    pub(crate) fn go_on(&self, stage: &Stage) -> Result<()> {
        for mut tcp in &self.open {
            tcp.set_read_timeout(Some(LIMIT)).expect("a limit");
            let mut echo = [0; 4];
            tcp.write_all(b"more").expect("it is open");
            tcp.read_exact(&mut echo).expect("an echo");
            assert_eq!(&echo, b"more");
        }
        assert_eq!(tracked(stage, self.to)?, self.tracked);
        Ok(())
    }

    /// Their flows have ended.
    pub(crate) fn are_forgotten(&self, stage: &Stage) -> Result<()> {
        assert_eq!(tracked(stage, self.to)?, BTreeSet::new());
        Ok(())
    }
}

/// The ids of all TCP flows to these addresses.
fn tracked(stage: &Stage, to: Destination) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for (family, to) in [("ipv4", to.v4), ("ipv6", to.v6)] {
        let mut list = Command::new("conntrack");
        let to = to.to_string();
        list.args(["-L", "-o", "id", "-f", family, "-p", "tcp", "-d", &to]);
        let listed = stage.host.run(LIMIT, list)?;
        let fields = listed.stdout.split_whitespace();
        ids.extend(
            fields
                .filter(|field| field.starts_with("id="))
                .map(str::to_owned),
        );
    }
    Ok(ids)
}
