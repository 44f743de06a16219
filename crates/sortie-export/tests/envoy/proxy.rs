//! Envoy in a host, started from a bootstrap.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use sortie_api::policy::EgressPolicy;
use sortie_lab::{Host, Process, Result, built_program, eventually};

/// Where it can be asked as a proxy.
pub(crate) const PROXY: ([u8; 4], u16) = ([127, 0, 0, 1], 3128);
/// Where redirected connections go.
pub(crate) const REDIRECTED: u16 = 15001;
/// A machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// It ends when this is dropped.
pub(crate) struct Envoy {
    _process: Process,
}

impl Envoy {
    pub(crate) fn start(host: &Host, seed: u64, policies: &[EgressPolicy]) -> Result<Self> {
        let resolver = host.path("/etc/resolv.conf");
        fs::write(&resolver, "nameserver 198.51.100.53\n").expect("a resolv.conf");
        let export = sortie_export::envoy(policies);
        let file = host.folder().join(format!("envoy-{seed}.json"));
        let text = serde_json::to_string_pretty(&export.documents[0]).expect("JSON");
        fs::write(&file, text).expect("a bootstrap");
        let mut command = Command::new(built_program("envoy", "envoy")?);
        command.arg("--config-path").arg(&file);
        // No shared memory of another one is in the way, and one thread is enough.
        command.args([
            "--use-dynamic-base-id",
            "--concurrency",
            "1",
            "--log-level",
            "error",
        ]);
        let process = host.spawn(&format!("envoy-{seed}"), command)?;
        eventually(LIMIT, "Envoy listens", || {
            if process
                .ended()
                .map_err(|error| error.to_string())?
                .is_some()
            {
                panic!(
                    "Envoy refuses the bootstrap of seed {seed}: {}",
                    process.tail()
                );
            }
            let connect = || TcpStream::connect(SocketAddr::from(PROXY)).map(drop);
            let connected = host.netns().run(connect);
            connected
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())
        })?;
        Ok(Self { _process: process })
    }
}
