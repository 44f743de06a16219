//! Metrics for Prometheus: what the core told last, as OpenMetrics text over HTTP.
//!
//! A scrape reads a copy and never waits for the core, nor the core for it. There is no label that
//! grows with workloads or destinations: those are for `status`, `flows` and `drops`. Policies that
//! only audit have one each.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;

use crate::Error;
use crate::api::AuditStatus;

/// The media type of OpenMetrics 1.0.0.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper bounds of the histogram of steps, in seconds: one element takes some 0.0001.
const BUCKETS: [f64; 8] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0];

/// All that is told, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// By state, in lower case.
    pub workloads: Vec<(&'static str, u64)>,
    /// Egress addresses that can be used.
    pub addresses_usable: u64,
    /// Those that cannot.
    pub addresses_unusable: u64,
    /// Whether what an engine says is up to date (1) or not (0); those that are not there left out.
    pub engines: Vec<(&'static str, u64)>,
    /// Whether the kernel holds what it should.
    pub converged: bool,
    /// Entries of `status`' problems.
    pub problems: u64,
    /// Packets by reason, since our tables were made.
    pub dropped: Vec<(&'static str, u64)>,
    /// Flows of managed workloads that began, by verdict.
    pub flows: Vec<(&'static str, u64)>,
    /// Flows that left with another source than expected.
    pub leaks: u64,
    /// How often reports of flows or drops were lost.
    pub lost_reports: u64,
    /// Steps done in the kernel, by kind.
    pub steps: Vec<(&'static str, u64)>,
    /// How often what others had changed was put right.
    pub repairs: u64,
    /// What policies that only audit would have changed.
    pub audits: Vec<AuditStatus>,
    /// The most source ports that an egress address uses towards one destination.
    pub source_ports_max: u64,
}

/// Where the core tells, and scrapes read.
#[derive(Debug, Clone)]
pub struct Metrics {
    sample: Arc<Mutex<Sample>>,
    durations: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sample: Arc::default(),
            durations: Histogram::new(BUCKETS),
        }
    }
}

impl Metrics {
    /// How things are now.
    pub fn tell(&self, sample: Sample) {
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = sample;
    }

    /// The steps of a change took so many seconds.
    pub fn applied(&self, seconds: f64) {
        self.durations.observe(seconds);
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("sortie");
        registry.register_with_unit(
            "apply_duration",
            "Time that the steps of one change took in the kernel",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_collector(Box::new(self.clone()));
        registry
    }

    /// As OpenMetrics text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry())?;
        Ok(out)
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = sample.clone();
        let mut page = Page(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.0
            .encode_descriptor("build", "The agent's version", None, MetricType::Info)?
            .encode_info(&version)?;
        page.gauges(
            "workloads",
            "Workloads by state, as in `sortie status`",
            "state",
            &sample.workloads,
        )?;
        let addresses = [
            ("true", sample.addresses_usable),
            ("false", sample.addresses_unusable),
        ];
        page.gauges(
            "egress_addresses",
            "Egress addresses that policies name, by whether packets can leave with them",
            "usable",
            &addresses,
        )?;
        page.gauges(
            "engine_connected",
            "Whether an engine answers; one that this host does not have is left out",
            "engine",
            &sample.engines,
        )?;
        page.gauge(
            "converged",
            "Whether the kernel holds what it should",
            u64::from(sample.converged),
        )?;
        page.gauge(
            "problems",
            "Problems that `sortie status` lists",
            sample.problems,
        )?;
        page.counters(
            "dropped_packets",
            "Packets dropped, by reason, since the tables were made",
            "reason",
            &sample.dropped,
        )?;
        page.counters(
            "flows",
            "Flows of managed and audited workloads that began, by verdict",
            "verdict",
            &sample.flows,
        )?;
        page.counter(
            "leaks",
            "Flows that left with another source than expected",
            sample.leaks,
        )?;
        page.counter(
            "lost_reports",
            "Times that reports of flows or drops were lost",
            sample.lost_reports,
        )?;
        page.counters(
            "steps",
            "Steps done in the kernel, by kind",
            "step",
            &sample.steps,
        )?;
        page.counter(
            "drift_repairs",
            "Times that what others had changed was put right",
            sample.repairs,
        )?;
        page.audits(&sample.audits)?;
        page.gauge(
            "source_ports_used_max",
            "The most source ports that an egress address uses towards one destination",
            sample.source_ports_max,
        )
    }
}

/// The page while it is written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        gauge(
            self.0
                .encode_descriptor(name, help, None, MetricType::Gauge)?,
            value,
        )
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&'static str, u64)],
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        values
            .iter()
            .try_for_each(|(of, value)| gauge(family.encode_family(&[(label, *of)])?, *value))
    }

    fn audits(&mut self, audits: &[AuditStatus]) -> fmt::Result {
        let help = "Flows and requests that policies with enforcement Audit would decide, by what would differ";
        let mut family =
            self.0
                .encode_descriptor("audit_flows", help, None, MetricType::Counter)?;
        for audit in audits {
            for (outcome, value) in [
                ("same", audit.all.same),
                ("other-source", audit.all.other_source),
                ("dropped", audit.all.dropped),
                ("unseen", audit.all.unseen),
                ("passed", audit.all.passed_requests),
            ] {
                let labels = [("policy", audit.policy.as_str()), ("outcome", outcome)];
                counter(family.encode_family(&labels)?, value)?;
            }
        }
        let help = "Dropped packets that policies with enforcement Audit would let leave";
        let mut family =
            self.0
                .encode_descriptor("audit_passed_packets", help, None, MetricType::Counter)?;
        audits.iter().try_for_each(|audit| {
            let labels = [("policy", audit.policy.as_str())];
            counter(family.encode_family(&labels)?, audit.all.passed_packets)
        })
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        counter(
            self.0
                .encode_descriptor(name, help, None, MetricType::Counter)?,
            value,
        )
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&'static str, u64)],
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        values
            .iter()
            .try_for_each(|(of, value)| counter(family.encode_family(&[(label, *of)])?, *value))
    }
}

fn gauge(mut encoder: MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_gauge(&value)
}

fn counter(mut encoder: MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

/// Listens where the configuration says.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Metrics { address, source })
}

/// Answers scrapes with what `text` gives, for as long as the runtime lives.
pub async fn serve<T>(listener: TcpListener, text: T) -> Result<(), Error>
where
    T: Fn() -> Result<String, fmt::Error> + Clone + Send + Sync + 'static,
{
    let page = async move || page(text());
    let router = Router::new().route("/metrics", get(page));
    axum::serve(listener, router)
        .await
        .map_err(Error::system("serve metrics"))
}

fn page(text: Result<String, fmt::Error>) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests;
