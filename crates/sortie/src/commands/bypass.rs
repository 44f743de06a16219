//! `sortie bypass`.

use std::process::ExitCode;
use std::time::Duration;

use clap::ArgGroup;
use sortie_agent::api::{Bypass, BypassRequest};
use sortie_agent::client::Client;

use crate::error::CliError;
use crate::output::{Output, table, warn};

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").args(["time", "end"])))]
pub(crate) struct Args {
    /// Its name, its id, or the beginning of its id; without one, list who is bypassed
    #[arg(requires = "what")]
    workload: Option<String>,
    /// For how long: 90s, 10m, 2h; at most 24h
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = time,
        requires_all = ["workload", "reason"]
    )]
    time: Option<Duration>,
    /// Why, in one line: it is logged with who asks
    #[arg(long, value_name = "TEXT", requires = "time")]
    reason: Option<String>,
    /// The policies hold again at once
    #[arg(long, requires = "workload")]
    end: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    match (&args.workload, args.time, &args.reason) {
        (Some(workload), Some(time), Some(reason)) => {
            let request = BypassRequest {
                workload: workload.clone(),
                seconds: time.as_secs(),
                reason: reason.clone(),
            };
            let bypass = client.bypass(&request).await?;
            args.output.print(&bypass, |bypass| {
                let (name, until) = (&bypass.workload, &bypass.until);
                format!(
                    "{name} leaves as without Sortie until {until}; end it before with: sortie bypass {name} --end\n"
                )
            })?;
            warn(bypass.warning.as_deref());
        }
        (Some(workload), ..) => {
            let bypass = client.end_bypass(workload).await?;
            args.output.print(&bypass, |bypass| {
                format!("{}: the policies hold again\n", bypass.workload)
            })?;
            warn(bypass.warning.as_deref());
        }
        (None, ..) => args
            .output
            .print(&client.bypasses().await?, |all| as_text(all))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(bypasses: &[Bypass]) -> String {
    if bypasses.is_empty() {
        return "No workload is bypassed.\n".to_owned();
    }
    let rows = bypasses.iter().map(|bypass| {
        [
            bypass.workload.clone(),
            bypass.until.clone(),
            bypass.seconds_left.to_string(),
            bypass.uid.to_string(),
            bypass.reason.clone(),
        ]
    });
    table(
        ["WORKLOAD", "UNTIL", "SECONDS", "UID", "REASON"],
        rows.collect(),
    )
}

/// A whole number and its unit.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number with s, m or h, such as 10m; from 1s to 24h".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).ok_or_else(wrong)?;
    if (1..=86_400).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let seconds = |text| time(text).ok().map(|time| time.as_secs());
        for (text, is) in [("1s", 1), ("90s", 90), ("10m", 600), ("24h", 86_400)] {
            assert_eq!(seconds(text), Some(is));
        }
        for text in [
            "",
            "10",
            "0s",
            "25h",
            "-1s",
            "1d",
            "m",
            "1.5h",
            "99999999999999999h",
            "5µ",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
