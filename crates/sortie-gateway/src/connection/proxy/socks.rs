//! SOCKS5 (RFC 1928, RFC 1929): CONNECT only.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use sortie_api::workload::WorkloadId;
use tokio::io::AsyncWriteExt;

use super::super::{Called, Client};
use crate::decide::{Clients, Proof, Shown};
use crate::http1::authority::Host;
use crate::tls::ShownCertificate;

pub(super) const VERSION: u8 = 5;

const NO_PROOF: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

const SUCCEEDED: u8 = 0;
const NOT_ALLOWED: u8 = 2;
const COMMAND_UNKNOWN: u8 = 7;
const ADDRESS_UNKNOWN: u8 = 8;

/// Finds out who asks, and for what. Success is told before the origin is called: only what comes
/// then tells how it is decided.
///
/// 1. Who is known by address or certificate needs no proof; all others a name and a password.
/// 2. Only CONNECT, to an address or a name.
pub(super) async fn greet(
    client: &mut Client,
    clients: &dyn Clients,
    (peer, certificate): (SocketAddr, Option<&ShownCertificate>),
) -> Option<(WorkloadId, Called)> {
    let count = usize::from(client.peek(2).await?[1]);
    let methods = client.take(2 + count).await?.split_off(2);
    let shown = Shown {
        certificate,
        proof: None,
    };
    let workload = match clients.known(peer, shown) {
        Some(workload) if methods.contains(&NO_PROOF) => {
            client.say(&[VERSION, NO_PROOF]).await?;
            workload
        }
        _ if methods.contains(&PASSWORD) => {
            client.say(&[VERSION, PASSWORD]).await?;
            let user_length = usize::from(client.peek(2).await?[1]);
            let start = client.peek(3 + user_length).await?;
            let length = usize::from(start[2 + user_length]);
            let proof = client.take(3 + user_length + length).await?;
            let (user, password) = proof[2..].split_at(user_length);
            let password = &password[1..];
            let proof = Some(Proof::Password { user, password });
            let known = clients.known(peer, Shown { certificate, proof });
            client.say(&[1, u8::from(known.is_none())]).await?;
            known?
        }
        _ => {
            client.say(&[VERSION, NO_METHOD]).await?;
            return None;
        }
    };
    let &[_, command, _, kind, first] = client.peek(5).await? else {
        return None;
    };
    let length = match kind {
        1 => 4,
        3 => 1 + usize::from(first),
        4 => 16,
        _ => {
            client.answer(ADDRESS_UNKNOWN).await?;
            return None;
        }
    };
    let request = client.take(4 + length + 2).await?;
    if command != 1 {
        client.answer(COMMAND_UNKNOWN).await?;
        return None;
    }
    let (address, port) = request[4..].split_at(length);
    let port = u16::from_be_bytes([port[0], port[1]]);
    let Some(called) = called(kind, address, port) else {
        client.answer(NOT_ALLOWED).await?;
        return None;
    };
    client.answer(SUCCEEDED).await?;
    Some((workload, called))
}

/// What is asked for; `None` for a name that is none.
fn called(kind: u8, address: &[u8], port: u16) -> Option<Called> {
    let host = match kind {
        1 => Host::Ip(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).into()),
        4 => Host::Ip(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_canonical()),
        _ => Host::parse(std::str::from_utf8(&address[1..]).ok()?).ok()?,
    };
    let (name, address) = match host {
        Host::Name(name) => (Some(name.into_owned()), None),
        Host::Ip(address) => (None, Some(address)),
    };
    (port != 0).then_some(Called {
        name,
        address,
        port,
        proxied: true,
        inside: None,
    })
}

impl Client {
    /// The first bytes, once there are so many.
    async fn peek(&mut self, length: usize) -> Option<&[u8]> {
        while self.buffer.filled().len() < length {
            self.fill().await?;
        }
        Some(&self.buffer.filled()[..length])
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let bytes = self.peek(length).await?.to_vec();
        self.buffer.consume(length);
        Some(bytes)
    }

    async fn say(&mut self, bytes: &[u8]) -> Option<()> {
        let said = self.stream.write_all(bytes);
        self.deadline.within(said).await.ok()?.ok()
    }

    /// The answer to a request; its address is nobody's.
    async fn answer(&mut self, code: u8) -> Option<()> {
        self.say(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]).await
    }
}
