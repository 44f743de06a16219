//! `onChange`: what becomes of connections that are open when a policy gives another address.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::Duration;

use sortie_lab::{
    ALL_TRAFFIC, Call, Container, ContainerSpec, EngineKind, Place, Result, Traffic, eventually,
    eventually_true,
};

use crate::stage::{DOCKER_29_NFTABLES, LIMIT, Stage, ip};

/// Longer than any test waits.
const LONG: &str = "Drain, drainSeconds: 3600";
/// Long enough to see that it is on, short enough to wait for its end.
const SHORT: &str = "Drain, drainSeconds: 3";
/// Long enough to kill the agent meanwhile, on any machine.
const SOME: &str = "Drain, drainSeconds: 12";
/// How long an answer is waited for that must not come.
const SILENCE: Duration = Duration::from_secs(2);

/// A policy for the containers with the label `app: pay`.
fn policy(name: &str, destinations: &str, last: u8, on_change: &str) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: {name}}}
spec:
  workloads: [{{containers: {{labels: {{app: pay}}}}}}]
{destinations}  action: Egress
  egress: {{addresses: [203.0.113.{last}, \"2001:db8:113::{last}\"]}}
  onChange: {{connections: {on_change}}}
"
    )
}

fn apply(stage: &Stage, policies: &[String]) -> Result<()> {
    stage.applied(&policies.join("---\n")).map(drop)
}

/// The container that the policies are for.
fn pay(stage: &Stage) -> Result<Container> {
    stage.managed(&ContainerSpec::new("pay").label("app", "pay"))
}

fn v4(last: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, last])
}

fn v6(last: u8) -> IpAddr {
    ip(&format!("2001:db8:113::{last}"))
}

/// A TCP connection and a UDP flow to one destination, that the other side sees with one source.
pub(crate) struct Open {
    tcp: TcpStream,
    udp: UdpSocket,
    pub(crate) to: IpAddr,
    source: IpAddr,
}

impl Open {
    pub(crate) fn new(from: &Container, to: IpAddr, source: IpAddr) -> Result<Self> {
        let tcp = Call::new(Traffic::Tcp(7), to).connect(from, 7)?;
        let mut greeting = String::new();
        BufReader::new(&tcp)
            .read_line(&mut greeting)
            .expect("a greeting");
        assert_eq!(address(&greeting), Some(source), "{greeting}");
        let any: IpAddr = if to.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let udp = from.place()?.run(|| UdpSocket::bind((any, 0)))?;
        let udp = udp.expect("a socket");
        udp.connect((to, 7)).expect("a route");
        let open = Self {
            tcp,
            udp,
            to,
            source,
        };
        open.udp.set_read_timeout(Some(LIMIT)).expect("a limit");
        assert_eq!(open.ask(), Some(source));
        Ok(open)
    }

    /// The source that the other side saw a datagram of the flow with; none without an answer.
    fn ask(&self) -> Option<IpAddr> {
        let mut answer = [0; 128];
        self.udp.send(b"?").ok()?;
        let length = self.udp.recv(&mut answer).ok()?;
        address(&String::from_utf8_lossy(&answer[..length]))
    }

    /// Both go on: the connection is answered, and the flow is seen with its source.
    #[track_caller]
    pub(crate) fn goes_on(&mut self) {
        self.tcp.write_all(b"more").expect("room in the buffer");
        let mut echo = [0; 4];
        self.tcp.read_exact(&mut echo).expect("an echo");
        assert_eq!(&echo, b"more");
        self.udp.set_read_timeout(Some(LIMIT)).expect("a limit");
        assert_eq!(self.ask(), Some(self.source));
    }

    /// The connection is dead. What the container still sends for it is a new flow to the kernel,
    /// to which the other side answers with a reset; so does the flow's next datagram begin anew.
    #[track_caller]
    pub(crate) fn has_ended(&mut self, stage: &Stage, next: IpAddr) -> Result<()> {
        let mark = stage.lab.mark()?;
        // A reset may be here already.
        let _ = self.tcp.write_all(b"more");
        self.tcp.set_read_timeout(Some(LIMIT)).expect("a limit");
        let read = self.tcp.read(&mut [0; 4]);
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        self.udp.set_read_timeout(Some(LIMIT)).expect("a limit");
        assert_eq!(self.ask(), Some(next));
        stage.lab.expect_only_sources(&mark, self.to, &[next])
    }

