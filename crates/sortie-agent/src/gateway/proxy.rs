//! The explicit way in: listeners on the host's addresses, and who asks there.

#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sortie_api::config;
use sortie_api::policy::Client;
use sortie_api::workload::WorkloadId;
use sortie_gateway::Gateway;
use sortie_gateway::decide::{Clients, Proof, Shown};
use sortie_gateway::tls::Reception;
use tokio::time::Instant;

use super::certificates::followed::Followed;
use super::kept::{Kept, of_host};
use super::known::Known;
use super::tokens::Tokens;
use crate::api::GatewayProxy;
use tls::Encrypted;

/// How soon listeners that could not be opened are tried again, and the tokens are read again.
const TRIED: Duration = Duration::from_secs(1);

/// What its listeners are kept as.
const PROXY: &str = "proxy";

/// Listeners, as the agent's file says, and the tokens.
pub(super) struct Proxy {
    known: Arc<Known>,
    kept: Kept,
    clients: Arc<ByProof>,
    /// Each with whether TLS is spoken there, and with why it is not open, as it was told; none for
    /// one that is.
    listeners: BTreeMap<SocketAddr, (bool, Option<String>)>,
    /// What is spoken by TLS, and why it cannot be, as it was told.
    tls: Option<config::ProxyTls>,
    reception: Followed<Reception>,
    fault: Option<String>,
    tokens: Option<PathBuf>,
    /// Why they cannot be read, as it was told.
    unread: Option<String>,
    again: Instant,
}

impl Proxy {
    pub(super) fn new(known: Arc<Known>, kept: Kept) -> Self {
        Self {
            clients: Arc::new(ByProof {
                known: Arc::clone(&known),
                tokens: RwLock::default(),
                reception: RwLock::default(),
            }),
            known,
            kept,
            listeners: BTreeMap::new(),
            tls: None,
            reception: Followed::default(),
            fault: None,
            tokens: None,
            unread: None,
            again: Instant::now(),
        }
    }

    /// The agent has told how clients are served.
    pub(super) fn told(&mut self, told: GatewayProxy, gateway: &Gateway) {
        let encrypted = told.tls.iter().flat_map(|tls| &tls.listen);
        let plain = told.listen.iter().map(|at| (*at, false));
        let wanted: BTreeMap<SocketAddr, bool> =
            plain.chain(encrypted.map(|at| (*at, true))).collect();
        let closed = self
            .listeners
            .extract_if(.., |at, (is_tls, _)| wanted.get(at) != Some(is_tls));
        for (at, (_, why)) in closed {
            if why.is_none() {
                gateway.close_proxy(at);
                self.kept.give_up(of_host(PROXY, at));
                tracing::info!(%at, "clients are served here no longer");
            }
        }
        for (at, is_tls) in wanted {
            self.listeners
                .entry(at)
                .or_insert_with(|| (is_tls, Some(String::new())));
        }
        if self.tls != told.tls {
            self.reception = Followed::default();
        }
        self.tls = told.tls;
        self.tokens = told.tokens;
        let (changed, gone) = self.known.client_policies_are(told.policies, told.audits);
        for id in changed {
            gateway.policies_changed(&id);
        }
        for id in gone {
            gateway.forget(&id);
        }
        self.look(gateway);
    }

    /// Looks again at what may have changed, from time to time.
    pub(super) fn look_again(&mut self, gateway: &Gateway) {
        if self.again <= Instant::now() {
            self.look(gateway);
        }
    }

    fn look(&mut self, gateway: &Gateway) {
        self.again = Instant::now() + TRIED;
        self.read_tokens(gateway);
        self.read_certificates(gateway);
        let plain = Arc::clone(&self.clients) as Arc<dyn Clients>;
        let encrypted = Arc::new(Encrypted(Arc::clone(&self.clients))) as Arc<dyn Clients>;
        for (at, (is_tls, closed)) in &mut self.listeners {
            let Some(told) = closed else {
                continue;
            };
            let clients = if *is_tls { &encrypted } else { &plain };
            match opened(&self.kept, gateway, clients, *at) {
                Ok(()) => {
                    *closed = None;
                    tracing::info!(%at, tls = *is_tls, "clients are served, as an HTTP proxy and by SOCKS5");
                }
                Err(error) => {
                    let error = error.to_string();
                    if *told != error {
                        tracing::warn!(%at, error, "clients cannot be served here; trying again. Is the address on this host, and the port free?");
                        *told = error;
                    }
                }
            }
        }
    }

