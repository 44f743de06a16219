//! `sortie doctor`.

use std::path::PathBuf;
use std::process::ExitCode;

use sortie_agent::client::Client;
use sortie_agent::doctor::{Finding, Severity, examine};

use crate::error::CliError;
use crate::output::{Output, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Docker's socket
    #[arg(long, value_name = "SOCKET", default_value = "/var/run/docker.sock")]
    docker: PathBuf,
    /// The socket of Podman's API service
    #[arg(long, value_name = "SOCKET", default_value = "/run/podman/podman.sock")]
    podman: PathBuf,
    /// Where the OCI runtime was installed
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/sortie")]
    state: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// Notes alone are no reason to fail.
pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let findings = examine(client, &args.state, &args.docker, &args.podman).await?;
    args.output.print(&findings, |findings| as_text(findings))?;
    let fine = findings
        .iter()
        .all(|finding| finding.severity == Severity::Note);
    Ok(if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The table, and below it what each finding means and the line that mends it.
fn as_text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "Nothing is in the way.\n".to_owned();
    }
    let rows = findings.iter().map(|finding| {
        [
            finding.name.to_owned(),
            finding.severity.to_string(),
            finding.object.clone(),
        ]
    });
    let mut text = table(["FINDING", "SEVERITY", "OBJECT"], rows.collect());
    text.extend(findings.iter().map(|finding| {
        format!(
            "\n{} {}: {}\n  fix: {}\n",
            finding.name, finding.object, finding.why, finding.fix
        )
    }));
    text
}