    /// Nothing of both leaves.
    #[track_caller]
    fn is_closed(&mut self, stage: &Stage) -> Result<()> {
        let mark = stage.lab.mark()?;
        self.tcp.write_all(b"more").expect("room in the buffer");
        self.udp.set_read_timeout(Some(SILENCE)).expect("a limit");
        assert_eq!(self.ask(), None);
        stage.lab.fence()?;
        stage.lab.expect_only_sources(&mark, self.to, &[])
    }
}

/// The address of `ADDRESS:PORT`.
fn address(answer: &str) -> Option<IpAddr> {
    let address: std::net::SocketAddr = answer.trim().parse().ok()?;
    Some(address.ip())
}

/// The former addresses that `status` tells of, in its order.
fn draining(stage: &Stage) -> Vec<IpAddr> {
    let pay = stage.workload("pay").expect("pay");
    let drains = pay["draining"].as_array().cloned().unwrap_or_default();
    let address = |drain: &serde_json::Value| ip(drain["address"].as_str().expect("an address"));
    drains.iter().map(address).collect()
}

/// Old connections keep their source for their time, new ones have the new one at once.
fn connections_drain(engine: EngineKind) -> Result<()> {
    let stage = Stage::new("drain", engine)?;
    apply(&stage, &[policy("p", "", 11, LONG)])?;
    let pay = pay(&stage)?;
    let (to, to6) = (ip("198.51.100.9"), ip("2001:db8:51::9"));
    let mut old = Open::new(&pay, to, v4(11))?;
    let mut old6 = Open::new(&pay, to6, v6(11))?;

    apply(&stage, &[policy("p", "", 12, LONG)])?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_source(&pay, traffic, to, v4(12))?;
        stage.lab.expect_source(&pay, traffic, to6, v6(12))?;
    }
    let mark = stage.lab.mark()?;
    old.goes_on();
    old6.goes_on();
    stage.lab.expect_only_sources(&mark, to, &[v4(11)])?;
    stage.lab.expect_only_sources(&mark, to6, &[v6(11)])?;
    assert_eq!(draining(&stage), [v4(11), v6(11)]);
    let told = stage.ok(&["status"]);
    assert!(
        told.contains("connections from before a change go on with 203.0.113.11 for 3"),
        "{told}"
    );
    let told = stage.ok(&["explain", "pay", "198.51.100.9:7"]);
    assert!(told.contains("leaves with 203.0.113.12"), "{told}");
    assert!(told.contains("go on with 203.0.113.11 for 3"), "{told}");

    // A second change has a time of its own; what drained before goes on.
    let mut second = Open::new(&pay, to, v4(12))?;
    let mut second6 = Open::new(&pay, to6, v6(12))?;
    apply(&stage, &[policy("p", "", 13, SHORT)])?;
    stage.lab.expect_source(&pay, Traffic::Tcp(7), to, v4(13))?;
    eventually_true(LIMIT, "the second drain is over", || {
        draining(&stage) == [v4(11), v6(11)]
    })?;
    second.has_ended(&stage, v4(13))?;
    second6.has_ended(&stage, v6(13))?;
    old.goes_on();
    old6.goes_on();

    // With its address the drain ends.
    stage.host.ip("addr del 203.0.113.11/32 dev up0")?;
    old.is_closed(&stage)?;
    old6.goes_on();
    let flows = stage.ok(&["flows"]);
    assert!(!flows.contains("leak"), "{flows}");
    assert_eq!(stage.json(&["status"])?["leaks"], 0);

    // `Reset` ends what drains too.
    apply(&stage, &[policy("p", "", 12, "Reset")])?;
    old6.has_ended(&stage, v6(12))?;
    assert_eq!(draining(&stage), [] as [IpAddr; 0]);
    Ok(())
}

