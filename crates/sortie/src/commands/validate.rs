//! `sortie validate`.

use std::path::PathBuf;
use std::process::ExitCode;

use sortie_api::policy::PolicySet;

use crate::error::CliError;
use crate::files;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Policy files, folders of *.yaml, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Problems are the answer, so they go to standard output, all of them at once.
pub(crate) fn run(args: &Args) -> Result<ExitCode, CliError> {
    let files = files::read(&args.files)?;
    let loaded = PolicySet::load(files.iter().map(|file| (&file.name, &file.text)));
    match loaded {
        Ok(set) => {
            files::tell_notes(&set);
            args.output.print(&[(); 0], |_| as_text(&set))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            args.output.print(&errors, ToString::to_string)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn as_text(set: &PolicySet) -> String {
    let lines = set.files.iter().map(|file| {
        let names: Vec<&str> = file.policies.iter().map(|p| p.name.0.as_str()).collect();
        format!("{}: right: {}\n", file.name, names.join(", "))
    });
    lines.collect::<Vec<_>>().concat()
}
