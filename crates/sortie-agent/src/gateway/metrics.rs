//! The gateway's metrics for Prometheus: what the data path and the resolver count. Labels are
//! policies, their addresses and words; none grows with workloads, names or destinations.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use sortie_gateway::meter::{Audits, By, Left, Meter};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::audit::Lookups;
use super::kept::{Kept, of_host};
use crate::Error;

/// What a scrape gets.
#[derive(Debug, Clone)]
pub(super) struct Scraped(Arc<Registry>);

impl Scraped {
    pub(super) fn new(
        requests: Meter,
        lookups: &sortie_dns::Metrics,
        audits: Arc<Lookups>,
        lost: Arc<AtomicU64>,
    ) -> Self {
        let mut registry = Registry::with_prefix("sortie_gateway");
        lookups.register(&mut registry);
        registry.register_collector(Box::new(DataPath {
            requests,
            audits,
            lost,
        }));
        Self(Arc::new(registry))
    }

    /// Answers scrapes at this address until it is aborted: on a former gateway's listener, or a new one.
    pub(super) async fn serve(self, kept: &Kept, at: SocketAddr) -> Result<AbortHandle, Error> {
        let claimed = kept.claim_on_host(at);
        let taken_over: Vec<RawFd> = claimed.iter().map(AsRawFd::as_raw_fd).collect();
        let former = claimed.into_iter().next().map(std::net::TcpListener::from);
        let listener = match former.map(TcpListener::from_std) {
            Some(listener) => listener.map_err(Error::system("serve metrics"))?,
            None => crate::metrics::bind(at).await?,
        };
        kept.keep(of_host("metrics", at), &taken_over, &[listener.as_fd()]);
        let serving = crate::metrics::serve(listener, move || self.text());
        Ok(tokio::spawn(serving).abort_handle())
    }

    /// As OpenMetrics text.
    fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0)?;
        Ok(out)
    }
}

#[derive(Debug)]
struct DataPath {
    requests: Meter,
    /// Of look-ups.
    audits: Arc<Lookups>,
    /// Batches of the access log.
    lost: Arc<AtomicU64>,
}

impl Collector for DataPath {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tally = self.requests.read();
        let mut page = Page(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.0
            .encode_descriptor("build", "The gateway's version", None, MetricType::Info)?
            .encode_info(&version)?;
        let (mut ended, mut sent, mut received) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for ((by, result), carried) in &tally.ended {
            let [policy, source] = named(by);
            let labels = vec![
                policy.clone(),
                source.clone(),
                ("result", (*result).to_owned()),
            ];
            ended.insert(labels, carried.count);
            for (all, bytes) in [(&mut sent, carried.sent), (&mut received, carried.received)] {
                *all.entry(vec![policy.clone(), source.clone()]).or_default() += bytes;
            }
        }
        page.counters(
            "requests",
            "Requests and tunnels that ended, by policy, source and what became of them",
            &ended,
        )?;
        page.counters(
            "sent_bytes",
            "Bytes from workloads, of bodies and through tunnels that ended",
            &sent,
        )?;
        page.counters(
            "received_bytes",
            "Bytes to workloads, of bodies and through tunnels that ended",
            &received,
        )?;
        let by = |counts: &HashMap<By, u64>| -> BTreeMap<_, _> {
            let counts = counts.iter();
            counts
                .map(|(by, count)| (named(by).to_vec(), *count))
                .collect()
        };
        page.counters(
            "wrong_sources",
            "Connections that the kernel gave another source than the policy's; nothing was sent on them",
            &by(&tally.wrong_sources),
        )?;
        page.counters(
            "failed_binds",
            "Connections that were not made because the source is not on this host",
            &by(&tally.failed_binds),
        )?;
        page.counters(
            "audit_requests",
            "Requests and tunnels that policies with enforcement Audit would decide, by what would differ",
            &audited(&tally.audits),
        )?;
        page.counters(
            "audit_lookups",
            "Look-ups that policies with enforcement Audit would have refused or answered",
            &audited(&self.audits.all()),
        )?;
        page.counters(
            "turned_away_connections",
            "Connections of workloads that were closed because theirs were too many",
            &BTreeMap::from([(Vec::new(), tally.turned_away)]),
        )?;
        page.counters(
            "lost_log_batches",
            "Batches of the access log that nobody read in time",
            &BTreeMap::from([(Vec::new(), self.lost.load(Ordering::Relaxed))]),
        )?;
        page.0
            .encode_descriptor(
                "connections",
                "Connections of workloads that are open",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&tally.connections)
    }
}

type Labels = Vec<(&'static str, String)>;

fn named(by: &By) -> [(&'static str, String); 2] {
    let source = match by.left {
        Left::Nowhere => String::new(),
        Left::AsHost => "host".to_owned(),
        Left::With(source) => source.to_string(),
    };
    let policy = by.policy.as_deref().unwrap_or_default();
    [("policy", policy.to_owned()), ("source", source)]
}

fn audited(audits: &Audits) -> BTreeMap<Labels, u64> {
    let counts = audits.all.iter();
    counts
        .map(|((policy, outcome), count)| {
            let outcome = ("outcome", outcome.name().to_owned());
            (vec![("policy", policy.to_string()), outcome], *count)
        })
        .collect()
}

/// The page while it is written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counters(&mut self, name: &str, help: &str, values: &BTreeMap<Labels, u64>) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            let labels: Vec<_> = labels
                .iter()
                .map(|(name, of)| (*name, of.as_str()))
                .collect();
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, u64, f64>(value, None)?;
            } else {
                let labels = labels.as_slice();
                let mut one = family.encode_family(&labels)?;
                one.encode_counter::<NoLabelSet, u64, f64>(value, None)?;
            }
        }
        Ok(())
    }
}
