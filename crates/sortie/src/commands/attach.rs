//! `sortie attach` and `sortie detach`.

use std::process::ExitCode;

use sortie_agent::api::{AttachRequest, AttachTo, Attachment};
use sortie_agent::client::Client;

use super::addresses::Egress;
use crate::error::CliError;
use crate::output::{Output, list, write};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A running container, started with `--network none`
    container: String,
    #[command(flatten)]
    egress: Egress,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DetachArgs {
    /// The container, or run/PID for what `sortie run` gave
    #[arg(value_name = "CONTAINER|run/PID")]
    owner: String,
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let request = AttachRequest {
        to: AttachTo::Container(args.container.clone()),
        addresses: args.egress.addresses(),
        via: args.egress.via.clone(),
    };
    let attachment = client.attach(&request).await?;
    args.output.print(&attachment, |attachment| {
        as_text(&args.container, attachment)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn as_text(container: &str, attachment: &Attachment) -> String {
    format!(
        "{container} leaves with {} through {} (interface {}); take it away with: sortie detach {container}\n",
        list(&attachment.addresses),
        attachment.uplink,
        attachment.interface
    )
}

pub(crate) async fn detach(args: &DetachArgs, client: &Client) -> Result<ExitCode, CliError> {
    // A container's name has no slash.
    let owner = if args.owner.contains('/') {
        args.owner.clone()
    } else {
        format!("attach/{}", args.owner)
    };
    client.detach(&owner).await?;
    write(&format!("{owner}: detached\n"))?;
    Ok(ExitCode::SUCCESS)
}
