//! The internet of a lab: a router that hosts are joined to, and whose observers answer at every
//! address of the documentation ranges.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tokio::runtime::Runtime;

use crate::capture::Capture;
use crate::error::Result;
use crate::host::UplinkSpec;
use crate::netns::Netns;
use crate::observer::{Observer, Protocol};
use crate::place::Place;

/// RFC 5737 and RFC 3849. Observers answer here, but where a longer prefix is an uplink's.
const RANGES: [&str; 4] = [
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8::/32",
];

/// Where an observer listens from the beginning.
const OBSERVED: [(Protocol, u16); 5] = [
    (Protocol::Tcp, 7),
    (Protocol::Udp, 7),
    (Protocol::Tcp, 443),
    (Protocol::Udp, 443),
    (Protocol::Http, 80),
];

/// What the observers' ranges cost in a look-up, so that an uplink of the same size wins.
const RANGE_METRIC: u32 = 1000;

/// The outside of all hosts of a lab.
pub struct Internet {
    netns: Netns,
    observer: Observer,
    segments: Mutex<Segments>,
}

#[derive(Default)]
struct Segments {
    bridges: Vec<Segment>,
    ports: usize,
}

/// A link that uplinks with the same subnet share, with the internet's router on it.
struct Segment {
    device: String,
    subnets: Vec<IpNet>,
}

/// The end of an uplink that belongs to the internet.
pub(crate) struct Joined {
    pub(crate) capture: Capture,
    pub(crate) gateways: Vec<IpAddr>,
}

impl Internet {
    pub(crate) fn create(runtime: Arc<Runtime>) -> Result<Self> {
        let netns = Netns::create("internet")?;
        for (name, value) in [
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            // Observers answer from any address of a range, none of which is on an interface.
            ("net.ipv6.ip_nonlocal_bind", "1"),
            // A packet with a wrong source must reach its observer, not be dropped on the way.
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
            // Leaks and faults make ICMP errors, which must not run out.
            ("net.ipv4.icmp_ratelimit", "0"),
            ("net.ipv6.icmp.ratelimit", "0"),
        ] {
            netns.set_sysctl(name, value)?;
        }
        let internet = Self {
            observer: Observer::new(netns.clone(), runtime),
            netns,
            segments: Mutex::default(),
        };
        for range in RANGES {
            internet.serve(range)?;
        }
        for (protocol, port) in OBSERVED {
            internet.observer.listen(protocol, port)?;
        }
        internet.observer.name()?;
        Ok(internet)
    }

    /// Lets observers answer at every address of one more range, such as `10.20.0.0/16`.
    ///
    /// # Errors
    /// When `ip` refuses it.
    pub fn serve(&self, range: &str) -> Result<()> {
        self.netns.ip(&format!(
            "route add local {range} dev lo table local metric {RANGE_METRIC}"
        ))?;
        Ok(())
    }

    /// What was seen, and where more can be listened to.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The namespace, to connect from outside into a host.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Makes an uplink: a pair of devices whose one end `spec` names in the host of process `init`.
    pub(crate) fn join(
        &self,
        spec: &UplinkSpec,
        init: i32,
        device: &str,
        label: &str,
    ) -> Result<Joined> {
        let mut segments = lock(&self.segments);
        segments.ports += 1;
        let port = format!("port{}", segments.ports);
        let subnets = spec.subnets()?;
        let segment = self.segment(&mut segments, &subnets)?;
        self.netns.ip(&format!(
            "link add {port} type veth peer name {device} netns {init}"
        ))?;
        let capture = Capture::start(&self.netns, &port, label)?;
        self.netns
            .ip(&format!("link set {port} master {} up", segment.device))?;
        if let Some(mtu) = spec.narrowed_to() {
            self.netns
                .ip(&format!("link set {} mtu {mtu}", segment.device))?;
        }
        for prefix in spec.routed_prefixes()? {
            let via = subnets
                .iter()
                .find(|subnet| is_v4(subnet) == is_v4(&prefix));
            if let Some(via) = via {
                let (to, via, on) = (prefix, via.addr(), &segment.device);
                self.netns.ip(&format!(
                    "route add {to} via {via} dev {on} table local onlink"
                ))?;
            }
        }
        Ok(Joined {
            capture,
            gateways: subnets.iter().map(gateway).collect(),
        })
    }

    /// The segment with one of these subnets, made where there is none; it gets all of them.
    fn segment<'a>(&self, segments: &'a mut Segments, subnets: &[IpNet]) -> Result<&'a Segment> {
        let shares = |segment: &Segment| {
            let networks: Vec<IpNet> = subnets.iter().map(IpNet::trunc).collect();
            segment
                .subnets
                .iter()
                .any(|subnet| networks.contains(subnet))
        };
        let found = segments.bridges.iter().position(shares);
        let index = found.unwrap_or(segments.bridges.len());
        if found.is_none() {
            let device = format!("segment{index}");
            self.netns
                .ip(&format!("link add {device} type bridge mcast_snooping 0"))?;
            self.netns.ip(&format!("link set {device} up"))?;
            segments.bridges.push(Segment {
                device,
                subnets: Vec::new(),
            });
        }
        let segment = &mut segments.bridges[index];
        for subnet in subnets {
            if !segment.subnets.contains(&subnet.trunc()) {
                self.route_subnet(subnet, &segment.device)?;
                segment.subnets.push(subnet.trunc());
            }
        }
        Ok(segment)
    }

    /// The router's address on a segment. The route is in the local table as well, which is looked
    /// up first: there it is longer, or cheaper, than the observers' range around it.
    fn route_subnet(&self, subnet: &IpNet, device: &str) -> Result<()> {
        let own = IpNet::new_assert(gateway(subnet), subnet.prefix_len());
        let nodad = if is_v4(subnet) { "" } else { "nodad" };
        self.netns
            .ip(&format!("addr add {own} dev {device} {nodad}"))?;
        let network = subnet.trunc();
        self.netns.ip(&format!(
            "route add {network} dev {device} table local metric 1"
        ))?;
        Ok(())
    }
}

impl Place for Internet {
    fn name(&self) -> String {
        "the internet".to_owned()
    }

    fn place(&self) -> Result<Netns> {
        Ok(self.netns.clone())
    }
}

/// The first address of a subnet that a host may have: the lab's routers are there.
fn gateway(subnet: &IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(network) => IpAddr::V4((u32::from(network) + 1).into()),
        IpAddr::V6(network) => IpAddr::V6((u128::from(network) + 1).into()),
    }
}

fn is_v4(subnet: &IpNet) -> bool {
    subnet.addr().is_ipv4()
}

fn lock(segments: &Mutex<Segments>) -> MutexGuard<'_, Segments> {
    segments.lock().unwrap_or_else(PoisonError::into_inner)
}
