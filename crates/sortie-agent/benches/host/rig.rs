//! A host between a container and a sink: three network namespaces, and how long a packet takes
//! through them.
//!
//! Veth devices hand a packet on in the sender's own context, so the time of `send(2)` on one CPU is
//! the cost of the whole way: container, bridge, host, uplink, and the drop at its other end.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sortie_agent::host::environment;
use sortie_api::config::{AgentConfig, Guard};
use sortie_api::workload::{
    Endpoint, Families, IfIndex, MacAddress, Network, Workload, WorkloadKind,
};
use sortie_kernel::facts;
use sortie_kernel::kernel::{Kernel, Options};
use sortie_kernel::netns::Namespace;
use sortie_plan::planner::Planner;
use sortie_workloads::simulated::simulated;

use crate::Failure;
use crate::programs::{ip, nft, run};

/// Of the measured container; beside simulated ones, which begin at 10.0.0.10.
pub(crate) const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
/// The container's with an address of its own.
const DIRECT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
/// What it leaves with.
pub(crate) const EGRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Egress addresses on the host.
const ADDRESSES: u32 = 100;

const CONTAINER_MAC: MacAddress = MacAddress([0x02, 0x42, 0xac, 0x11, 0x00, 0x02]);
const GATEWAY_MAC: &str = "02:42:ac:11:00:01";
/// The CPU that sends, so that nothing moves between caches.
const CPU: usize = 1;

/// How the container is joined to the host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Over an engine's bridge.
    Bridge,
    /// Over a veth of its own, with a public address.
    Veth,
}

/// The three namespaces.
pub(crate) struct Rig {
    pub(crate) host: Namespace,
    container: Namespace,
    sink: Namespace,
    joined: Joined,
    port: IfIndex,
    bridge: Option<IfIndex>,
}

