//! Network namespaces for tests: made by the test, gone with it.

use std::process::{Child, Command};

use sortie_api::workload::MacAddress;

use crate::facts;
use crate::kernel::{Kernel, Options};
use crate::netns::Namespace;
use crate::rtnl::Rtnetlink;

/// Runs a test inside a network namespace of its own, with the loopback up.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let namespace = Namespace::anonymous()
        .expect("these tests make network namespaces: run them as root or under `unshare -Urnm`");
    namespace
        .enter(|| {
            sh("ip link set lo up");
            test()
        })
        .unwrap()
}

/// Runs a shell script in the calling thread's namespace; gives what it printed.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The kernel of the calling thread's namespace, and the folder of its notes.
pub(crate) fn open_kernel() -> (Kernel, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let kernel = Kernel::open(Options {
        state: state.path().to_owned(),
        ..Options::default()
    })
    .unwrap();
    (kernel, state)
}

/// A process in a namespace of its own, with `eth0` on a cable to the test's.
pub(crate) struct Container {
    process: Child,
    pub(crate) namespace: Namespace,
    pub(crate) mac: MacAddress,
}

impl Container {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::anonymous().unwrap();
        let process = namespace.enter(|| Command::new("sleep").arg("600").spawn());
        let process = process.unwrap().unwrap();
        let pid = process.id();
        sh(&format!(
            "ip link add port type veth peer name eth0 netns /proc/{pid}/ns/net; ip link set port up"
        ));
        namespace
            .enter(|| {
                sh("ip link set lo up; ip link set eth0 up
                    ip addr add 172.17.0.2/16 dev eth0; ip route add default via 172.17.0.1
                    ip addr add fd00::2/64 dev eth0 nodad
                    ip -6 route add default via fd00::1 dev eth0 metric 1024");
            })
            .unwrap();
        let links = namespace.enter(|| facts::links(&mut Rtnetlink::open()?));
        let links = links.unwrap().unwrap();
        let eth0 = links.iter().find(|link| link.name == "eth0");
        let mac = eth0.and_then(|link| link.mac).unwrap();
        Self {
            process,
            namespace,
            mac,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its script's output.
    pub(crate) fn sh(&self, script: &str) -> String {
        self.namespace.enter(|| sh(script)).unwrap()
    }

    /// Its process ends; the namespace stays as long as this value.
    pub(crate) fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
