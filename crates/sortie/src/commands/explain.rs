//! `sortie explain`.

use std::net::IpAddr;
use std::process::ExitCode;

use sortie_agent::api::{Explanation, Question, Verdict};
use sortie_agent::client::Client;

use crate::destination::Destination;
use crate::error::CliError;
use crate::output::{Output, dash, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name, its id, or the beginning of its id
    workload: String,
    /// An address, perhaps with a port and tcp or udp: 203.0.113.9:53/udp, [2001:db8::9]:443
    #[arg(value_name = "DEST[:PORT[/PROTO]]")]
    destination: Destination,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    let question = Question {
        workload: args.workload.clone(),
        address: args.destination.address,
        port: args.destination.port,
        protocol: args.destination.protocol.clone(),
    };
    let explanation = client.explain(&question).await?;
    args.output.print(&explanation, as_text)?;
    Ok(ExitCode::SUCCESS)
}

fn as_text(answer: &Explanation) -> String {
    let mut text = format!(
        "{} to {}: {}\n",
        answer.workload,
        destination(answer),
        becomes(answer)
    );
    let line = |name: &str, value: &str| format!("  {name:<9}{}\n", value.trim_end());
    text.extend(answer.policy.as_ref().map(|policy| line("policy", policy)));
    text.extend(answer.route.as_ref().map(|route| line("route", route)));
    text += &line("because", &answer.reason);
    let drains = answer.draining.iter();
    text.extend(drains.map(|drain| {
        let (address, left) = (drain.address, drain.seconds_left);
        line(
            "draining",
            &format!("connections from before the change go on with {address} for {left} s"),
        )
    }));
    let audit = answer.audit.as_ref();
    text.extend(audit.map(|note| line("audit", &format!("{} would {}", note.policy, note.would))));
    text.extend(answer.fix.as_ref().map(|fix| line("fix", fix)));
    if !answer.candidates.is_empty() {
        let rows = answer.candidates.iter().map(|considered| {
            [
                considered.policy.clone(),
                considered.matches.clone(),
                considered.outcome.clone(),
            ]
        });
        text.push('\n');
        text += &table(["POLICY", "MATCHES", "OUTCOME"], rows.collect());
    }
    text
}

fn destination(answer: &Explanation) -> String {
    match (&answer.port, answer.destination) {
        (Some(port), IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
        (Some(port), IpAddr::V4(v4)) => format!("{v4}:{port}"),
        (None, address) => address.to_string(),
    }
}

fn becomes(answer: &Explanation) -> String {
    match answer.verdict {
        Verdict::Drop => "is dropped".to_owned(),
        Verdict::AsWithoutSortie => "goes its way as without Sortie".to_owned(),
        Verdict::Egress => {
            let uplink = answer.uplink.as_ref();
            let through = uplink.map(|uplink| format!(" through {uplink}"));
            format!(
                "leaves with {}{}",
                dash(answer.source),
                through.unwrap_or_default()
            )
        }
    }
}
