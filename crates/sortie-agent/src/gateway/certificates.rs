//! Certificates that the gateway believes, shows and signs with, from their files: TLS that it begins
//! for policies, and TLS that it looks into.

pub(super) mod followed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sortie_api::config::{self, CertificateFiles, DnsOverTls};
use sortie_api::policy::{Inspect, Tls};
use sortie_gateway::tls::{Authority, ClientCertificate, Inspection, Origination};

use self::followed::{File, Followed, Made};

/// Kept, so that connections of one policy are alike, and names have one certificate.
#[derive(Default)]
pub(super) struct Certificates {
    begun: Mutex<HashMap<Trust, Followed<Origination>>>,
    authority: Mutex<HashMap<CertificateFiles, Followed<Authority>>>,
}

/// Whom an origin must be, and who the gateway is to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Trust {
    ca: Option<PathBuf>,
    shown: Option<CertificateFiles>,
}

impl Trust {
    /// As a policy says; none where the agent's file has no certificate of this name.
    fn new(ca: Option<&String>, shown: Option<&String>, known: &config::Tls) -> Option<Self> {
        let shown = match shown {
            Some(name) => Some(known.client_certificates.get(name)?.clone()),
            None => None,
        };
        Some(Self {
            ca: ca.map(PathBuf::from),
            shown,
        })
    }

    fn of_server(server: &DnsOverTls) -> Self {
        Self {
            ca: server.ca.clone(),
            shown: None,
        }
    }

    fn files(&self) -> Vec<File> {
        let ca = self.ca.iter().cloned().map(File::Open);
        ca.chain(self.shown.iter().flat_map(pair)).collect()
    }

    fn make(&self, texts: &[Vec<u8>]) -> Result<Made<Origination>, String> {
        let (ca, shown) = texts.split_at(usize::from(self.ca.is_some()));
        let shown = match shown {
            [chain, key] => Some(ClientCertificate { chain, key }),
            _ => None,
        };
        let made = Origination::new(0, ca.first().map(Vec::as_slice), shown);
        let made = made.map_err(|error| error.to_string())?;
        Ok(Made {
            until: made.until(),
            made,
        })
    }
}

impl Certificates {
    /// How TLS is begun as a policy says, with this port of the origin. None while a file cannot be
    /// used; what was made before goes on then.
    pub(super) fn begun(
        &self,
        wanted: &Tls,
        port: u16,
        known: &config::Tls,
        now: Instant,
    ) -> Option<Arc<Origination>> {
        let (ca, shown) = match wanted {
            Tls::Originate(it) => (&it.ca, &it.client_certificate),
            Tls::Inspect(it) => (&it.ca, &it.client_certificate),
        };
        let trust = Trust::new(ca.as_ref(), shown.as_ref(), known)?;
        let made = self.trusting(&trust, now)?;
        Some(Arc::new(made.at(port)))
    }

    /// How TLS is looked into. What is no request of the policy's is sent without its certificate.
    pub(super) fn inspection(
        &self,
        wanted: &Inspect,
        known: &config::Tls,
        now: Instant,
    ) -> Option<Arc<Inspection>> {
        let authority = self.authority(known.inspect.as_ref()?, now)?;
        let trust = Trust::new(wanted.ca.as_ref(), None, known)?;
        let upstream = Arc::new(self.trusting(&trust, now)?);
        Some(Arc::new(Inspection::new(&authority, upstream)))
    }

    /// Whom a name server must be.
    pub(super) fn server(&self, server: &DnsOverTls, now: Instant) -> Option<Origination> {
        self.trusting(&Trust::of_server(server), now)
    }

    fn trusting(&self, trust: &Trust, now: Instant) -> Option<Origination> {
        let mut all = lock(&self.begun);
        let kept = all.entry(trust.clone()).or_default();
        kept.now(now, || trust.files(), |texts| trust.make(texts))
    }

    fn authority(&self, files: &CertificateFiles, now: Instant) -> Option<Authority> {
        let mut all = lock(&self.authority);
        let kept = all.entry(files.clone()).or_default();
        let make = |texts: &[Vec<u8>]| {
            let [chain, key] = texts else {
                return Err("there are two files".to_owned());
            };
            let made = Authority::new(chain, key).map_err(|error| error.to_string())?;
            Ok(Made {
                until: Some(made.until()),
                made,
            })
        };
        kept.now(now, || pair(files).into(), make)
    }

    /// Looks at all that policies and name servers want, and forgets the rest: why files cannot be
    /// used.
    pub(super) fn check<'p>(
        &self,
        wanted: impl Iterator<Item = &'p Tls>,
        servers: &[DnsOverTls],
        known: &config::Tls,
        now: Instant,
    ) -> BTreeSet<String> {
        let mut trusts: HashSet<_> = servers.iter().map(Trust::of_server).collect();
        let mut authorities = HashSet::new();
        for wanted in wanted {
            let (ca, shown) = match wanted {
                Tls::Originate(it) => (it.ca.as_ref(), it.client_certificate.as_ref()),
                Tls::Inspect(it) => {
                    authorities.extend(&known.inspect);
                    trusts.extend(Trust::new(it.ca.as_ref(), None, known));
                    (it.ca.as_ref(), it.client_certificate.as_ref())
                }
            };
            trusts.extend(Trust::new(ca, shown, known));
        }
        lock(&self.begun).retain(|trust, _| trusts.contains(trust));
        lock(&self.authority).retain(|files, _| authorities.contains(files));
        for trust in &trusts {
            self.trusting(trust, now);
        }
        for files in authorities {
            self.authority(files, now);
        }
        let mut faults = BTreeSet::new();
        faults.extend(lock(&self.begun).values().filter_map(Followed::fault));
        faults.extend(lock(&self.authority).values().filter_map(Followed::fault));
        faults
    }
}

pub(super) fn pair(files: &CertificateFiles) -> [File; 2] {
    let CertificateFiles { certificate, key } = files.clone();
    [File::Open(certificate), File::Secret(key)]
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
