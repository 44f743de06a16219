//! A workload's network namespace, one outside with the servers, and the redirect between workload
//! and resolver.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command};
use std::sync::Arc;

use sortie_kernel::kernel::{Kernel, Options};
use sortie_kernel::netns::Namespace;
use sortie_plan::op::Op;
use sortie_plan::redirect::Redirect;

pub(crate) struct Place {
    /// Whose namespace the workload's is.
    process: Child,
    pub(crate) workload: Namespace,
    pub(crate) outside: Namespace,
}

impl Place {
    /// The workload is 10.77.0.2 and fd77::2, servers can be at .1 and .3.
    pub(crate) fn new() -> Self {
        let made = || {
            Namespace::anonymous().expect("these tests make network namespaces: run them as root")
        };
        let (workload, outside) = (made(), made());
        let sleeps = || Command::new("sleep").arg("600").spawn();
        let process = workload
            .enter(sleeps)
            .expect("the namespace")
            .expect("a process");
        let (test, fd) = (std::process::id(), outside.as_fd().as_raw_fd());
        inside(
            &workload,
            &format!(
                "ip link set lo up
                 ip link add eth0 type veth peer name up0
                 ip link set up0 netns /proc/{test}/fd/{fd}
                 ip addr add 10.77.0.2/24 dev eth0
                 ip addr add fd77::2/64 dev eth0 nodad
                 ip link set eth0 up"
            ),
        );
        inside(
            &outside,
            "ip link set lo up
             ip addr add 10.77.0.1/24 dev up0
             ip addr add 10.77.0.3/24 dev up0
             ip addr add fd77::1/64 dev up0 nodad
             ip link set up0 up",
        );
        Self {
            process,
            workload,
            outside,
        }
    }

    pub(crate) fn namespace(&self) -> Arc<File> {
        let fd = self
            .workload
            .as_fd()
            .try_clone_to_owned()
            .expect("a descriptor");
        Arc::new(fd.into())
    }

    /// The product's own redirect, in front of any engine's chain at -100.
    pub(crate) fn redirect(&self) {
        let make = || {
            let state = tempfile::tempdir().expect("a folder");
            let options = Options {
                state: state.path().to_owned(),
                ..Options::default()
            };
            let mut kernel = Kernel::open(options).expect("the kernel");
            let redirect = Op::AddRedirect(self.process.id(), Redirect::default());
            kernel.apply(&[redirect]).expect("a redirect");
        };
        self.outside.enter(make).expect("the namespace");
        assert!(inside(&self.workload, "nft list ruleset").contains("redirect to :19053"));
    }

    /// As Docker does it for its own resolver, at this port of 127.0.0.11 (moby,
    /// libnetwork/resolver_unix.go).
    pub(crate) fn dockers_redirect(&self, port: u16) {
        inside(
            &self.workload,
            &format!(
                "nft 'table ip nat {{
                    chain output {{
                        type nat hook output priority -100
                        ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:{port}
                        ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:{port}
                    }}
                    chain postrouting {{
                        type nat hook postrouting priority 100
                        ip saddr 127.0.0.11 udp sport {port} snat to :53
                        ip saddr 127.0.0.11 tcp sport {port} snat to :53
                    }}
                 }}'"
            ),
        );
    }

    /// Runs a program of the workload's, with its own `/etc/resolv.conf`.
    pub(crate) fn program(&self, resolv_conf: &str, command: &str) -> String {
        let script = format!(
            "exec unshare -m sh -ec 'mount -t tmpfs none /mnt
             printf \"{resolv_conf}\" > /mnt/resolv.conf
             mount --bind /mnt/resolv.conf /etc/resolv.conf
             {command}'"
        );
        inside(&self.workload, &script)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.process.kill().expect("it sleeps");
        self.process.wait().expect("it has ended");
    }
}

/// Runs a script in a namespace; gives what it printed.
pub(crate) fn inside(namespace: &Namespace, script: &str) -> String {
    let run = || Command::new("sh").args(["-ec", script]).output();
    let output = namespace
        .enter(run)
        .expect("the namespace")
        .expect("a shell");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{script}\n{out}{err}");
    out.into_owned()
}
