//! What is measured: kinds of traffic, each through all three proxies in interleaved rounds.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use crate::Failure;
use crate::http2;
use crate::load::{Load, Run};
use crate::pki::Pki;
use crate::proxies::{Kind, NAMES, Proxy};
use crate::record::{Record, Spread};
use crate::rig::{HOST, Rig, SERVER, called, listener, name, on_load_cpu};
use crate::tunnel;

/// How much is done.
pub(crate) struct Effort {
    rounds: usize,
    /// Counts are divided by it.
    divisor: u32,
    /// Of one measurement of latencies.
    seconds: f64,
    pub(crate) is_recorded: bool,
}

pub(crate) const FULL: Effort = Effort {
    rounds: 5,
    divisor: 1,
    seconds: 0.7,
    is_recorded: true,
};

pub(crate) const QUICK: Effort = Effort {
    rounds: 1,
    divisor: 10,
    seconds: 0.2,
    is_recorded: false,
};

/// Connections of clients that wait for each answer.
const CLIENTS: usize = 16;
/// Connections of clients that do not: requests wait for one when all are busy.
const PACED_CLIENTS: usize = 64;
/// Shares of what each proxy could do at most, in percent.
const LOADS: [u32; 3] = [25, 50, 75];

/// One kind of traffic to so many sources.
pub(crate) struct Scenario {
    id: &'static str,
    /// Of figures beside those of the same id.
    variant: &'static str,
    kind: Kind,
    sources: u32,
    /// Fields of a request beside `Host`.
    fields: &'static str,
    fresh: bool,
    /// Requests of one measurement; of a tunnel MiB.
    count: u32,
    has_latencies: bool,
}

