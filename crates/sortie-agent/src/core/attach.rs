//! Interfaces for `run` and `attach`: made, remembered, and taken away with their process.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use sortie_api::labels::Labels;
use sortie_api::workload::{
    Endpoint, Families, IfIndex, MacAddress, Workload, WorkloadId, WorkloadKind,
};
use sortie_kernel::Kernel;
use sortie_kernel::Look;
use sortie_kernel::kernel::Lifetime;
use sortie_kernel::netns::Namespace;
use sortie_plan::op::Op;
use sortie_plan::state::HostState;

use super::{Core, Event, Handle};
use crate::Error;
use crate::api::{AttachRequest, AttachTo, Attachment, Removed};
use crate::policies::write_whole;
use crate::process::started;

/// What the agent must know of its attachments after a restart; an interface without an entry
/// here is nobody's and goes.
#[derive(Debug, Clone, Default)]
pub struct Attachments {
    file: PathBuf,
    entries: BTreeMap<String, Entry>,
}

/// One interface made for somebody, by its owner (`run/PID`, `attach/CONTAINER`).
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// For people.
    name: String,
    /// A process in the namespace that has the interface.
    pid: u32,
    /// The process whose end ends it.
    lives_with: u32,
    /// The start time of that process, so that another with its number is not taken for it.
    since: u64,
    /// The inner end's.
    mac: MacAddress,
    addresses: Vec<IpAddr>,
    via: Option<String>,
}

impl Attachments {
    /// Those of a former agent, from the folder of what must not outlive a reboot.
    pub fn load(notes: &Path) -> Self {
        let file = notes.join("attachments.json");
        let text = fs::read_to_string(&file).ok();
        let entries = text
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default();
        Self { file, entries }
    }

    fn keep(&self) -> Result<(), Error> {
        write_whole(
            &self.file,
            &serde_json::to_string(&self.entries).unwrap_or_default(),
        )
    }
}

impl Core {
    /// Steps, in order; each failure takes back what was made:
    /// 1. The request must be possible: addresses free, target there, uplink known.
    /// 2. A veth into the target's namespace, its inner end down and bare.
    /// 3. The plan knows the workload: the kernel binds, allows, routes and answers for it.
    /// 4. The inner end gets address and route, and comes up; neighbours are told.
    /// 5. It is noted for the next agent, who would take it away else.
    pub fn attach(&mut self, request: &AttachRequest) -> Result<Attachment, Error> {
        let (owner, mut entry) = self.wanted(request)?;
        let uplink = self.check_addresses(&entry)?;
        match self.make(&owner, &mut entry) {
            Ok(interface) => {
                self.attachments.entries.insert(owner.clone().into(), entry);
                if let Err(error) = self.attachments.keep() {
                    self.take_away(&owner);
                    return Err(error);
                }
                let addresses = request.addresses.clone();
                Ok(Attachment {
                    owner: owner.into(),
                    interface,
                    addresses,
                    uplink,
                })
            }
            Err(error) => {
                self.take_away(&owner);
                Err(error)
            }
        }
    }

    /// Takes an interface away that `attach` made.
    pub fn detach(&mut self, owner: &str) -> Result<(), Error> {
        let known = [
            owner.to_owned(),
            format!("attach/{owner}"),
            format!("run/{owner}"),
        ];
        let Some(owner) = known
            .iter()
            .find(|known| self.attachments.entries.contains_key(*known))
        else {
            let message =
                format!("nothing is attached as {owner:?}; `sortie status` lists what is");
            return Err(Error::Refused(message));
        };
        let owner = WorkloadId::from(owner.clone());
        self.take_away(&owner);
        self.attachments.keep()
    }

    /// Interfaces of a former agent whose process still lives are taken over, others go.
    pub(super) fn adopt_attachments(&mut self) {
        let links = match self.kernel.links() {
            Ok(links) => links,
            Err(error) => return self.failed(&error.to_string()),
        };
        let mut entries = std::mem::take(&mut self.attachments.entries);
        let noted = entries.len();
        for link in &links {
            let entry = link
                .owner
                .as_ref()
                .and_then(|owner| entries.remove(owner.as_str()));
            let alive = entry.filter(|entry| started(entry.lives_with) == Some(entry.since));
            let Some((owner, entry)) = link.owner.as_ref().zip(alive) else {
                tracing::info!(
                    interface = link.host_name,
                    "its process is gone; taking its interface away"
                );
                if let Err(error) = self.kernel.delete_found_link(link) {
                    self.failed(&error.to_string());
                }
                continue;
            };
            // The first comparison makes the steps.
            let _ = self.plan_for(owner, &entry, link.host);
            if let Err(error) = watch_process(&self.handle, entry.lives_with, owner) {
                tracing::warn!(%error, owner = owner.as_str(), "the end of its process will not be seen");
            }
            self.attachments.entries.insert(owner.clone().into(), entry);
        }
        // A note that outlives its interface would be taken for that of the owner's next one, which
        // has another MAC.
        if self.attachments.entries.len() != noted
            && let Err(error) = self.attachments.keep()
        {
            tracing::warn!(%error, "what is attached could not be noted");
        }
    }