impl Rig {
    pub(crate) fn new(joined: Joined) -> Result<Self, Failure> {
        let [host, container, sink] = [
            Namespace::anonymous()?,
            Namespace::anonymous()?,
            Namespace::anonymous()?,
        ];
        let path = |namespace: &Namespace| {
            format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                namespace.as_fd().as_raw_fd()
            )
        };
        let (inside, outside) = (path(&container), path(&sink));
        let mac = text(CONTAINER_MAC);
        let source = if joined == Joined::Bridge {
            CONTAINER
        } else {
            DIRECT
        };
        let mut script = format!(
            "link set lo up\n\
             link add up0 type veth peer name far0\n\
             link set far0 netns {outside}\n\
             link set up0 up\n\
             link add port0 address {GATEWAY_MAC} type veth peer name eth0 address {mac}\n\
             link set eth0 netns {inside}\n"
        );
        for number in 1..=ADDRESSES {
            // Writing to a String cannot fail.
            let _ = writeln!(script, "addr add 192.0.2.{number}/32 dev up0");
        }
        script += match joined {
            Joined::Bridge => {
                "link add docker0 type bridge mcast_snooping 0\n\
                 link set port0 master docker0\n\
                 link set port0 up\n\
                 addr add 172.17.0.1/16 dev docker0\n\
                 link set docker0 up\n"
            }
            Joined::Veth => "link set port0 up\n",
        };
        host.enter(|| ip(&script))??;
        container.enter(|| {
            ip(&format!(
                "link set lo up\naddr add {source}/32 dev eth0\nlink set eth0 up\n\
                 route add default dev eth0\n"
            ))
        })??;
        let far = sink.enter(|| {
            ip("link set lo up\nlink set far0 up\n")?;
            // As early as can be: what the sink costs is the same for all.
            nft(
                "table netdev sink {\n chain arriving {\n  type filter hook ingress device far0 \
                 priority 0; policy drop;\n }\n}\n",
            )?;
            mac_of("far0")
        })??;
        let (port, bridge, gateway) = host.enter(|| -> Result<_, Failure> {
            for (setting, value) in [
                ("ip_forward", "1"),
                ("conf/all/rp_filter", "0"),
                ("conf/port0/rp_filter", "0"),
            ] {
                std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value)?;
            }
            ip(&format!(
                "route add 198.18.0.0/15 via inet 192.0.2.254 dev up0 onlink\n\
                 route add default via inet 192.0.2.254 dev up0 onlink\n\
                 neigh add 192.0.2.254 lladdr {far} dev up0 nud permanent\n"
            ))?;
            let bridge = (joined == Joined::Bridge)
                .then(|| index("docker0"))
                .transpose()?;
            let gateway = mac_of(if bridge.is_some() { "docker0" } else { "port0" })?;
            Ok((index("port0")?, bridge, gateway))
        })??;
        container.enter(|| -> Result<(), Failure> {
            // One neighbour for everything: ARP has no part in this.
            ip(&format!(
                "route replace default via inet 10.255.255.254 dev eth0 onlink src {source}\n\
                 neigh add 10.255.255.254 lladdr {gateway} dev eth0 nud permanent\n"
            ))
        })??;
        Ok(Self {
            host,
            container,
            sink,
            joined,
            port,
            bridge,
        })
    }

    /// The rules that Docker 20.10 makes for its default bridge, as `iptables-save` shows them.
    pub(crate) fn docker(&self) -> Result<(), Failure> {
        self.host.enter(|| restore(DOCKER))?
    }

    /// Accepts what comes from the container's own veth, where Docker leaves room for such rules.
    pub(crate) fn let_through(&self) -> Result<(), Failure> {
        let rule = ["-I", "DOCKER-USER", "-i", "port0", "-j", "ACCEPT"];
        self.host.enter(|| run("iptables", &rule, ""))?
    }

    /// One SNAT rule for each of so many containers, as scripts make them; the measured one's is in
    /// the middle.
    pub(crate) fn iptables(&self, containers: u32) -> Result<(), Failure> {
        self.host
            .enter(|| restore(&snat_rules(containers, EGRESS)))?
    }

    /// Our tables, with so many workloads in all.
    pub(crate) fn sortie(&self, workloads: u32) -> Result<Managed, Failure> {
        self.host.enter(|| Managed::new(self, workloads))?
    }

    /// The measured workload, with a label or an address of its own.
    pub(crate) fn workload(&self) -> Workload {
        let direct = self.joined == Joined::Veth;
        let address = if direct { DIRECT } else { CONTAINER };
        let label = ("sortie.egress".to_owned(), EGRESS.to_string());
        Workload {
            id: "docker/measured".into(),
            name: "measured".to_owned(),
            kind: if direct {
                WorkloadKind::Process
            } else {
                WorkloadKind::Docker
            },
            labels: (!direct).then_some(label).into_iter().collect(),
            pid: std::process::id(),
            started: 1,
            endpoints: vec![Endpoint {
                network: "bench".to_owned(),
                port: self.port,
                bridge: self.bridge,
                mac: CONTAINER_MAC,
                addresses: vec![address.into()],
                default_route: Families::default(),
            }],
            published_udp: [].into(),
            cgroup: None,
            unmanageable: None,
        }
    }

    fn network(&self) -> Network {
        Network {
            name: "bench".to_owned(),
            labels: std::collections::BTreeMap::new(),
            bridge: self.bridge,
            bridge_name: None,
            subnets: "172.17.0.0/16".parse().into_iter().collect(),
        }
    }

    /// Sends so many packets of one flow; nanoseconds for each.
    pub(crate) fn established(&self, packets: u32) -> Result<f64, Failure> {
        self.send(packets, |_| {
            SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 1), 7)
        })
    }

    /// Sends the first packets of so many flows; nanoseconds for each.
    pub(crate) fn new_flows(&self, flows: u32) -> Result<f64, Failure> {
        const PORTS: u32 = 1 << 15;
        let cost = self.send(flows, |number| {
            let [_, _, high, low] = (number / PORTS + 1).to_be_bytes();
            let port = u16::try_from(number % PORTS).unwrap_or_default() + 1024;
            SocketAddrV4::new(Ipv4Addr::new(198, 18, high, low), port)
        })?;
        // The next round's are new ones too.
        self.host.enter(|| run("conntrack", &["-F"], ""))??;
        Ok(cost)
    }

    fn send(&self, packets: u32, to: impl Fn(u32) -> SocketAddrV4 + Sync) -> Result<f64, Failure> {
        const PAYLOAD: [u8; 64] = [0; 64];
        let before = self.arrived()?;
        let elapsed = self.container.enter(|| -> Result<Duration, Failure> {
            let mut one = CpuSet::new();
            one.set(CPU)?;
            sched_setaffinity(Pid::from_raw(0), &one)?;
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            let begin = Instant::now();
            for number in 0..packets {
                socket.send_to(&PAYLOAD, to(number))?;
            }
            Ok(begin.elapsed())
        })??;
        // What was dropped on the way would look cheap.
        let arrived = self.arrived()? - before;
        if arrived < u64::from(packets) {
            return Err(format!("only {arrived} of {packets} packets came through").into());
        }
        Ok(elapsed.as_secs_f64() * 1e9 / f64::from(packets))
    }

    /// Packets that the sink's device has received.
    fn arrived(&self) -> Result<u64, Failure> {
        self.sink.enter(|| -> Result<u64, Failure> {
            let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            let line = text
                .lines()
                .find_map(|line| line.trim().strip_prefix("far0:"));
            let packets = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(packets.ok_or("no far0")?.parse()?)
        })?
    }
}