    /// Who has a token that is no longer there is not served any more. A file that cannot be read says
    /// nothing of that.
    fn read_tokens(&mut self, gateway: &Gateway) {
        let read = self
            .tokens
            .as_deref()
            .map_or(Ok(Tokens::default()), Tokens::read);
        let tokens = match read {
            Ok(tokens) => tokens,
            Err(error) => {
                if self.unread.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the tokens of clients cannot be read; those that were read before go on; trying again"
                    );
                    self.unread = Some(error);
                }
                return;
            }
        };
        self.unread = None;
        if *self.clients.tokens() == tokens {
            return;
        }
        let names = tokens.names();
        let kept = self.clients.tokens.write();
        *kept.unwrap_or_else(PoisonError::into_inner) = tokens;
        // Behind that nobody can come back with an old one.
        for id in self.known.clients_without(&names) {
            gateway.forget(&id);
        }
    }
}

/// Serves clients at this address, on a former gateway's listeners if there are any.
fn opened(
    kept: &Kept,
    gateway: &Gateway,
    clients: &Arc<dyn Clients>,
    at: SocketAddr,
) -> io::Result<()> {
    let former: Vec<TcpListener> = kept.claim_on_host(at).into_iter().map(Into::into).collect();
    let taken_over: Vec<RawFd> = former.iter().map(AsRawFd::as_raw_fd).collect();
    let listeners = gateway.listeners(at, former)?;
    let sockets: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    kept.keep(of_host(PROXY, at), &taken_over, &sockets);
    gateway.proxy(clients, at, listeners)
}

/// Says who a client is.
struct ByProof {
    known: Arc<Known>,
    tokens: RwLock<Tokens>,
    /// How TLS is begun; none while it cannot be.
    reception: RwLock<Option<Reception>>,
}

impl ByProof {
    fn tokens(&self) -> std::sync::RwLockReadGuard<'_, Tokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token's name: by itself (RFC 6750), or as the password of its name (RFC 7617, RFC 1929).
    fn proved(&self, proof: Proof<'_>) -> Option<String> {
        let decoded;
        let (name, token) = match proof {
            Proof::Password { user, password } => (Some(user), password),
            Proof::Authorization(value) => {
                let (scheme, rest) =
                    value.split_at_checked(value.iter().position(|byte| *byte == b' ')?)?;
                let rest = rest.trim_ascii();
                if scheme.eq_ignore_ascii_case(b"bearer") {
                    (None, rest)
                } else if scheme.eq_ignore_ascii_case(b"basic") {
                    decoded = base64(rest)?;
                    let colon = decoded.iter().position(|byte| *byte == b':')?;
                    (Some(&decoded[..colon]), &decoded[colon + 1..])
                } else {
                    return None;
                }
            }
        };
        self.tokens().name_of(token, name).map(str::to_owned)
    }
}

impl Clients for ByProof {
    /// 1. A managed container is known by its address, which is bound at its port, and is nobody else.
    /// 2. Others are who they prove to be, by a token, a certificate or both, if a policy means them. A
    ///    token that is nobody's is a mistake, whatever else is shown.
    fn known(&self, peer: SocketAddr, shown: Shown<'_>) -> Option<WorkloadId> {
        if let Some(container) = self.known.asker_at(peer.ip()) {
            return Some(container);
        }
        let token = match shown.proof {
            Some(proof) => Some(self.proved(proof)?),
            None => None,
        };
        let certificate = shown.certificate.filter(|it| self.believes(it));
        let certificate = certificate.map(|it| it.subject.clone());
        self.known.client(Client { token, certificate })
    }
}

/// Decodes base64 (RFC 4648 §4); padding may be missing.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|byte| *byte != b'=');
    let text = &text[..end.map_or(0, |last| last + 1)];
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    // One sign alone is no byte.
    (text.len() % 4 != 1).then_some(out)
}
