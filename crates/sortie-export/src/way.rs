//! How something leaves, as another program is told: by a cluster of its own for each source.

use std::net::IpAddr;

use sortie_api::policy::{Action, HostPattern, Originate, Tls};
use sortie_plan::precedence::{Candidate, Scope};

/// A way out, or none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// With these sources, one of each family at most; none means as without Sortie.
    Out {
        sources: Vec<IpAddr>,
        /// TLS that is begun on the way, with the name where it is one.
        tls: Option<(Originate, Option<String>)>,
    },
    /// Refused, with this text.
    Refused(String),
}

impl Way {
    /// As without Sortie.
    pub(crate) fn as_host() -> Self {
        Self::Out {
            sources: Vec::new(),
            tls: None,
        }
    }

    /// What a candidate says, for requests that are seen.
    pub(crate) fn of(candidate: &Candidate<'_>) -> Self {
        let policy = &candidate.policy.name.0;
        if matches!(candidate.scope, Scope::Unlearned) {
            return Self::Refused(format!("policy {policy}: no name was looked up"));
        }
        let sources = match &candidate.policy.action {
            Action::Deny => return Self::Refused(format!("policy {policy}: Denied")),
            Action::Bypass => Vec::new(),
            Action::Egress(egress) => egress.addresses().collect(),
        };
        let tls = match candidate.scope {
            Scope::Request { http, host, .. } => match &http.tls {
                Some(Tls::Originate(originate)) => Some((originate.clone(), exact(host))),
                Some(Tls::Inspect(_)) | None => None,
            },
            _ => None,
        };
        Self::Out { sources, tls }
    }

    /// The same where TLS hides what is sent: nobody begins any.
    pub(crate) fn of_sealed(candidate: &Candidate<'_>) -> Self {
        match Self::of(candidate) {
            Self::Out { sources, .. } => Self::Out { sources, tls: None },
            refused @ Self::Refused(_) => refused,
        }
    }

    /// The name of its cluster; none where nothing leaves.
    pub(crate) fn cluster(&self) -> Option<String> {
        let Self::Out { sources, tls } = self else {
            return None;
        };
        let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
        let out = if sources.is_empty() {
            "as-host".to_owned()
        } else {
            format!("from-{}", sources.join("-and-"))
        };
        let Some((originate, host)) = tls else {
            return Some(out);
        };
        let more = [
            host.as_deref(),
            originate.ca.as_deref(),
            originate.client_certificate.as_deref(),
        ];
        let more = more.into_iter().flatten();
        let words: Vec<String> = [out, format!("tls-{}", originate.port)]
            .into_iter()
            .chain(more.map(|word| word.trim_start_matches('/').replace('/', "-")))
            .collect();
        Some(words.join("-"))
    }
}

fn exact(host: &HostPattern) -> Option<String> {
    match host {
        HostPattern::Exact(name) => Some(name.clone()),
        _ => None,
    }
}
