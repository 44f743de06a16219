//! One connection: where it was meant to go, what it speaks, and who goes on.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use sortie_api::workload::WorkloadId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::buffer::Buffer;
use crate::deadline::Deadline;
use crate::decide::{Target, Tls, Verdict, Way};
use crate::flight::{Flight, Leaving};
use crate::http1::Refused;
use crate::http1::authority::Host;
use crate::refusal::Refusal;
use crate::serve::{Connection, Core, Entrance};
use crate::stream::Stream;
use crate::tls::{self, Inspection, Origination, TlsStream};
use crate::upstream::Upstream;

mod answer;
mod dial;
mod http;
mod http2;
mod proxy;
mod report;
mod sniff;
mod tunnel;

use dial::{Dial, Spoken};
use http::To;
use report::Report;
use sniff::Protocol;
use tunnel::Carried;

/// A client's side.
struct Client {
    stream: Stream,
    buffer: Buffer,
    deadline: Deadline,
}

/// Whom a client called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Called {
    /// The name that a proxy's client told before it spoke with the origin.
    name: Option<String>,
    /// The address that was called, or written in place of a name.
    address: Option<IpAddr>,
    port: u16,
    /// Whether a proxy was asked: its client could else reach what only the host reaches.
    proxied: bool,
    /// Whose TLS was taken off.
    inside: Option<Inside>,
}

/// TLS that a client began and the gateway looks into.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inside {
    /// The name that the client asked for, and got a certificate of.
    name: String,
    /// How TLS is begun with the origin.
    upstream: Arc<Origination>,
}

impl Called {
    /// Whom a request is for. Inside of TLS it is for whom TLS was begun with: a certificate is for
    /// one name, and only that one may be looked into.
    fn asked(&self, host: &Host<'_>) -> Result<Self, Refused> {
        let (name, address) = match host {
            Host::Name(name) => (Some(&**name), None),
            Host::Ip(address) => (None, Some(*address)),
        };
        if let Some(inside) = &self.inside
            && name != Some(&inside.name)
        {
            return Err(Refused {
                status: 421,
                reason: "the request is for another host than TLS was begun with",
            });
        }
        Ok(Self {
            address: self.address.or(address),
            ..self.clone()
        })
    }

    /// How TLS that a client begins for this name is looked into, if it is.
    fn inspection(
        &self,
        core: &Core,
        workload: &WorkloadId,
        name: &str,
    ) -> Option<Arc<Inspection>> {
        let target = Target {
            name: Some(name),
            address: self.address,
            port: self.port,
            request: None,
            tls: Tls::Hides,
            by_address: false,
        };
        core.outside.decide.inspects(workload, &target)
    }

    /// What TLS does to the requests that are read.
    fn tls(&self) -> Tls {
        match self.inside {
            Some(_) => Tls::TakenOff,
            None => Tls::Absent,
        }
    }
}

impl From<SocketAddr> for Called {
    fn from(redirected: SocketAddr) -> Self {
        Self {
            name: None,
            address: Some(redirected.ip()),
            port: redirected.port(),
            proxied: false,
            inside: None,
        }
    }
}

/// Serves a connection to its end. Who connects to a listener that others are redirected to is
/// closed.
pub(crate) async fn serve(
    core: &Rc<Core>,
    connection: &Connection,
    entrance: &Entrance,
    stream: TcpStream,
) {
    // A response's last bytes shall not wait for an acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let original = crate::socket::original_destination(&stream);
    let client = Client {
        stream: Stream::Plain(stream),
        buffer: core.buffers.take(),
        deadline: Deadline::after(core.config.sniff),
    };
    match (entrance, original) {
        (Entrance::Redirected(workload), Some(original)) => {
            speak(core, connection, workload, client, original.into()).await;
        }
        (Entrance::Redirected(_), None) => {}
        (Entrance::Proxy(clients, _), _) => {
            proxy::serve(core, connection, &**clients, client).await;
        }
    }
}

