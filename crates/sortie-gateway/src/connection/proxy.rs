//! Clients that ask for a proxy: HTTP with whole URLs, CONNECT, and SOCKS5. Who they are is known
//! by their address, or by what they prove.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use sortie_api::workload::WorkloadId;
use tokio::io::AsyncWriteExt;

use super::http::{Http, To};
use super::report::Report;
use super::sniff::Protocol;
use super::{Called, Client, first, reach, speak, through};
use crate::decide::{Clients, Proof, Shown, Speaks, Target, Tls, Verdict, Way};
use crate::flight::Flight;
use crate::http1::authority::Host;
use crate::http1::request::{self, Request};
use crate::http1::{FieldSpace, Parsed, Refused};
use crate::refusal::Refusal;
use crate::serve::{Connection, Core};
use crate::stream::Stream;
use crate::tls::{self, ShownCertificate, TlsStream};

mod socks;

/// Tunnels lead there where the policy that decides names no port.
const HTTPS: u16 = 443;

const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// What a client has asked for first.
enum Asked {
    /// A request with a URL; it is still in the buffer.
    Request,
    /// A tunnel. The head is out of the buffer.
    Tunnel(Called),
}

/// Serves a client of the proxy to its end.
///
/// 1. Where TLS is spoken it is begun, and may show a certificate.
/// 2. A first byte 5 is SOCKS5, all else HTTP.
/// 3. Who asks must be known: by address, or by the certificate and what the first message proves.
/// 4. HTTP is served request by request, as for a workload that knows of no proxy. CONNECT is
///    decided before it is answered; what SOCKS5 leads to is looked at as if it had been redirected.
pub(super) async fn serve(
    core: &Rc<Core>,
    connection: &Connection,
    clients: &dyn Clients,
    client: Client,
) {
    let Ok(peer) = client.stream.peer_addr() else {
        return;
    };
    let peer = crate::socket::canonical(peer);
    let Some((mut client, certificate)) = enter(core, clients, client).await else {
        return;
    };
    let certificate = certificate.as_ref();
    client.deadline.set(core.config.head);
    if client.fill().await.is_none() {
        return;
    }
    if client.buffer.filled().first() == Some(&socks::VERSION) {
        if let Some((workload, called)) =
            socks::greet(&mut client, clients, (peer, certificate)).await
        {
            connection.is_of(&workload);
            speak(core, connection, &workload, client, called).await;
        }
        return;
    }
    match ask(core, clients, (peer, certificate), &mut client).await {
        None => {}
        Some(Err(refusal)) => refuse(core, client, &refusal).await,
        Some(Ok((workload, Asked::Request))) => {
            connection.is_of(&workload);
            let to = To::Asked {
                clients,
                peer,
                certificate,
            };
            Http::new(core, connection, workload, client, to)
                .serve()
                .await;
        }
        Some(Ok((workload, Asked::Tunnel(called)))) => {
            connection.is_of(&workload);
            connect(core, connection, &workload, client, called).await;
        }
    }
}

/// Begins TLS where it is spoken. Yields the client's certificate, if it has shown one.
async fn enter(
    core: &Core,
    clients: &dyn Clients,
    client: Client,
) -> Option<(Client, Option<ShownCertificate>)> {
    let reception = match clients.speaks() {
        Speaks::Plain => return Some((client, None)),
        Speaks::Tls(reception) => reception,
        Speaks::NotNow => return None,
    };
    let Client {
        stream: Stream::Plain(stream),
        buffer,
        mut deadline,
    } = client
    else {
        return None;
    };
    deadline.set(core.config.head);
    let accepted = TlsStream::accept(stream, Arc::clone(&reception.server), &[]);
    let accepted = deadline.within(accepted).await;
    match accepted.unwrap_or_else(|late| Err(late.into())) {
        Ok(stream) => {
            let certificate = stream
                .subject()
                .map(|subject| ShownCertificate { subject, reception });
            let client = Client {
                stream: Stream::Tls(Box::new(stream)),
                buffer,
                deadline,
            };
            Some((client, certificate))
        }
        Err(error) => {
            let mut report = Report::begin(&WorkloadId::from(""), 0);
            report.refused(&Refusal::proxy_tls(&error));
            report.end(core);
            None
        }
    }
}

/// Reads the first head: who asks, and whether for a tunnel.
async fn ask(
    core: &Core,
    clients: &dyn Clients,
    (peer, certificate): (SocketAddr, Option<&ShownCertificate>),
    client: &mut Client,
) -> Option<Result<(WorkloadId, Asked), Refusal>> {
    loop {
        let mut space = FieldSpace::new();
        match Request::parse(client.buffer.filled(), &mut space, core.config.heads) {
            Parsed::Incomplete => {}
            Parsed::Refused(refused) => return Some(Err(Refusal::request(refused))),
            Parsed::Head(request) => {
                let proof = request.credentials().map(Proof::Authorization);
                let Some(workload) = clients.known(peer, Shown { certificate, proof }) else {
                    return Some(Err(Refusal::unknown_client()));
                };
                if request.target != request::Target::Authority {
                    return Some(Ok((workload, Asked::Request)));
                }
                let called = tunnel_to(&request);
                let length = request.length;
                client.buffer.consume(length);
                return Some(called.map(|called| (workload, Asked::Tunnel(called))));
            }
        }
        client.fill().await?;
    }
}