/// The kernel ends a drain whether there is an agent or not, and a new agent goes on with it.
#[test]
fn a_drain_outlives_the_agent_and_not_its_time() -> Result<()> {
    let mut stage = Stage::new("drain-kill", DOCKER_29_NFTABLES)?;
    apply(&stage, &[policy("p", "", 11, LONG)])?;
    let pay = pay(&stage)?;
    let to = ip("198.51.100.9");
    let mut old = Open::new(&pay, to, v4(11))?;
    apply(&stage, &[policy("p", "", 12, LONG)])?;
    let mut second = Open::new(&pay, to, v4(12))?;
    stage.kill_agent()?;
    old.goes_on();
    stage.start_agent("")?;
    assert_eq!(draining(&stage), [v4(11), v6(11)]);
    old.goes_on();
    second.goes_on();

    apply(&stage, &[policy("p", "", 13, SOME)])?;
    stage.kill_agent()?;
    let mark = stage.lab.mark()?;
    second.udp.set_read_timeout(Some(SILENCE)).expect("a limit");
    eventually(LIMIT, "the kernel ends the drain", || match second.ask() {
        None => Ok(()),
        Some(source) => Err(format!("{source} still drains")),
    })?;
    stage.lab.expect_only_sources(&mark, to, &[v4(12)])?;
    second.is_closed(&stage)?;
    old.goes_on();
    stage.lab.expect_source(&pay, Traffic::Udp(7), to, v4(13))?;

    // What the dead agent could not end, the next one does.
    stage.start_agent("")?;
    assert_eq!(draining(&stage), [v4(11), v6(11)]);
    second.has_ended(&stage, v4(13))?;
    old.goes_on();
    Ok(())
}

/// With destinations, each policy says it for its own.
#[test]
fn each_destination_drains_as_its_own_policy_says() -> Result<()> {
    let stage = Stage::new("drain-dest", DOCKER_29_NFTABLES)?;
    let bank = |last, on_change| {
        let to = "  destinations: [{cidrs: [198.51.100.0/24]}]\n";
        policy("bank", to, last, on_change)
    };
    let shop = |last| {
        let to = "  destinations: [{cidrs: [192.0.2.0/24]}]\n";
        policy("shop", to, last, "Reset")
    };
    apply(&stage, &[bank(11, LONG), shop(12)])?;
    let pay = pay(&stage)?;
    let (to_bank, to_shop) = (ip("198.51.100.9"), ip("192.0.2.9"));
    let mut bank_11 = Open::new(&pay, to_bank, v4(11))?;
    let mut shop_12 = Open::new(&pay, to_shop, v4(12))?;

    // One policy's change does not touch the other's connections.
    apply(&stage, &[bank(12, LONG), shop(12)])?;
    let mark = stage.lab.mark()?;
    bank_11.goes_on();
    shop_12.goes_on();
    stage.lab.expect_only_sources(&mark, to_bank, &[v4(11)])?;
    stage.lab.expect_only_sources(&mark, to_shop, &[v4(12)])?;
    stage
        .lab
        .expect_source(&pay, Traffic::Tcp(7), to_bank, v4(12))?;

    apply(&stage, &[bank(12, LONG), shop(11)])?;
    shop_12.has_ended(&stage, v4(11))?;
    bank_11.goes_on();

    // Denied is denied, for old connections too.
    let denied = bank(12, LONG)
        .replace("action: Egress", "action: Deny")
        .lines()
        .filter(|line| !line.contains("egress:") && !line.contains("onChange:"))
        .fold(String::new(), |text, line| text + line + "\n");
    apply(&stage, &[denied, shop(11)])?;
    bank_11.is_closed(&stage)?;
    stage
        .lab
        .expect_source(&pay, Traffic::Udp(7), to_shop, v4(11))
}

mod connections_drain {
    use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES};

    #[test]
    fn docker_20() -> sortie_lab::Result<()> {
        super::connections_drain(DOCKER_20)
    }

    #[test]
    fn docker_29_nftables() -> sortie_lab::Result<()> {
        super::connections_drain(DOCKER_29_NFTABLES)
    }
}
