//! The agent under a service manager: readiness, watchdog, and the socket that owns the tables
//! kept while no process of ours lives. The manager is a stand-in that speaks its protocol.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use sortie_lab::{Host, HostSpec, Lab, Process, Result, Traffic, UplinkSpec, eventually};

use crate::stage::{LIMIT, ip, sortie};

/// What `sortie run` gets.
const ADDRESS: &str = "203.0.113.21";

/// What systemd would be: it listens, and keeps what it is given.
struct Manager {
    socket: UnixDatagram,
    said: Vec<String>,
    kept: Option<OwnedFd>,
}

impl Manager {
    fn new(host: &Host) -> Self {
        let socket = UnixDatagram::bind(host.folder().join("notify.sock")).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a limit");
        Self {
            socket,
            said: Vec::new(),
            kept: None,
        }
    }

    /// Reads one message, if one comes soon.
    fn hear(&mut self) {
        let mut bytes = [0; 1024];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let mut space = cmsg_space!([RawFd; 1]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let socket = self.socket.as_raw_fd();
        let Ok(message) = recvmsg::<()>(socket, &mut slices, Some(&mut space), flags) else {
            return;
        };
        for control in message.cmsgs().expect("whole control messages") {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                assert!(self.kept.is_none(), "one descriptor is given once");
                // SAFETY: it has just been received.
                self.kept = Some(unsafe { OwnedFd::from_raw_fd(descriptors[0]) });
            }
        }
        let length = message.bytes;
        let text = String::from_utf8_lossy(&bytes[..length]);
        self.said.extend(text.lines().map(str::to_owned));
    }

    /// Waits until something was said so many times since it was last forgotten.
    fn heard(&mut self, what: &str, times: usize) -> Result<()> {
        eventually(LIMIT, &format!("{what} is said"), || {
            self.hear();
            let said = self.said.iter().filter(|said| *said == what).count();
            if said >= times {
                Ok(())
            } else {
                Err(format!("{:?}", self.said))
            }
        })
    }

    /// Starts the agent as systemd starts a service: with what was kept, from descriptor 3 on.
    fn start(&self, host: &Host, name: &str) -> Result<Process> {
        let folder = host.folder();
        let mut command = Command::new("bash");
        // The shell's process becomes the agent's, so it knows its id; and it puts what was kept
        // where it must be, which may have another use before the lab has entered the host.
        let line = "[ -z \"$KEPT\" ] || eval \"exec 3<&$KEPT\"; export LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$@\"";
        command.args(["-c", line, "bash"]);
        command.arg(sortie().get_program());
        command.args(["agent", "--log-format", "json"]);
        command.arg("--config").arg(folder.join("agent.yaml"));
        command.arg("--policies").arg(folder.join("policies"));
        command.arg("--state").arg(folder.join("state"));
        command.arg("--docker").arg(folder.join("no-engine.sock"));
        command.env("NOTIFY_SOCKET", folder.join("notify.sock"));
        command.env("WATCHDOG_USEC", "400000");
        if let Some(kept) = &self.kept {
            command.env("LISTEN_FDS", "1");
            command.env("LISTEN_FDNAMES", "sortie-tables");
            let kept = kept.as_raw_fd();
            command.env("KEPT", kept.to_string());
            // SAFETY: between fork and exec only fcntl(2) is called, which is async-signal-safe;
            // the descriptor is open as long as `self` is.
            unsafe {
                command.pre_exec(move || {
                    let kept = BorrowedFd::borrow_raw(kept);
                    fcntl(kept, FcntlArg::F_SETFD(FdFlag::empty()))?;
                    Ok(())
                });
            }
        }
        host.spawn(name, command)
    }
}

/// Runs `sortie ARGUMENTS` in the host: what it printed.
fn ok(host: &Host, arguments: &[&str]) -> Result<String> {
    let mut command = sortie();
    command.args(arguments);
    let outcome = host.run(LIMIT, command)?;
    assert_eq!(outcome.code(), 0, "{arguments:?}: {}", outcome.stderr);
    Ok(outcome.stdout)
}

/// A process with an address of its own arrives with it, so our tables were edited.
fn leaves_with_its_address(lab: &Lab, host: &Host, name: &str) -> Result<()> {
    let mut command = sortie();
    command.args(["run", "--address", ADDRESS, "--"]);
    command.args(["sh", "-c", "echo ready; exec sleep infinity"]);
    let process = host.spawn(name, command)?;
    eventually(LIMIT, "the command runs", || {
        match process.stdout().map_err(|error| error.to_string())? {
            said if said.contains("ready") => Ok(()),
            _ => Err(process.tail()),
        }
    })?;
    let to = lab.destination()?;
    lab.expect_source(&process, Traffic::Tcp(7), to.v4, ip(ADDRESS))?;
    process.signal(Signal::SIGTERM)?;
    process.wait(LIMIT)?;
    Ok(())
}

#[test]
fn the_tables_stay_owned_while_the_service_restarts() -> Result<()> {
    let lab = Lab::new("systemd")?;
    let uplink = UplinkSpec::new(&["203.0.113.5/24"]);
    let host = lab.host(&HostSpec::new("h1").uplink(uplink))?;
    let mut manager = Manager::new(&host);

    let agent = manager.start(&host, "first")?;
    manager.heard("READY=1", 1)?;
    assert!(manager.kept.is_some(), "before it is ready");
    assert!(manager.said.contains(&"FDNAME=sortie-tables".to_owned()));
    let tables = host.netns().nft("list tables")?;
    assert_eq!(tables.matches(" sortie").count(), 3, "{tables}");
    manager.heard("WATCHDOG=1", 3)?;
    leaves_with_its_address(&lab, &host, "run-1")?;

    // As `systemctl restart`: both end, and only the manager holds the socket.
    agent.signal(Signal::SIGTERM)?;
    manager.heard("STOPPING=1", 1)?;
    agent.wait(LIMIT)?;
    is_json(&agent)?;
    host.netns().nft("flush ruleset")?;
    let still = host.netns().nft("list tables")?;
    assert_eq!(still, tables, "owned tables cannot be flushed");

    manager.said.clear();
    let agent = manager.start(&host, "second")?;
    manager.heard("READY=1", 1)?;
    leaves_with_its_address(&lab, &host, "run-2")?;
    ok(&host, &["down"])?;
    agent.wait(LIMIT)?;
    assert_eq!(host.netns().nft("list tables")?, "");
    Ok(())
}

/// Each line of the log is an object, and each step one with its fields.
fn is_json(agent: &Process) -> Result<()> {
    let log = agent.stderr()?;
    let mut steps = 0;
    for line in log.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        if line["target"] == "sortie::audit" {
            assert!(
                line["step"].is_string() && line["object"].is_string(),
                "{line}"
            );
            steps += 1;
        }
    }
    assert!(steps > 0, "{log}");
    Ok(())
}
