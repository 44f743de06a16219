//! `sortie export`: policies as configuration of other programs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use sortie_agent::client::Client;
use sortie_api::policy::{Carried, EgressPolicy};
use sortie_export::Export;

use crate::error::CliError;
use crate::files;
use crate::output::{json, write, yaml};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    to: To,
}

#[derive(Debug, Subcommand)]
enum To {
    /// Print a bootstrap for Envoy: a forward proxy, and a listener for redirected connections
    Envoy(From),
    /// Print resources for Istio: all that the mesh sends to the names goes by the egress gateway
    Istio(From),
}

/// Which policies.
#[derive(Debug, clap::Args)]
struct From {
    /// Policy files, folders of *.yaml, or - for standard input; without any, the agent's policies
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    more: Vec<PathBuf>,
    /// Of the agent's policies, those of this workload, labels included
    #[arg(long, value_name = "NAME", conflicts_with_all = ["files", "more"])]
    workload: Option<String>,
    /// How to print it
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Yaml,
    Json,
}

/// What is lost goes to standard error, and into comments where the format has them.
pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let (from, export): (_, fn(&[EgressPolicy]) -> Export) = match &args.to {
        To::Envoy(from) => (from, sortie_export::envoy),
        To::Istio(from) => (from, sortie_export::istio),
    };
    let export = export(&from.policies(client).await?);
    for warning in &export.warnings {
        eprintln!("warning: {warning}");
    }
    write(&text(&export, from.format)?)?;
    Ok(ExitCode::SUCCESS)
}

impl From {
    async fn policies(&self, client: &Client) -> Result<Vec<EgressPolicy>, CliError> {
        let paths = [&*self.files, &*self.more].concat();
        if paths.is_empty() {
            let whole = client.whole_policies(self.workload.as_deref()).await?;
            let whole = whole.into_iter();
            return Ok(whole.map(|Carried(policy)| (*policy).clone()).collect());
        }
        let (_, set) = files::checked(&paths)?;
        Ok(set.policies().cloned().collect())
    }
}

fn text(export: &Export, format: Format) -> Result<String, CliError> {
    match format {
        Format::Json => match export.documents.as_slice() {
            [one] => json(one),
            several => json(&several),
        },
        Format::Yaml => {
            let comments = export.warnings.iter().map(|it| format!("# {it}\n"));
            let mut text: String = comments.collect();
            for (number, document) in export.documents.iter().enumerate() {
                if number > 0 {
                    text += "---\n";
                }
                text += &yaml(document)?;
            }
            Ok(text)
        }
    }
}
