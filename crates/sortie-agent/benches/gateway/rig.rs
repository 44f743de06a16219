//! Three network namespaces in a row: clients, a host with egress addresses and a proxy, a server.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sortie_kernel::netns::Namespace;

use crate::Failure;
use crate::programs::{ip, nft};

/// The server's address.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The host's, on the clients' side. Proxies that are asked with CONNECT listen there.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Egress addresses on the host.
pub(crate) const SOURCES: u32 = 250;
/// Where load is made and answered. The proxy has the next one for itself.
const LOAD_CPU: usize = 0;
pub(crate) const PROXY_CPU: usize = 1;

/// The n-th source, from 0.
pub(crate) fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 113, 1)) + number)
}

/// The host that is asked for by name, so that a request leaves with the n-th source.
pub(crate) fn name(number: u32) -> String {
    format!("s{number}.bench.example")
}

/// What clients call to be led to the n-th proxy: the kernel redirects it, as it does for workloads.
pub(crate) fn called(proxy: u16) -> Ipv4Addr {
    let [high, low] = proxy.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low + 1)
}

/// The port that the n-th proxy listens on.
pub(crate) fn listener(proxy: u16) -> u16 {
    9001 + proxy
}

/// The namespaces.
pub(crate) struct Rig {
    pub(crate) client: Namespace,
    pub(crate) host: Namespace,
    pub(crate) server: Namespace,
}

impl Rig {
    pub(crate) fn new() -> Result<Self, Failure> {
        if std::thread::available_parallelism()?.get() <= PROXY_CPU {
            return Err("two CPUs are needed: one for the load, one for the proxy".into());
        }
        let client = Namespace::anonymous()?;
        let host = Namespace::anonymous()?;
        let server = Namespace::anonymous()?;
        let path = |namespace: &Namespace| {
            let fd = namespace.as_fd().as_raw_fd();
            format!("/proc/{}/fd/{fd}", std::process::id())
        };
        let mut script = format!(
            "link set lo up\n\
             link add in0 type veth peer name eth0 netns {}\n\
             link add up0 type veth peer name eth0 netns {}\n\
             addr add {HOST}/24 dev in0\n\
             addr add 192.0.2.1/24 dev up0\n\
             link set in0 up\n\
             link set up0 up\n\
             route add {SERVER}/32 via 192.0.2.2\n",
            path(&client),
            path(&server)
        );
        for number in 0..SOURCES {
            // Writing to a String cannot fail.
            let _ = writeln!(script, "addr add {}/32 dev up0", source(number));
        }
        host.enter(|| -> Result<(), Failure> {
            ip(&script)?;
            let mut rules = String::from(
                "table ip steer {\n chain arriving {\n  type nat hook prerouting priority -100;\n",
            );
            for proxy in 0..3 {
                let (called, port) = (called(proxy), listener(proxy));
                let _ = writeln!(
                    rules,
                    "  ip daddr {called} tcp dport 1-65535 redirect to :{port}"
                );
            }
            nft(&(rules + " }\n}\n"))?;
            // A connection for each request would fill the table with those that have ended.
            let settings = ["time_wait", "close", "last_ack", "fin_wait"];
            for setting in settings {
                let path = format!("netfilter/nf_conntrack_tcp_timeout_{setting}");
                set(&path, "1")?;
            }
            set("ipv4/ip_local_port_range", "1024 65000")
        })??;
        client.enter(|| -> Result<(), Failure> {
            ip(&format!(
                "link set lo up\naddr add 10.9.0.2/24 dev eth0\nlink set eth0 up\n\
                 route add default via {HOST}\n"
            ))?;
            set("ipv4/tcp_tw_reuse", "1")?;
            set("ipv4/ip_local_port_range", "1024 65000")
        })??;
        server.enter(|| {
            ip(&format!(
                "link set lo up\naddr add 192.0.2.2/24 dev eth0\naddr add {SERVER}/32 dev lo\n\
                 link set eth0 up\nroute add default via 192.0.2.1\n"
            ))
        })??;
        Ok(Self {
            client,
            host,
            server,
        })
    }
}

fn set(setting: &str, value: &str) -> Result<(), Failure> {
    std::fs::write(format!("/proc/sys/net/{setting}"), value)
        .map_err(|error| format!("cannot set {setting}: {error}").into())
}

/// Keeps the calling thread, and threads that it starts, on the load's CPU.
pub(crate) fn on_load_cpu() -> Result<(), Failure> {
    let mut one = CpuSet::new();
    one.set(LOAD_CPU)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}
