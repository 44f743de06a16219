//! `sortie install` and `sortie uninstall`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sortie_workloads::docker::runtime::{Report, docker, podman};

use crate::error::CliError;
use crate::output::Output;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Engine {
    Docker,
    Podman,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// How long a container's start may wait for its decision
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    time_limit: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Whose OCI runtime it is
    engine: Engine,
    /// Docker's socket
    #[arg(long, value_name = "SOCKET", default_value = "/var/run/docker.sock")]
    docker: PathBuf,
    /// The socket of Podman's API service
    #[arg(long, value_name = "SOCKET", default_value = "/run/podman/podman.sock")]
    podman: PathBuf,
    /// What the agent keeps across restarts; the runtime goes there too
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/sortie")]
    state: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

enum Installation {
    Docker(docker::Installation),
    Podman(podman::Installation),
}

impl Place {
    fn installation(
        &self,
        command: &'static str,
        agent: &Path,
        limit_seconds: u64,
    ) -> Result<Installation, CliError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(CliError::NotRoot {
                command,
                reason: "it edits the engine's files",
            });
        }
        // The engine calls the runtime, and the runtime the agent, from a folder of its own.
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|source| CliError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let (state, agent) = (absolute(&self.state)?, absolute(agent)?);
        Ok(match self.engine {
            Engine::Docker => Installation::Docker(docker::Installation {
                docker: self.docker.clone(),
                folder: state.join("docker"),
                agent,
                limit_seconds,
                dry_run: self.dry_run,
            }),
            Engine::Podman => Installation::Podman(podman::Installation {
                socket: self.podman.clone(),
                folder: state.join("podman"),
                agent,
                limit_seconds,
                dry_run: self.dry_run,
            }),
        })
    }
}

pub(crate) async fn install(args: &Args, agent: &Path) -> Result<ExitCode, CliError> {
    let report = match args.place.installation("install", agent, args.time_limit)? {
        Installation::Docker(docker) => docker.install().await?,
        Installation::Podman(podman) => podman.install().await?,
    };
    args.place.output.print(&report, |report| {
        as_text(
            report,
            "keep their runtime, and what it does not do, until they are re-created",
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn uninstall(args: &UninstallArgs, agent: &Path) -> Result<ExitCode, CliError> {
    let report = match args.place.installation("uninstall", agent, 0)? {
        Installation::Docker(docker) => docker.uninstall().await?,
        Installation::Podman(podman) => podman.uninstall().await?,
    };
    args.place.output.print(&report, |report| {
        as_text(
            report,
            "still name Sortie's runtime, which now is the real one; re-create them, then run this again",
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn as_text(report: &Report, recreate: &str) -> String {
    let file = report.file.display();
    let mut text = match (report.difference.is_empty(), report.dry_run) {
        (true, _) => format!("{file} is as it should be\n"),
        (false, true) => format!("{file} would change:\n"),
        (false, false) => format!("{file} has changed, and the engine has read it:\n"),
    };
    for line in &report.difference {
        text.extend([line, "\n"]);
    }
    if !report.recreate.is_empty() {
        text.extend(["these containers ", recreate, ":\n"]);
        for name in &report.recreate {
            text.extend(["  ", name, "\n"]);
        }
    }
    if report.service_is_older {
        text.push_str(
            "containers made through Podman's API service get the former runtime until it is started anew; \
             containers go on meanwhile:\n  systemctl restart podman.service\n",
        );
    }
    if let Some(closed) = &report.closed {
        let closed = closed.display().to_string();
        text.extend([
            "users' own Podman reads that file too and will not run, because they may not pass ",
            &closed,
            "; open it:\n  chmod o+x ",
            &closed,
            "\n",
        ]);
    }
    text
}