    pub(super) fn owner_ended(&mut self, id: &WorkloadId) {
        if self.attachments.entries.contains_key(id.as_str()) {
            self.take_away(id);
            if let Err(error) = self.attachments.keep() {
                tracing::warn!(%error, "what is attached could not be noted");
            }
        }
    }

    /// A container that ends takes what was attached to it along.
    pub(super) fn container_gone(&mut self, id: &WorkloadId) {
        let Some(name) = self
            .planner
            .workloads()
            .get(id)
            .map(|tracked| tracked.workload.name.clone())
        else {
            return;
        };
        self.owner_ended(&format!("attach/{name}").into());
    }

    fn wanted(&self, request: &AttachRequest) -> Result<(WorkloadId, Entry), Error> {
        let (owner, name, pid, lives_with) = match &request.to {
            AttachTo::Process { pid, owner, name } => {
                (format!("run/{owner}"), name.clone(), *pid, *owner)
            }
            AttachTo::Container(container) => {
                let tracked = self.find(container)?;
                let workload = &tracked.workload;
                // What is attached has its container's name, and endpoints.
                let attached = workload.kind == WorkloadKind::Process;
                if !attached && (!workload.endpoints.is_empty() || workload.unmanageable.is_some())
                {
                    return Err(Error::Refused(format!(
                        "{} has networks of its own; attach is for containers started with --network none; give this one the label sortie.egress instead",
                        workload.name
                    )));
                }
                (
                    format!("attach/{}", workload.name),
                    workload.name.clone(),
                    workload.pid,
                    workload.pid,
                )
            }
        };
        if self.attachments.entries.contains_key(&owner) {
            return Err(Error::Refused(format!(
                "{name} has an interface already; `sortie detach {name}` takes it away"
            )));
        }
        let Some(since) = started(lives_with) else {
            return Err(Error::Unknown(format!(
                "{name} is not running (process {lives_with})"
            )));
        };
        let entry = Entry {
            name,
            pid,
            lives_with,
            since,
            mac: MacAddress([0; 6]),
            addresses: request.addresses.clone(),
            via: request.via.clone(),
        };
        Ok((owner.into(), entry))
    }

    /// Yields the uplink's name.
    fn check_addresses(&self, entry: &Entry) -> Result<String, Error> {
        let environment = self.planner.environment();
        let families =
            [false, true].map(|v6| entry.addresses.iter().filter(|a| a.is_ipv6() == v6).count());
        if entry.addresses.is_empty() || families.iter().any(|count| *count > 1) {
            return Err(Error::Refused(
                "give one address, or one of each family".to_owned(),
            ));
        }
        for address in &entry.addresses {
            if let Some(holder) = environment.addresses.get(address) {
                let device = environment.name_of(*holder);
                return Err(Error::Refused(format!(
                    "{address} is on this host itself ({device}), but {} must have it alone; take it off first: ip addr del {address} dev {device}",
                    entry.name
                )));
            }
            if let Some(other) = self.planner.holder(*address) {
                return Err(Error::Refused(format!(
                    "{address} belongs to {} already",
                    other.workload.name
                )));
            }
        }
        if let Some(via) = &entry.via {
            return match environment.interface_named(via) {
                Some(_) => Ok(via.clone()),
                None => Err(Error::Refused(format!(
                    "there is no interface {via:?} to leave by; `ip link` lists them"
                ))),
            };
        }
        let v6 = entry.addresses.iter().all(IpAddr::is_ipv6);
        let Some(route) = environment.default_route(v6) else {
            let message = "there is no default route, so nothing says where to leave; name the uplink: --via INTERFACE";
            return Err(Error::Refused(message.to_owned()));
        };
        Ok(environment.name_of(route.device))
    }

    /// Steps 2 to 4 of [`Core::attach`]; yields the host's end.
    fn make(&mut self, owner: &WorkloadId, entry: &mut Entry) -> Result<String, Error> {
        let namespace = Namespace::of_pid(entry.pid)?;
        let link = self.kernel.create_link(owner, &namespace)?;
        if self.kernel.lifetime() == Lifetime::Process {
            self.kernel.close_behind(&link.host_name)?;
        }
        entry.mac = link.inner_mac;
        // The plan names interfaces: it must have seen this one.
        self.look_at_host(Look::Nowhere);
        let ops = self.plan_for(owner, entry, link.host);
        self.enforce(&ops).map_err(Error::Refused)?;
        self.kernel
            .configure_link(&link, &namespace, &entry.addresses)?;
        for address in &entry.addresses {
            let environment = self.planner.environment();
            let default = || {
                environment
                    .default_route(address.is_ipv6())
                    .map(|route| environment.name_of(route.device))
            };
            if let Some(uplink) = entry.via.clone().or_else(default) {
                self.kernel.announce(&uplink, *address)?;
            }
        }
        watch_process(&self.handle, entry.lives_with, owner)?;
        Ok(link.host_name)
    }