const ELEVEN: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101\r\n\
                      Accept: application/json, text/plain;q=0.9, */*;q=0.5\r\n\
                      Accept-Language: en-GB,en;q=0.8,de;q=0.5\r\n\
                      Accept-Encoding: gzip, deflate, br\r\n\
                      Referer: https://shop.example.com/checkout/step-2\r\n\
                      Cookie: session=3f2a9c51d7e84b06; theme=dark; consent=yes\r\n\
                      Cache-Control: no-cache\r\n\
                      X-Request-Id: 5b1d0a52-91a0-4c0e-a6fb-0d9a9c1f2f60\r\n\
                      X-Tenant: blue\r\n\
                      DNT: 1\r\n";

/// Everything that is measured.
pub(crate) fn all() -> Vec<Scenario> {
    let plain = Scenario {
        id: "keepalive",
        variant: "",
        kind: Kind::Plain,
        sources: 1,
        fields: "",
        fresh: false,
        count: 20_000,
        has_latencies: true,
    };
    let mut all = Vec::new();
    for sources in [1, 10, 250] {
        let plain = Scenario {
            sources,
            has_latencies: sources == 10,
            ..plain
        };
        all.extend([
            Scenario {
                variant: "/11-headers",
                fields: ELEVEN,
                has_latencies: false,
                ..plain
            },
            Scenario {
                id: "new",
                fields: "Connection: close\r\n",
                fresh: true,
                count: 5_000,
                ..plain
            },
            Scenario {
                id: "tls",
                kind: Kind::Tls,
                count: 15_000,
                ..plain
            },
            Scenario {
                id: "h2",
                kind: Kind::Http2,
                count: 10_000,
                has_latencies: false,
                ..plain
            },
            plain,
        ]);
    }
    all.push(Scenario {
        id: "connect",
        kind: Kind::Tunnel,
        count: 512,
        has_latencies: false,
        ..plain
    });
    all
}

/// What makes a scenario's load.
enum Traffic {
    Requests(Box<Load>, Vec<Vec<u8>>),
    Tunnel,
    Http2(Vec<http2::Client>),
}

impl Scenario {
    /// Measures it.
    ///
    /// # Errors
    /// When something fails, as every wrong source does.
    pub(crate) fn run(
        &self,
        rig: &Rig,
        pki: &Pki,
        effort: &Effort,
    ) -> Result<Vec<Record>, Failure> {
        let served = (self.kind, self.sources);
        let mut proxies = Vec::new();
        for number in 0..3 {
            proxies.push(Proxy::start(rig, number, served, &pki.ca())?);
        }
        rig.client.enter(|| {
            on_load_cpu()?;
            let mut traffic = self.traffic(rig, pki)?;
            let (mut records, costs) = self.costs(&mut traffic, &proxies, effort)?;
            if self.has_latencies {
                for percent in LOADS {
                    records.extend(self.latencies(&mut traffic, costs, percent, effort)?);
                }
            }
            Ok(records)
        })?
    }

    fn id(&self, figure: &str, variant: &str) -> String {
        format!("gateway/{}/{figure}{}{variant}", self.id, self.variant)
    }

    fn traffic(&self, rig: &Rig, pki: &Pki) -> Result<Traffic, Failure> {
        let port = self.kind.port();
        Ok(match self.kind {
            Kind::Tunnel => Traffic::Tunnel,
            Kind::Http2 => {
                let clients = (0..3).map(|number| http2::Client::new(self.to(number)));
                Traffic::Http2(clients.collect::<Result<_, _>>()?)
            }
            Kind::Plain | Kind::Tls => {
                let listener = rig.server.enter(|| TcpListener::bind((SERVER, port)))??;
                let tls = (self.kind == Kind::Tls).then(|| pki.server.clone());
                let fields = self.fields;
                let request = |number| {
                    let host = name(number);
                    format!("GET /x HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").into_bytes()
                };
                let requests = (0..self.sources).map(request).collect();
                Traffic::Requests(Box::new(Load::new(listener, tls)?), requests)
            }
        })
    }

    /// Whom clients call to reach the n-th proxy.
    fn to(&self, proxy: u16) -> SocketAddr {
        let (address, port) = if self.kind == Kind::Tunnel {
            (HOST, listener(proxy))
        } else {
            (called(proxy), self.kind.called())
        };
        SocketAddr::new(IpAddr::V4(address), port)
    }

    /// Sends so much through the n-th proxy.
    fn send(&self, traffic: &mut Traffic, proxy: u16, count: u32) -> Result<(), Failure> {
        let to = self.to(proxy);
        let sent = match traffic {
            Traffic::Requests(load, requests) => {
                let run = Run {
                    to,
                    requests,
                    count,
                    connections: CLIENTS,
                    fresh: self.fresh,
                    rate: None,
                };
                load.run(&run).map(drop)
            }
            Traffic::Tunnel => {
                let is_asked = NAMES[usize::from(proxy)] != "haproxy";
                tunnel::take(to, is_asked.then(|| self.kind.port()), count)
            }
            Traffic::Http2(clients) => clients[usize::from(proxy)].run(self.sources, count),
        };
        sent.map_err(|failure| self.failed(proxy, &failure))
    }

    fn failed(&self, proxy: u16, failure: &Failure) -> Failure {
        let name = NAMES[usize::from(proxy)];
        format!("{name}, {}, {} sources: {failure}", self.id, self.sources).into()
    }

    /// CPU for each request, and memory afterwards; and each proxy's CPU by itself.
    fn costs(
        &self,
        traffic: &mut Traffic,
        proxies: &[Proxy],
        effort: &Effort,
    ) -> Result<(Vec<Record>, [f64; 3]), Failure> {
        let count = self.count / effort.divisor;
        // So that each source has its connections.
        let first = if self.kind == Kind::Tunnel {
            1
        } else {
            200 + 2 * self.sources
        };
        let (mut cpu, mut rss) = ([(); 3].map(|()| Vec::new()), [(); 3].map(|()| Vec::new()));
        for round in 0..effort.rounds {
            for turn in 0..3 {
                // Nobody is always the one behind the same other.
                let number = (turn + round) % 3;
                let (at, proxy) = (u16::try_from(number)?, &proxies[number]);
                self.send(traffic, at, first)?;
                let before = proxy.cpu()?;
                self.send(traffic, at, count)?;
                cpu[number].push((proxy.cpu()? - before) / f64::from(count));
                rss[number].push(proxy.rss()?);
            }
        }
        let told = NAMES.iter().zip(&cpu).map(|(name, cpu)| {
            let Spread { min, median, max } = Spread::of(cpu);
            format!("{name} {median:.0} ({min:.0}–{max:.0})")
        });
        let told: Vec<String> = told.collect();
        let (id, sources) = (self.id("cpu", ""), self.sources);
        eprintln!("{id}, {sources} sources: ns of CPU: {}", told.join(", "));
        let mut records = self.beside(&id, "ns", &cpu);
        if self.variant.is_empty() {
            records.extend(self.beside(&self.id("rss", ""), "bytes", &rss));
        }
        Ok((records, cpu.map(|cpu| Spread::of(&cpu).median)))
    }

    /// Ours beside each peer that has figures.
    fn beside(&self, id: &str, unit: &str, figures: &[Vec<f64>; 3]) -> Vec<Record> {
        let [ours, theirs @ ..] = figures;
        let peers = NAMES[1..].iter().zip(theirs);
        let whole = peers.filter(|(_, theirs)| theirs.len() == ours.len() && !ours.is_empty());
        whole
            .map(|(peer, theirs)| {
                Record::beside(id, u64::from(self.sources), unit, ours, (peer, theirs))
            })
            .collect()
    }

    /// Times from when a request is due to its answer's end, at a share of what each proxy's CPU would
    /// allow. A proxy is left out where the load could not be made or carried.
    fn latencies(
        &self,
        traffic: &mut Traffic,
        costs: [f64; 3],
        percent: u32,
        effort: &Effort,
    ) -> Result<Vec<Record>, Failure> {
        let Traffic::Requests(load, requests) = traffic else {
            return Err("only requests of HTTP/1 are paced".into());
        };
        let mut middle = [(); 3].map(|()| Vec::new());
        let mut late = [(); 3].map(|()| Vec::new());
        // Something else may have had the CPU once.
        let spare = effort.rounds / 5;
        let mut missed = [0; 3];
        for round in 0..effort.rounds {
            for turn in 0..3 {
                let number = (turn + round) % 3;
                if missed[number] > spare {
                    continue;
                }
                let at = u16::try_from(number)?;
                let rate = f64::from(percent) / 100.0 * 1e9 / costs[number];
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "some ten thousand"
                )]
                let count = (rate * effort.seconds) as u32 + 1;
                let run = Run {
                    to: self.to(at),
                    requests,
                    count,
                    connections: PACED_CLIENTS,
                    fresh: self.fresh,
                    rate: Some(rate),
                };
                let outcome = load
                    .run(&run)
                    .map_err(|failure| self.failed(at, &failure))?;
                let latencies = outcome.latencies;
                middle[number].push(latencies[latencies.len() / 2]);
                late[number].push(latencies[latencies.len() * 99 / 100]);
                let limit = Duration::from_secs_f64(effort.seconds * 1.05 + 0.02);
                missed[number] += usize::from(outcome.elapsed >= limit);
            }
        }
        for (number, missed) in missed.into_iter().enumerate() {
            let name = NAMES[number];
            if missed <= spare {
                let worst = Spread::of(&late[number]).median / 1e3;
                eprintln!("{}, {name} at {percent} %: p99 {worst:.0} µs", self.id);
            } else {
                eprintln!(
                    "{}, {name} at {percent} %: the rate was not reached",
                    self.id
                );
                middle[number].clear();
                late[number].clear();
            }
        }
        // The plain id is the middle load's.
        let variant = if percent == 50 {
            String::new()
        } else {
            format!("/{percent}")
        };
        let mut records = self.beside(&self.id("p50", &variant), "ns", &middle);
        records.extend(self.beside(&self.id("p99", &variant), "ns", &late));
        Ok(records)
    }
}
