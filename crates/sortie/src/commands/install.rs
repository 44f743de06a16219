//! `sortie install` and `sortie uninstall`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sortie_workloads::docker::runtime::{Installation, Report};

use crate::error::CliError;
use crate::output::Output;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Engine {
    Docker,
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
    /// What the agent keeps across restarts; the runtime goes there too
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/sortie")]
    state: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
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
                reason: "it edits the daemon's file, and signals the daemon",
            });
        }
        let Engine::Docker = self.engine;
        // The engine calls the runtime, and the runtime the agent, from a folder of its own.
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|source| CliError::Read {
                path: path.to_owned(),
                source,
            })
        };
        Ok(Installation {
            docker: self.docker.clone(),
            folder: absolute(&self.state)?.join("docker"),
            agent: absolute(agent)?,
            limit_seconds,
            dry_run: self.dry_run,
        })
    }
}

pub(crate) async fn install(args: &Args, agent: &Path) -> Result<ExitCode, CliError> {
    let installation = args.place.installation("install", agent, args.time_limit)?;
    let report = installation.install().await?;
    args.place.output.print(&report, |report| {
        as_text(
            report,
            "keep their runtime, and what it does not do, until they are re-created",
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn uninstall(args: &UninstallArgs, agent: &Path) -> Result<ExitCode, CliError> {
    let installation = args.place.installation("uninstall", agent, 0)?;
    let report = installation.uninstall().await?;
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
        (false, false) => format!("{file} has changed, and the daemon has read it:\n"),
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
    text
}
