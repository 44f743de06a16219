//! What of a name would be refused besides, and what the resolver does with a look-up, in words.

use sortie_api::policy::{Protocol, WhenEncrypted};

use super::answer::{ByName, Plane, Refused};
use crate::named::Interest;
use crate::precedence::{Candidate, Scope};

/// The one port that the gateway's CONNECT leads to where the policy names none.
const HTTPS: u16 = 443;

pub(super) fn looked_up(interest: Interest<'_>) -> String {
    match interest {
        Interest::Refused(policy) => {
            format!(
                "REFUSED: policy {} says `onlyTheseHosts`, and no policy names it",
                policy.0
            )
        }
        Interest::Unnamed { learn: false } => "no policy names it: passed on".to_owned(),
        Interest::Unnamed { learn: true } => {
            "no policy names it: passed on, and its addresses are known then".to_owned()
        }
        Interest::Named { families, seen } => {
            let families = match (families.v4, families.v6) {
                (true, true) => "IPv4 and IPv6",
                (true, false) => "IPv4 only",
                (false, true) => "IPv6 only",
                (false, false) => "no address",
            };
            let seen = if seen {
                ", without `ech` and `h3`: the gateway must see the name"
            } else {
                ""
            };
            format!(
                "a policy names it: the kernel knows its addresses before it is answered; {families}{seen}"
            )
        }
    }
}

/// By what lets it through least: what the gateway refuses, then what the kernel does.
pub(super) fn refused(
    candidates: &[Candidate<'_>],
    asked: &ByName<'_>,
    interest: Interest<'_>,
    plane: Plane,
) -> Vec<Refused> {
    let mut refused: Vec<Refused> = Vec::new();
    let mut add = |what: String, why: String| {
        let found = Refused { what, why };
        if !refused.contains(&found) {
            refused.push(found);
        }
    };
    if plane == Plane::Gateway {
        let local = "private, local and translated addresses (RFC 1918, 127/8, 169.254/16, 100.64/10, NAT64 and so on)";
        add(
            format!("answers that are {local}"),
            "PrivateAnswer: a policy names the name, and none of them is its partner".to_owned(),
        );
    }
    if matches!(interest, Interest::Named { seen: true, .. }) {
        add(
            "UDP to port 443 (QUIC)".to_owned(),
            "the gateway must see the requests".to_owned(),
        );
    }
    let https = Some((Protocol::Tcp, HTTPS));
    let is_hidden = !candidates
        .iter()
        .any(|it| it.inspects() && it.names(asked.name) && it.takes_port(https));
    for candidate in candidates {
        let policy = &candidate.policy.name.0;
        match candidate.scope {
            Scope::Prefix(prefix) if candidate.denies_prefix() => add(
                format!("addresses in {prefix}, whatever the name"),
                format!("policy {policy} says Deny"),
            ),
            Scope::Request { http, .. }
                if is_hidden
                    && !asked.encrypted
                    && candidate.names(asked.name)
                    && candidate.takes_port(https)
                    && http.when_encrypted == WhenEncrypted::Refuse =>
            {
                add(
                    format!("TLS to port {HTTPS}, where the request would change the decision"),
                    format!("PathNotVisible: policy {policy} says `whenEncrypted: Refuse`"),
                );
            }
            Scope::Unlearned => add(
                "addresses that no look-up gave".to_owned(),
                format!("policy {policy} says `unlearned: Deny`"),
            ),
            _ => {}
        }
    }
    refused
}

/// CONNECT leads to the ports that policies name, and else to 443 only.
pub(super) fn connect(asked: &ByName<'_>) -> Option<Refused> {
    let (protocol, port) = asked.port?;
    (protocol == Protocol::Tcp && port != HTTPS).then(|| Refused {
        what: format!("CONNECT to port {port}, where the gateway is asked as a proxy"),
        why: format!("the policy that decides names no port, and then only {HTTPS} is open"),
    })
}