    /// The plan learns of a workload with an interface of its own.
    fn plan_for(&mut self, owner: &WorkloadId, entry: &Entry, port: IfIndex) -> Vec<Op> {
        let endpoint = Endpoint {
            network: String::new(),
            port,
            bridge: None,
            mac: entry.mac,
            addresses: entry.addresses.clone(),
            default_route: Families::default(),
        };
        let workload = Workload {
            id: owner.clone(),
            name: entry.name.clone(),
            kind: WorkloadKind::Process,
            labels: Labels::default(),
            pid: entry.pid,
            started: i64::try_from(entry.since).unwrap_or_default(),
            endpoints: vec![endpoint],
            published_udp: [].into(),
            cgroup: None,
            unmanageable: None,
        };
        let via = entry
            .via
            .as_ref()
            .and_then(|via| self.planner.environment().interface_named(via));
        self.planner.workload(workload, via)
    }

    /// Everything of one owner, whether all of it was made or not.
    fn take_away(&mut self, owner: &WorkloadId) {
        self.attachments.entries.remove(owner.as_str());
        // The way out first: what the command has left running may still be sending.
        if let Err(error) = self.kernel.delete_link(owner) {
            self.failed(&error.to_string());
        }
        let ops = self.planner.workload_gone(owner);
        self.apply(&ops);
    }
}

/// Takes away all that Sortie ever made in this network namespace.
pub fn remove_everything(
    kernel: &mut Kernel,
    attachments: &Attachments,
) -> Result<Vec<String>, Error> {
    // Interfaces first: behind them there may be processes that send.
    let mut steps = remove_links(kernel, attachments)?;
    let observed = kernel.observe()?;
    let ops = sortie_plan::diff::diff(&observed, HostState::default());
    kernel.take_left();
    kernel.apply(&ops).map_err(sortie_kernel::Error::from)?;
    let left = kernel.take_left();
    let stays = |op: &Op| match op {
        Op::RestoreSysctl(sysctl) => left.iter().any(|left| left.sysctl == *sysctl),
        _ => false,
    };
    let (_, done): (Vec<Op>, Vec<Op>) = ops.into_iter().partition(stays);
    steps.extend(sortie_plan::op::describe(&done));
    steps.extend(left.iter().map(ToString::to_string));
    if kernel.remove_gate()? {
        steps.push("nft delete table inet sortie-gate".to_owned());
    }
    Ok(steps)
}

fn remove_links(kernel: &mut Kernel, attachments: &Attachments) -> Result<Vec<String>, Error> {
    let mut steps = Vec::new();
    for link in kernel.links()? {
        kernel.delete_found_link(&link)?;
        steps.push(format!("ip link del {}", link.host_name));
    }
    if let Err(error) = fs::remove_file(&attachments.file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Error::file("remove", &attachments.file)(error));
    }
    Ok(steps)
}

/// Tells the core when a process has ended.
fn watch_process(handle: &Handle, pid: u32, owner: &WorkloadId) -> Result<(), Error> {
    // SAFETY: the call takes numbers only, and a descriptor that it returns is nobody else's.
    let descriptor = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let descriptor = i32::try_from(descriptor)
        .ok()
        .filter(|descriptor| *descriptor >= 0);
    let Some(descriptor) = descriptor else {
        return Err(Error::system("watch a process")(
            std::io::Error::last_os_error(),
        ));
    };
    // SAFETY: just opened, and owned by nobody else.
    let process = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let (handle, owner) = (handle.clone(), owner.clone());
    let run = move || {
        let mut waiting = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        while poll(&mut waiting, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
        tracing::debug!(descriptor = process.as_raw_fd(), "a process ended");
        handle.tell(Event::OwnerEnded(owner));
    };
    thread::Builder::new()
        .name("owner".to_owned())
        .spawn(run)
        .map_err(Error::system("start a thread"))?;
    Ok(())
}

impl Core {
    /// Takes away all that Sortie ever made here, and ends the agent.
    pub fn down(&mut self) -> Result<Removed, Error> {
        let steps = remove_everything(&mut self.kernel, &self.attachments)?;
        self.learned.remove()?;
        self.stopping = true;
        Ok(Removed { steps })
    }
}
