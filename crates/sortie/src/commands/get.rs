//! `sortie get`.

use std::process::ExitCode;

use clap::ValueEnum;
use sortie_agent::api::PolicyRecord;
use sortie_agent::client::Client;

use super::status;
use crate::error::CliError;
use crate::output::{Format, Output, dash, list, table, write};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    #[value(alias = "policy")]
    Policies,
    #[value(alias = "workload")]
    Workloads,
    #[value(alias = "address")]
    Addresses,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to list
    #[arg(value_enum, default_value = "policies")]
    kind: Kind,
    /// Only the one of this name
    name: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    match args.kind {
        Kind::Policies => {
            let all = client.policies().await?;
            let found = args.select("policy", all, |policy| vec![&policy.name])?;
            if args.output.format == Format::Yaml {
                // As one writes it, so that it can be edited and applied again.
                write(&manifests(&found))?;
            } else {
                args.output.print(&found, |found| policies(found))?;
            }
        }
        Kind::Workloads => {
            let all = client.status(true).await?.workloads;
            let found = args.select("workload", all, |w| vec![&w.name, &w.id])?;
            args.output
                .print(&found, |found| status::workloads(found))?;
        }
        Kind::Addresses => {
            let all = client.status(true).await?.addresses;
            let named: Vec<_> = all
                .into_iter()
                .map(|address| (address.address.to_string(), address))
                .collect();
            let found = args.select("address", named, |(name, _)| vec![name])?;
            let found: Vec<_> = found.into_iter().map(|(_, address)| address).collect();
            args.output
                .print(&found, |found| status::addresses(found))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// All, or the one whose names have the wanted one; that there is none is an error.
    fn select<T>(
        &self,
        kind: &'static str,
        all: Vec<T>,
        names: impl Fn(&T) -> Vec<&String>,
    ) -> Result<Vec<T>, CliError> {
        let Some(wanted) = &self.name else {
            return Ok(all);
        };
        let known: Vec<String> = all
            .iter()
            .filter_map(|item| names(item).first().map(ToString::to_string))
            .collect();
        let found: Vec<T> = all
            .into_iter()
            .filter(|item| names(item).contains(&wanted))
            .collect();
        if found.is_empty() {
            return Err(CliError::NotFound {
                kind,
                name: wanted.clone(),
                known: if known.is_empty() {
                    "there is none at all".to_owned()
                } else {
                    format!("there are: {}", known.join(", "))
                },
            });
        }
        Ok(found)
    }
}

fn policies(policies: &[PolicyRecord]) -> String {
    let rows = policies.iter().map(|policy| {
        [
            policy.name.clone(),
            if policy.audit {
                format!("{} (audit)", policy.action)
            } else {
                policy.action.clone()
            },
            list(&policy.addresses),
            list(&policy.workloads),
            dash(policy.file.as_ref()),
        ]
    });
    table(
        ["POLICY", "ACTION", "ADDRESSES", "WORKLOADS", "FILE"],
        rows.collect(),
    )
}

fn manifests(policies: &[PolicyRecord]) -> String {
    let texts: Vec<String> = policies
        .iter()
        .map(|policy| policy.yaml.trim_end().to_owned() + "\n")
        .collect();
    texts.join("---\n")
}
