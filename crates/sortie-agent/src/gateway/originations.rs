//! TLS that the gateway begins for policies: made from their CAs' files, once for each, and anew when
//! such a file has changed.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sortie_api::policy::Originate;
use sortie_gateway::tls::Origination;

/// How soon a file is looked at again, and one that could not be used.
const LOOKED_AT: Duration = Duration::from_mins(1);
const TRIED: Duration = Duration::from_secs(5);

/// Kept, so that connections of one policy are alike.
#[derive(Default)]
pub(super) struct Originations(Mutex<HashMap<Originate, Kept>>);

struct Kept {
    /// None while it cannot be made.
    made: Option<Arc<Origination>>,
    /// The file's text that it was made from.
    ca: Option<Vec<u8>>,
    again: Instant,
}

impl Originations {
    /// As a policy says; none while its files cannot be used, which the log tells. What was made
    /// before goes on then.
    pub(super) fn of(&self, wanted: &Originate, now: Instant) -> Option<Arc<Origination>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.remove(wanted);
        let kept = match before {
            Some(kept) if now < kept.again => kept,
            before => look(wanted, before, now),
        };
        let made = kept.made.clone();
        all.insert(wanted.clone(), kept);
        made
    }
}

fn look(wanted: &Originate, before: Option<Kept>, now: Instant) -> Kept {
    let made = |ca: Option<&[u8]>| Origination::new(wanted.port, ca, None);
    let read = wanted.ca.as_ref().map(fs::read).transpose();
    let read = read.map_err(|error| error.to_string());
    let failed = |why: String, before: Option<Kept>| {
        let file = wanted.ca.as_deref().unwrap_or("the system's certificates");
        tracing::warn!(
            file,
            why,
            "a policy's TLS cannot be begun as it says; trying again"
        );
        let (made, ca) = before.map_or((None, None), |kept| (kept.made, kept.ca));
        let again = now + TRIED;
        Kept { made, ca, again }
    };
    match (read, before) {
        (Ok(ca), Some(before)) if before.made.is_some() && before.ca == ca => Kept {
            again: now + LOOKED_AT,
            ..before
        },
        (Ok(ca), before) => match made(ca.as_deref()) {
            Ok(made) => Kept {
                made: Some(Arc::new(made)),
                ca,
                again: now + LOOKED_AT,
            },
            Err(error) => failed(error.to_string(), before),
        },
        (Err(why), before) => failed(why, before),
    }
}