/// Serves what a client says to the one it called.
///
/// 1. By its first bytes it is HTTP, TLS or something else; something else too is one on which the
///    client waits for the server.
/// 2. HTTP is served request by request, or stream by stream. TLS is decided by the name in the client's hello, all else
///    by whom was called, and becomes a tunnel.
/// 3. A hello with another name than the one that a proxy was told is refused.
/// 4. Where a policy looks into TLS for the hello's name, it is taken off and what is inside served
///    as in 2.
async fn speak(
    core: &Rc<Core>,
    connection: &Connection,
    workload: &WorkloadId,
    mut client: Client,
    called: Called,
) {
    client.deadline.set(core.config.sniff);
    match first(&mut client).await {
        // Without a told address the requests' own names say where to.
        Some(Protocol::Http) => {
            let workload = workload.clone();
            http::Http::new(core, connection, workload, client, To::Called(called))
                .serve()
                .await;
        }
        Some(Protocol::Http2) => {
            http2::serve(core, connection, workload.clone(), client, called).await;
        }
        Some(Protocol::Tls(hello)) => {
            let told = called.name.clone();
            let is_other = told.is_some() && hello.name.is_some() && told != hello.name;
            let inspection = hello
                .name
                .as_deref()
                .filter(|_| !is_other)
                .and_then(|name| called.inspection(core, workload, name));
            if let (Some(name), Some(inspection)) = (&hello.name, inspection) {
                let inside = Inside {
                    name: name.clone(),
                    upstream: Arc::clone(&inspection.upstream),
                };
                let called = Called {
                    inside: Some(inside),
                    ..called
                };
                inspect(core, connection, workload, client, called, &inspection).await;
                return;
            }
            let name = hello.name.or(told);
            by_connection(core, workload, client, called, (name, true), is_other).await;
        }
        Some(Protocol::Other) => {
            let name = called.name.clone();
            by_connection(core, workload, client, called, (name, false), false).await;
        }
        None => {}
    }
}

/// Takes TLS off, and serves what is inside: HTTP/2 where both sides have agreed on it, else HTTP/1.
async fn inspect(
    core: &Rc<Core>,
    connection: &Connection,
    workload: &WorkloadId,
    client: Client,
    called: Called,
    inspection: &Inspection,
) {
    let Client {
        stream: Stream::Plain(stream),
        mut buffer,
        mut deadline,
    } = client
    else {
        return;
    };
    deadline.set(core.config.head);
    let server = Arc::clone(&inspection.server);
    let accepted = TlsStream::accept(stream, server, buffer.filled());
    let accepted = deadline.within(accepted).await;
    buffer.consume(buffer.filled().len());
    let stream = match accepted.unwrap_or_else(|late| Err(late.into())) {
        Ok(stream) => stream,
        Err(error) => {
            let mut report = Report::begin(workload, called.port);
            let name = called.inside.as_ref().map(|inside| &*inside.name);
            report.host(name.unwrap_or_default());
            report.refused(&Refusal::client_tls(&error));
            report.end(core);
            return;
        }
    };
    let speaks_http2 = stream.protocol() == Some(tls::H2);
    let client = Client {
        stream: Stream::Tls(Box::new(stream)),
        buffer,
        deadline,
    };
    let workload = workload.clone();
    if speaks_http2 {
        http2::serve(core, connection, workload, client, called).await;
    } else {
        http::Http::new(core, connection, workload, client, To::Called(called))
            .serve()
            .await;
    }
}

/// What is spoken; `None` when the client has gone, or when nobody could say.
async fn first(client: &mut Client) -> Option<Protocol> {
    loop {
        if let Some(protocol) = sniff::protocol(client.buffer.filled()) {
            return protocol;
        }
        let (stream, buffer) = (&mut client.stream, &mut client.buffer);
        let more = poll_fn(|cx| buffer.poll_fill(cx, stream));
        match client.deadline.within(more).await {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(_)) => {}
            // Silent so far: perhaps the server speaks first. Who has begun to speak TLS or HTTP
            // and stops is not decided by address: a policy for the name would be passed by.
            Err(_) => return client.buffer.is_empty().then_some(Protocol::Other),
        }
    }
}