/// Where a CONNECT leads.
fn tunnel_to(request: &Request<'_, '_>) -> Result<Called, Refusal> {
    let asked = request.authority.as_ref();
    match asked.map(|asked| (&asked.host, asked.port)) {
        Some((Host::Name(name), Some(port))) => Ok(Called {
            name: Some(name.clone().into_owned()),
            address: None,
            port,
            proxied: true,
            inside: None,
        }),
        Some((Host::Ip(address), Some(port))) => Ok(Called {
            name: None,
            address: Some(*address),
            port,
            proxied: true,
            inside: None,
        }),
        _ => Err(Refusal::request(Refused::bad("CONNECT without a port"))),
    }
}

/// Whether a tunnel may lead to this port: nobody sees what goes through it. What a policy refuses is
/// refused by it.
pub(super) fn is_open(port: u16, verdict: &Verdict) -> bool {
    port == HTTPS || verdict.names_port || matches!(verdict.way, Way::Refused(_))
}

/// Serves a CONNECT.
///
/// 1. Where a policy looks into TLS for the name, it is answered at once, and the requests inside are
///    decided, each by itself. Else it is decided as a connection whose requests nobody sees.
/// 2. Where the policy that decides names no port, or none decides, only that of HTTPS is reached.
/// 3. It is answered once the origin is reached. TLS inside must ask for the same name: else its
///    certificate and policy would be another's.
async fn connect(
    core: &Rc<Core>,
    connection: &Connection,
    workload: &WorkloadId,
    mut client: Client,
    mut called: Called,
) {
    let inspection = called
        .name
        .as_deref()
        .and_then(|name| called.inspection(core, workload, name));
    if inspection.is_some() {
        if client.stream.write_all(CONNECTED).await.is_ok() {
            speak(core, connection, workload, client, called).await;
        }
        return;
    }
    let mut report = Report::begin(workload, called.port);
    report.request("CONNECT", "");
    report.host(called.name.as_deref().unwrap_or_default());
    let target = Target {
        name: None,
        address: called.address,
        port: called.port,
        request: None,
        by_address: false,
        tls: Tls::Hides,
    };
    let name = called.name.clone();
    let name = name.as_deref();
    let mut flight = Flight::begin(core, workload);
    let asked = (workload, Target { name, ..target });
    let time = (&mut client.deadline, &mut flight);
    let reached = reach(core, asked, &mut called, time, &mut report).await;
    match reached {
        Err(refusal) => {
            report.status(refusal.status);
            report.refused(&refusal);
            report.end(core);
            write_refusal(&mut client, &refusal).await;
        }
        Ok((mut upstream, verdict)) => {
            report.upstream(&verdict, upstream.seen(), false);
            report.status(200);
            let is_told = client.stream.write_all(CONNECTED).await.is_ok();
            client.deadline.set(core.config.sniff);
            let inside = first(&mut client).await;
            let is_other = match (&inside, &called.name) {
                (Some(Protocol::Tls(hello)), Some(name)) => {
                    hello.name.as_ref().is_some_and(|inside| inside != name)
                }
                _ => false,
            };
            if is_told && inside.is_some() && !is_other {
                let address = called.address;
                let told = (
                    workload,
                    &verdict,
                    Target {
                        name,
                        address,
                        ..target
                    },
                );
                let carried = through(core, &mut client, &mut upstream, told, &mut flight).await;
                report.carried(&carried);
            } else if is_other {
                report.refused(&Refusal::other_name());
                let _ = client.stream.write_all(&tls::ACCESS_DENIED).await;
            }
            report.end(core);
        }
    }
}

/// Answers who is not served, and logs it.
async fn refuse(core: &Core, mut client: Client, refusal: &Refusal) {
    let mut report = Report::begin(&WorkloadId::from(""), 0);
    report.status(refusal.status);
    report.refused(refusal);
    report.end(core);
    write_refusal(&mut client, refusal).await;
}

async fn write_refusal(client: &mut Client, refusal: &Refusal) {
    let mut answer = Vec::new();
    refusal.write(&mut answer, true, false);
    super::http::say_last(&mut client.stream, &mut client.deadline, &answer).await;
}

impl Client {
    /// Reads more; `None` at the end, in time.
    pub(super) async fn fill(&mut self) -> Option<()> {
        let (stream, buffer) = (&mut self.stream, &mut self.buffer);
        let more = poll_fn(|cx| buffer.poll_fill(cx, stream));
        match self.deadline.within(more).await {
            Ok(Ok(length)) if length > 0 => Some(()),
            _ => None,
        }
    }
}