/// Our tables in a rig.
pub(crate) struct Managed {
    pub(crate) kernel: Kernel,
    pub(crate) planner: Planner,
    _state: tempfile::TempDir,
}

impl Managed {
    fn new(rig: &Rig, workloads: u32) -> Result<Self, Failure> {
        let state = tempfile::tempdir()?;
        let mut kernel = Kernel::open(Options {
            state: state.path().to_owned(),
            ..Options::default()
        })?;
        let facts = facts::read(kernel.rtnetlink())?;
        let observed = kernel.observe()?;
        let config = AgentConfig {
            guard: Guard::All,
            ..AgentConfig::default()
        };
        let mut planner = Planner::new(environment(&facts, &config));
        let mut others = simulated(workloads - 1);
        for (workload, number) in others.workloads.iter_mut().zip((1..=ADDRESSES).cycle()) {
            let label = format!("192.0.2.{number}");
            let labels = workload.labels.iter();
            workload.labels = labels.chain([("sortie.egress", &*label)]).collect();
        }
        others.networks.push(rig.network());
        planner.networks(others.networks);
        planner.learn(others.workloads, &[]);
        planner.workload(rig.workload(), None);
        for ops in planner.adopt(&observed) {
            kernel.apply(&ops)?;
        }
        Ok(Self {
            kernel,
            planner,
            _state: state,
        })
    }
}

/// What Docker 20.10.24 makes for its default bridge.
const DOCKER: &str = "*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
";

/// For `iptables-restore`: a rule for each container, and Docker's own behind them.
pub(crate) fn snat_rules(containers: u32, measured: Ipv4Addr) -> String {
    let mut rules = String::from("*nat\n:POSTROUTING ACCEPT [0:0]\n");
    for number in 0..containers {
        let (container, egress) = if number == containers / 2 {
            (CONTAINER, measured)
        } else {
            (
                Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 10)) + number),
                Ipv4Addr::from(u32::from(EGRESS) + number % ADDRESSES),
            )
        };
        let _ = writeln!(
            rules,
            "-A POSTROUTING -s {container}/32 ! -o docker0 -j SNAT --to-source {egress}"
        );
    }
    rules + "COMMIT\n"
}

/// Runs `iptables-restore`.
pub(crate) fn restore(rules: &str) -> Result<(), Failure> {
    run("iptables-restore", &[], rules)
}

fn index(device: &str) -> Result<IfIndex, Failure> {
    Ok(IfIndex(nix::net::if_::if_nametoindex(device)?))
}

fn mac_of(device: &str) -> Result<String, Failure> {
    let mut rtnl = sortie_kernel::rtnl::Rtnetlink::open()?;
    let link = facts::link_by_name(&mut rtnl, device)?.ok_or("no such device")?;
    Ok(text(link.mac.ok_or("no MAC")?))
}

/// As `ip` reads it.
fn text(MacAddress(bytes): MacAddress) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