/// The decision, once an address is known. A proxy's client may tell a name that no policy decides
/// by: then its first address decides, and is the one that is called.
async fn settled(
    core: &Core,
    workload: &WorkloadId,
    deadline: &mut Deadline,
    verdict: Verdict,
    name: Option<&str>,
    called: &mut Called,
) -> Result<Verdict, Refusal> {
    let is_settled =
        verdict.by_name || called.address.is_some() || matches!(verdict.way, Way::Refused(_));
    let Some(name) = name.filter(|_| !is_settled) else {
        return Ok(verdict);
    };
    let dial = Dial {
        core,
        workload,
        verdict: &verdict,
        name: Some(name),
        called,
        spoken: Spoken::Http1,
    };
    let Some(address) = dial.addresses(deadline).await?.first().copied() else {
        let empty = io::Error::new(io::ErrorKind::NotFound, "it has no addresses");
        return Err(Refusal::name(name, &empty));
    };
    called.address = Some(address);
    let target = Target {
        name: Some(name),
        address: Some(address),
        port: called.port,
        request: None,
        by_address: true,
        tls: Tls::Absent,
    };
    let settled = core.outside.decide.decide(workload, &target);
    let would = verdict.would.filter(|would| would.is_settled());
    Ok(Verdict {
        would: would.or(settled.would),
        ..settled
    })
}

/// Decides about a connection as a whole, and calls its other side. Where policies change while its
/// name is looked up it is decided again: nothing has begun by then.
async fn reach(
    core: &Core,
    (workload, target): (&WorkloadId, Target<'_>),
    called: &mut Called,
    (deadline, flight): (&mut Deadline, &mut Flight<'_>),
    report: &mut Report,
) -> Result<(Upstream, Verdict), Refusal> {
    let name = target.name;
    loop {
        flight.again();
        called.address = target.address;
        let verdict = core.outside.decide.decide(workload, &target);
        report.verdict(&verdict);
        let verdict = settled(core, workload, deadline, verdict, name, called).await?;
        report.verdict(&verdict);
        if called.proxied && !proxy::is_open(called.port, &verdict) {
            return Err(Refusal::port(called.port));
        }
        let dial = Dial {
            core,
            workload,
            verdict: &verdict,
            name,
            called,
            spoken: Spoken::Http1,
        };
        let ways = dial.ways(deadline).await?;
        if flight.is_former() {
            continue;
        }
        let (upstream, _) = dial.connect_to(&ways, deadline).await?;
        return Ok((upstream, verdict));
    }
}

/// A tunnel, for as long as policies let it leave so.
async fn through(
    core: &Core,
    client: &mut Client,
    upstream: &mut Upstream,
    (workload, verdict, target): (&WorkloadId, &Verdict, Target<'_>),
    flight: &mut Flight<'_>,
) -> Carried {
    let mut answer = core.buffers.take();
    let leaving = Leaving {
        workload,
        verdict,
        peer: upstream.peer,
        is_tunnel: true,
    };
    tunnel::run(
        core,
        (&mut client.stream, &mut client.buffer),
        (upstream, &mut answer),
        &mut client.deadline,
        flight,
        || leaving.now(core, &target),
    )
    .await
}

/// A connection that is decided as a whole, by its name if it has one.
async fn by_connection(
    core: &Core,
    workload: &WorkloadId,
    mut client: Client,
    mut called: Called,
    (name, encrypted): (Option<String>, bool),
    is_other: bool,
) {
    let mut report = Report::begin(workload, called.port);
    report.host(name.as_deref().unwrap_or_default());
    let name = name.as_deref();
    let mut flight = Flight::begin(core, workload);
    let target = Target {
        name,
        address: called.address,
        port: called.port,
        request: None,
        by_address: false,
        tls: if encrypted { Tls::Hides } else { Tls::Absent },
    };
    let reached = if is_other {
        let verdict = core.outside.decide.decide(workload, &target);
        report.verdict(&verdict);
        Err(Refusal::other_name())
    } else {
        let time = (&mut client.deadline, &mut flight);
        reach(core, (workload, target), &mut called, time, &mut report).await
    };
    match reached {
        Ok((mut upstream, verdict)) => {
            report.upstream(&verdict, upstream.seen(), false);
            let address = called.address;
            let told = (workload, &verdict, Target { address, ..target });
            let carried = through(core, &mut client, &mut upstream, told, &mut flight).await;
            report.carried(&carried);
        }
        Err(refusal) => {
            report.refused(&refusal);
            if encrypted {
                // It goes anyway; who is still there learns why.
                let alert = client.stream.write_all(&tls::ACCESS_DENIED);
                let _ = client.deadline.within(alert).await;
            }
        }
    }
    report.end(core);
}
