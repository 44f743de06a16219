//! What the gateway costs beside HAProxy and Envoy: the same requests, sources and log, in the same run.
//!
//! Client, host and server are network namespaces, so root is needed. Results go to
//! `docs/benchmarks/gateway.json` and into the gateway's part of `docs/benchmarks.md`.
//! `cargo bench … -- quick` is a run of less than two minutes that tries everything and writes nothing.

use std::error::Error;
use std::net::TcpListener;
use std::process::ExitCode;

use crate::proxies::Kind;
use crate::rig::SERVER;

#[path = "../host/document.rs"]
mod document;
mod goals;
mod http2;
mod load;
mod pki;
#[path = "../host/programs.rs"]
mod programs;
mod proxies;
#[path = "../host/record.rs"]
mod record;
mod rig;
mod scenario;
mod server;
mod tunnel;

type Failure = Box<dyn Error + Send + Sync>;

/// This bench's part of the document.
const PART: document::Part = document::Part {
    name: "gateway",
    sizes: "Sources",
    keeps: false,
    remarks: goals::told,
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("gateway: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(proxies::sortie::ROLE) {
        return proxies::sortie::serve(&arguments.next().ok_or("serve what?")?);
    }
    // Cargo adds `--bench` of its own.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let effort = match asked.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => scenario::FULL,
        ["quick"] => scenario::QUICK,
        _ => return Err(format!("wanted `quick` or nothing, not {asked:?}").into()),
    };
    let rig = rig::Rig::new()?;
    let pki = pki::Pki::new()?;
    let listen = |kind: Kind| {
        rig.server
            .enter(|| TcpListener::bind((SERVER, kind.port())))
    };
    http2::serve(listen(Kind::Http2)??)?;
    tunnel::serve(listen(Kind::Tunnel)??);
    let mut records = Vec::new();
    for scenario in scenario::all() {
        records.extend(scenario.run(&rig, &pki, &effort)?);
    }
    if effort.is_recorded {
        document::update(&PART, &records)?;
    } else {
        for record in &records {
            println!("{}", record.json());
        }
        print!("{}", goals::told(&records));
    }
    Ok(())
}
