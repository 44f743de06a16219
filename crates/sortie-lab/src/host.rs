//! A host: namespaces of its own, and uplinks to the internet.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::runtime::Runtime;

use crate::capture::Capture;
use crate::error::{Doing, LabError, Result};
use crate::internet::Internet;
use crate::lab::{Folder, RECORD};
use crate::netns::Netns;
use crate::place::Place;
use crate::process::{Outcome, Process, output_files};
use crate::space::Space;

/// What a host is made of.
#[derive(Clone, Debug)]
pub struct HostSpec {
    name: String,
    uplinks: Vec<UplinkSpec>,
}

impl HostSpec {
    /// A host without uplinks. Its name is unique in its lab.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            uplinks: Vec::new(),
        }
    }

    /// One more uplink: the first is `up0` and has the default routes, the others are behind it.
    #[must_use]
    pub fn uplink(mut self, uplink: UplinkSpec) -> Self {
        self.uplinks.push(uplink);
        self
    }
}

/// What an uplink is made of.
#[derive(Clone, Debug, Default)]
pub struct UplinkSpec {
    addresses: Vec<String>,
    extra: Vec<String>,
    routed: Vec<String>,
    path_mtu: Option<u16>,
}

impl UplinkSpec {
    /// An uplink with the host's own addresses on it, one for each family, such as
    /// `203.0.113.5/24` and `2001:db8:113::5/64`. The router is the first address of the subnet.
    /// Uplinks with the same subnet share a link.
    pub fn new(addresses: &[&str]) -> Self {
        Self {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// An egress address on the uplink, such as `203.0.113.11/32`. In the uplink's subnet it is
    /// reached by ARP or neighbour discovery, as on a real link.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        self.extra.push(address.to_owned());
        self
    }

    /// A prefix that the internet routes to the host's own address on this uplink.
    #[must_use]
    pub fn routed(mut self, prefix: &str) -> Self {
        self.routed.push(prefix.to_owned());
        self
    }

    /// The internet's router sends no larger packet than this to the uplink, and tells who sent one
    /// (RFC 1191, RFC 8201). The uplink itself takes larger ones: no end can know before. In bytes
    /// with the IP header; IPv6 needs 1280.
    #[must_use]
    pub fn path_mtu(mut self, bytes: u16) -> Self {
        self.path_mtu = Some(bytes);
        self
    }

    pub(crate) fn narrowed_to(&self) -> Option<u16> {
        self.path_mtu
    }

    /// The host's own addresses with the length of their subnets.
    pub(crate) fn subnets(&self) -> Result<Vec<IpNet>> {
        self.addresses.iter().map(|text| parse(text)).collect()
    }

    pub(crate) fn routed_prefixes(&self) -> Result<Vec<IpNet>> {
        self.routed.iter().map(|text| parse(text)).collect()
    }
}

fn parse(text: &str) -> Result<IpNet> {
    text.parse().map_err(|_| LabError::Address {
        text: text.to_owned(),
        expected: "an address with a prefix length",
        example: "203.0.113.5/24",
    })
}

/// A host of a lab. Copies are handles of the same host.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    folder: PathBuf,
    lab: Arc<Folder>,
    runtime: Arc<Runtime>,
    space: Space,
    uplinks: Vec<Uplink>,
}

/// A host's uplink, with the reader of its frames.
#[derive(Clone)]
pub struct Uplink {
    netns: Netns,
    device: String,
    label: String,
    capture: Capture,
    gateways: Vec<IpAddr>,
}

impl Host {
    pub(crate) fn create(
        spec: &HostSpec,
        lab: &Arc<Folder>,
        internet: &Internet,
        runtime: &Arc<Runtime>,
    ) -> Result<Self> {
        let folder = lab.path().join(&spec.name);
        std::fs::create_dir(&folder).doing("make", folder.display())?;
        let space = Space::create(&spec.name, &folder.join(RECORD))?;
        let uplinks = spec.uplinks.iter().enumerate();
        let uplinks = uplinks
            .map(|(number, uplink)| Uplink::create(&spec.name, &space, internet, number, uplink));
        Ok(Self {
            inner: Arc::new(Inner {
                name: spec.name.clone(),
                uplinks: uplinks.collect::<Result<_>>()?,
                folder,
                lab: Arc::clone(lab),
                runtime: Arc::clone(runtime),
                space,
            }),
        })
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        self.inner.space.netns()
    }

    /// A folder for its files, the same path inside and outside; it goes with the lab.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Where the test finds a file of the host: its /run and /proc are its own.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.inner.space.root().join(inside.trim_start_matches('/'))
    }

    /// Its uplinks, `up0` first.
    pub fn uplinks(&self) -> &[Uplink] {
        &self.inner.uplinks
    }

    /// Runs `ip ARGUMENTS` in it.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.netns().ip(arguments)
    }

    /// Starts a program in the host: its network, mounts and process ids are the host's. The
    /// outputs are appended to `NAME.out` and `NAME.err` in the host's folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, mut command: Command) -> Result<Process> {
        let [(output, stdout), (errors, stderr)] = output_files(self.folder(), name)?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = self.inner.space.spawn(&mut command)?;
        Ok(Process::new(name, child, output, errors))
    }

    /// Runs a program in the host to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time. An exit code other than 0 is no error.
    pub fn run(&self, limit: Duration, command: Command) -> Result<Outcome> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let process = self.spawn(&format!("run-{number}"), command)?;
        Ok(Outcome {
            status: process.wait(limit)?,
            stdout: process.stdout()?,
            stderr: process.stderr()?,
        })
    }

    pub(crate) fn lab_folder(&self) -> &Folder {
        &self.inner.lab
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.inner.runtime
    }

    /// Ends everything in it.
    pub(crate) fn end(&self) -> Result<()> {
        self.inner.space.end()
    }
}

impl Place for Host {
    fn name(&self) -> String {
        self.inner.name.clone()
    }

    fn place(&self) -> Result<Netns> {
        Ok(self.netns().clone())
    }
}

impl Uplink {
    fn create(
        host: &str,
        space: &Space,
        internet: &Internet,
        number: usize,
        spec: &UplinkSpec,
    ) -> Result<Self> {
        let device = format!("up{number}");
        let netns = space.netns();
        let label = format!("{host} {device}");
        let joined = internet.join(spec, space.init(), &device, &label)?;
        for address in spec.addresses.iter().chain(&spec.extra) {
            let address = parse(address)?;
            // Duplicate address detection would keep it from use for a second.
            let nodad = if address.addr().is_ipv4() {
                ""
            } else {
                "nodad"
            };
            netns.ip(&format!("addr add {address} dev {device} {nodad}"))?;
        }
        netns.ip(&format!("link set {device} up"))?;
        for gateway in &joined.gateways {
            let metric = 100 * (number + 1);
            netns.ip(&format!(
                "route add default via {gateway} dev {device} metric {metric}"
            ))?;
        }
        Ok(Self {
            netns: netns.clone(),
            device,
            label,
            capture: joined.capture,
            gateways: joined.gateways,
        })
    }

    /// Its interface in the host: `up0`, `up1` and so on.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Its name in messages: the host's and the interface's.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The routers behind it, one for each family it has.
    pub fn gateways(&self) -> &[IpAddr] {
        &self.gateways
    }

    /// Every frame that crossed it.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Takes it down, as an operator or a broken cable does. Its routes go; addresses of IPv6 too.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn down(&self) -> Result<()> {
        self.netns
            .ip(&format!("link set {} down", self.device))
            .map(drop)
    }
}
