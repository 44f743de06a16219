//! `sortie verify`.

use std::process::ExitCode;

use sortie_agent::api::{Verification, VerifyRequest};
use sortie_agent::client::Client;
use sortie_agent::probe::ObserverUrl;

use crate::error::CliError;
use crate::output::{Output, dash, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names or ids; without any, every managed workload
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<String>,
    #[allow(
        rustdoc::bare_urls,
        rustdoc::broken_intra_doc_links,
        reason = "help for a terminal, which shows brackets and URLs as they are"
    )]
    /// Who tells callers their address, such as `sortie observe`: http://ADDRESS[:PORT]/,
    /// tcp://ADDRESS:PORT or udp://ADDRESS:PORT; repeat it for the other IP family
    #[arg(long = "observer", value_name = "URL", required = true)]
    observers: Vec<ObserverUrl>,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let request = VerifyRequest {
        workloads: args.workloads.clone(),
        observers: args.observers.iter().map(ToString::to_string).collect(),
    };
    let verifications = client.verify(&request).await?;
    args.output.print(&verifications, |v| as_text(v))?;
    Ok(if verifications.iter().all(is_right) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A verdict of a newer agent that is not known here is none to rely on.
fn is_right(verification: &Verification) -> bool {
    ["right", "blocked", "unmanaged"].contains(&verification.verdict.as_str())
}

fn as_text(verifications: &[Verification]) -> String {
    if verifications.is_empty() {
        return "No managed workload is there to verify.\n".to_owned();
    }
    let rows = verifications.iter().map(|v| {
        [
            v.workload.clone(),
            dash(v.policy.as_ref()),
            v.observer.clone(),
            dash(v.expected),
            dash(v.seen),
            v.verdict.clone(),
            v.detail.clone().unwrap_or_default(),
        ]
    });
    let head = [
        "WORKLOAD", "POLICY", "OBSERVER", "EXPECTED", "SEEN", "VERDICT", "DETAIL",
    ];
    table(head, rows.collect())
}
