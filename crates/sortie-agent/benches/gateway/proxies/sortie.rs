//! Ours: the data path of `sortie gateway` in this program, asked by name. It answers from a table
//! instead of policies, so what the planner's decision costs is not in it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use sortie_api::workload::WorkloadId;
use sortie_gateway::decide::{
    Addresses, Clients, Decide, Denied, Resolve, Resolving, Shown, Sources, Target, Verdict, Way,
};
use sortie_gateway::tls::Origination;
use sortie_gateway::{AccessLog, Config, Gateway, Outside};

use super::{Kind, Line, Setup};
use crate::Failure;
use crate::rig::{SERVER, name, source};

/// The first argument of this program where it is the proxy.
pub(crate) const ROLE: &str = "gateway";

const WORKLOAD: &str = "bench/client";

pub(super) fn command(setup: &Setup) -> Result<Line, Failure> {
    let arguments = vec![ROLE.to_owned(), serde_json::to_string(setup)?];
    Ok((std::env::current_exe()?, arguments))
}

/// Is the proxy, for ever.
pub(crate) fn serve(setup: &str) -> Result<(), Failure> {
    let setup: Setup = serde_json::from_str(setup)?;
    let originate = match setup.kind {
        Kind::Tls => {
            let ca = std::fs::read(&setup.ca)?;
            Some(Arc::new(Origination::new(
                setup.kind.port(),
                Some(&ca),
                None,
            )?))
        }
        _ => None,
    };
    let verdict = |number| Verdict {
        policy: Some(format!("to-{number}").into()),
        by_name: true,
        way: Way::Egress {
            sources: Sources {
                v4: Some(source(number)),
                v6: None,
            },
            mark: 0,
        },
        originate: originate.clone(),
        // The server's port for CONNECT is not 443.
        names_port: setup.kind == Kind::Tunnel,
        ..Verdict::unconcerned()
    };
    let log = File::options().append(true).open(&setup.log)?;
    let outside = Outside {
        decide: Arc::new(Table {
            verdicts: (0..setup.sources)
                .map(|number| (name(number), verdict(number)))
                .collect(),
        }),
        resolve: Arc::new(Server(Arc::from([IpAddr::V4(SERVER)]))),
        log: Arc::new(Log(log)),
        seen: None,
    };
    let config = Config {
        cores: 1,
        ..Config::default()
    };
    let gateway = Gateway::start(&config, &outside)?;
    let at = (Ipv4Addr::UNSPECIFIED, setup.port);
    if setup.kind == Kind::Tunnel {
        let clients: Arc<dyn Clients> = Arc::new(Everybody);
        let listeners = gateway.listeners(at.into(), Vec::new())?;
        gateway.proxy(&clients, at.into(), listeners)?;
    } else {
        let listeners = vec![TcpListener::bind(at)?];
        gateway.listen(&WorkloadId::from(WORKLOAD), listeners)?;
    }
    loop {
        std::thread::park();
    }
}

/// What each name leaves with.
struct Table {
    verdicts: HashMap<String, Verdict>,
}

impl Decide for Table {
    fn sees_requests(&self, _: &WorkloadId, _: &str, _: u16) -> bool {
        true
    }

    fn decide(&self, _: &WorkloadId, target: &Target<'_>) -> Verdict {
        let found = target.name.and_then(|name| self.verdicts.get(name));
        found.cloned().unwrap_or_else(Verdict::unconcerned)
    }

    fn address(&self, _: &WorkloadId, _: &Verdict, _: SocketAddr) -> Result<(), Denied> {
        Ok(())
    }

    fn is_of_host(&self, _: IpAddr) -> bool {
        false
    }
}

/// The only address there is.
struct Server(Addresses);

impl Resolve for Server {
    fn known(&self, _: &WorkloadId, _: &str) -> Option<Addresses> {
        Some(Arc::clone(&self.0))
    }

    fn resolve<'a>(&'a self, _: &'a WorkloadId, _: &'a str) -> Resolving<'a> {
        Box::pin(async { Ok(Arc::clone(&self.0)) })
    }
}

struct Everybody;

impl Clients for Everybody {
    fn known(&self, _: SocketAddr, _: Shown<'_>) -> Option<WorkloadId> {
        Some(WorkloadId::from(WORKLOAD))
    }
}

struct Log(File);

impl AccessLog for Log {
    fn lines(&self, lines: &[u8]) {
        // A full disk is seen by who looks for the lines.
        let _ = (&self.0).write_all(lines);
    }
}
