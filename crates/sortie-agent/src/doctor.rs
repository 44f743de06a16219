//! `sortie doctor`: the kernel as this process sees it, what a running agent says, and what is
//! not right in both.

use std::net::SocketAddr;
use std::path::Path;

use sortie_kernel::survey;
use sortie_plan::doctor::facts::{Agent, Egress, EngineRuntime, Runtime, Scarce};
use sortie_plan::doctor::findings;
use sortie_workloads::docker::runtime::{self, Answer, Installed};

pub use sortie_plan::doctor::{Finding, Severity};

use crate::agent::notes;
use crate::api::Status;
use crate::client::{Client, ClientError};
use crate::{Error, lock};

/// Looks at everything and changes nothing. Without an agent what only it knows is left out.
/// `state` is the folder where the OCI runtime is, if it is installed, and `docker` and `podman` are
/// its engines' sockets.
pub async fn examine(
    client: &Client,
    state: &Path,
    docker: &Path,
    podman: &Path,
) -> Result<Vec<Finding>, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let status = client.status(false).await;
    let mask = status.as_ref().map(|status| status.mark_mask);
    let mut facts = survey::read(mask.unwrap_or_default())?;
    facts.agent = match status {
        Ok(status) => agent(status),
        Err(ClientError::NoAgent { socket }) => {
            if lock::run(&notes(&socket)).is_some() {
                // They are the tables of a `sortie run`, and go with it.
                facts.tables.clear();
            }
            Agent::Absent
        }
        Err(error) => Agent::Silent(error.to_string()),
    };
    let (docker, podman) = (
        runtime::docker::look(&state.join("docker"), docker).await,
        runtime::podman::look(&state.join("podman"), podman).await,
    );
    facts.runtimes = [docker, podman].into_iter().flatten().map(seen).collect();
    Ok(findings(&facts))
}

fn seen(installed: Installed) -> Runtime {
    let this = std::env::current_exe().unwrap_or_default();
    let text = |path: &Path| path.display().to_string();
    let answer = |answer: Answer| EngineRuntime {
        default: answer.default,
        is_default: answer.is_default,
        known: answer.known,
        others: answer.others,
        older_service: answer.older_service,
    };
    Runtime {
        engine: installed.engine,
        link: text(&installed.link),
        found: installed.program.as_deref().is_some_and(Path::exists),
        program: installed.program.as_deref().map(text),
        this: text(&this),
        answer: installed.answer.map(answer),
    }
}

fn agent(status: Status) -> Agent {
    Agent::Running {
        settled: status.engines_answer(),
        workloads: u64::try_from(status.workloads.len()).unwrap_or(u64::MAX),
        uplinks: status.uplinks,
        egress: status
            .addresses
            .into_iter()
            .map(|address| Egress {
                address: address.address,
                uplink: address.uplink,
                fix: address.fix,
                scarce: address
                    .source_ports
                    .filter(|ports| ports.scarce)
                    .map(|ports| {
                        let to = SocketAddr::new(ports.destination, ports.port);
                        Scarce {
                            towards: format!("{to}/{}", ports.protocol),
                            used: ports.used,
                            of: ports.of,
                        }
                    }),
            })
            .collect(),
    }
}
