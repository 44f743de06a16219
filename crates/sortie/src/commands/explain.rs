//! `sortie explain`.

use std::net::IpAddr;
use std::process::ExitCode;

use sortie_agent::api::{
    AskedRequest, AuditNote, Considered, Explanation, NameExplanation, NameQuestion, Plane,
    Question, Verdict,
};
use sortie_agent::client::Client;

use crate::destination::Destination;
use crate::error::CliError;
use crate::output::{Output, dash, table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name, its id, or the beginning of its id
    workload: String,
    #[allow(
        rustdoc::bare_urls,
        rustdoc::broken_intra_doc_links,
        reason = "help for a terminal, which shows brackets and URLs as they are"
    )]
    /// An address or a name, perhaps with a port and tcp or udp (203.0.113.9:53/udp,
    /// [2001:db8::9]:443, db.example:5432), or a URL (https://api.example/v1)
    #[arg(value_name = "DEST[:PORT[/PROTO]]|URL")]
    destination: Destination,
    /// The request's method, for a URL [default: GET]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,
    /// A field of the request, for a URL: -H 'x-tenant: blue'
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    output: Output,
}

/// `NAME: VALUE`, with or without space.
fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as in 'x-tenant: blue'".to_owned()),
    }
}

pub(crate) async fn run(args: &Args, client: &Client) -> Result<ExitCode, CliError> {
    match &args.destination {
        Destination::Address(to) => {
            let question = Question {
                workload: args.workload.clone(),
                address: to.ip,
                port: to.port,
                protocol: to.protocol.clone(),
            };
            let explanation = client.explain(&question).await?;
            args.output.print(&explanation, as_text)?;
        }
        Destination::Name(_) if args.method.is_some() || !args.headers.is_empty() => {
            return Err(CliError::NoUrl);
        }
        Destination::Name(to) => {
            let question = NameQuestion {
                workload: args.workload.clone(),
                name: to.text.clone(),
                port: to.port,
                protocol: to.protocol.clone(),
                encrypted: false,
                request: None,
            };
            by_name(args, &question, client).await?;
        }
        Destination::Url(url) => {
            let question = NameQuestion {
                workload: args.workload.clone(),
                name: url.name.clone(),
                port: Some(url.port),
                protocol: None,
                encrypted: url.encrypted,
                request: Some(AskedRequest {
                    method: args.method.clone().unwrap_or_else(|| "GET".to_owned()),
                    path: url.path.clone(),
                    headers: args.headers.clone(),
                }),
            };
            by_name(args, &question, client).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn by_name(args: &Args, question: &NameQuestion, client: &Client) -> Result<(), CliError> {
    let explanation = client.explain_name(question).await?;
    args.output.print(&explanation, name_as_text)
}

fn name_as_text(answer: &NameExplanation) -> String {
    let to = [
        answer.request.clone(),
        Some(answer.port.as_ref().map_or_else(
            || answer.name.clone(),
            |port| format!("{}:{port}", answer.name),
        )),
    ];
    let to: Vec<String> = to.into_iter().flatten().collect();
    let sources = answer.sources.iter().map(|it| {
        let through = it.uplink.as_ref();
        let through = through.map(|uplink| format!(" through {uplink}"));
        format!("{}{}", it.source, through.unwrap_or_default())
    });
    let becomes = match answer.verdict {
        Verdict::Drop if answer.plane == Plane::Kernel => "is dropped".to_owned(),
        Verdict::Drop => "is refused".to_owned(),
        Verdict::AsWithoutSortie => "goes its way as without Sortie".to_owned(),
        Verdict::Egress => {
            let sources: Vec<String> = sources.collect();
            format!("leaves with {}", sources.join(" or "))
        }
    };
    let mut text = format!("{} to {}: {becomes}\n", answer.workload, to.join(" at "));
    text += &line("decided", &format!("by the {}", answer.plane.name()));
    text.extend(answer.policy.as_ref().map(|policy| line("policy", policy)));
    text += &line("because", &answer.reason);
    text += &line("look-up", &answer.lookup);
    text.extend(audit(answer.audit.as_ref()));
    text.extend(answer.fix.as_ref().map(|fix| line("fix", fix)));
    if !answer.addresses.is_empty() {
        let rows = answer.addresses.iter().map(|it| {
            [
                it.address.to_string(),
                dash(it.policy.as_ref()),
                dash(it.source),
                it.reason.clone(),
            ]
        });
        text.push('\n');
        text += &table(["LEARNED", "POLICY", "SOURCE", "BECAUSE"], rows.collect());
    }
    if !answer.refused.is_empty() {
        let rows = answer.refused.iter();
        let rows = rows.map(|it| [it.what.clone(), it.why.clone()]);
        text.push('\n');
        text += &table(["REFUSED", "BECAUSE"], rows.collect());
    }
    text + &candidates(&answer.candidates)
}

fn line(name: &str, value: &str) -> String {
    format!("  {name:<9}{}\n", value.trim_end())
}

/// What a policy that only audits would do.
fn audit(note: Option<&AuditNote>) -> Option<String> {
    note.map(|note| line("audit", &format!("{} would {}", note.policy, note.would)))
}

fn candidates(considered: &[Considered]) -> String {
    if considered.is_empty() {
        return String::new();
    }
    let rows = considered
        .iter()
        .map(|it| [it.policy.clone(), it.matches.clone(), it.outcome.clone()]);
    let table = table(["POLICY", "MATCHES", "OUTCOME"], rows.collect());
    format!("\n{table}")
}

fn as_text(answer: &Explanation) -> String {
    let mut text = format!(
        "{} to {}: {}\n",
        answer.workload,
        destination(answer),
        becomes(answer)
    );
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
    text.extend(audit(answer.audit.as_ref()));
    text.extend(answer.fix.as_ref().map(|fix| line("fix", fix)));
    text + &candidates(&answer.candidates)
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
