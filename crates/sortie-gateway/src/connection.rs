//! One connection of a workload: where it was meant to go, what it speaks, and who goes on.

use std::future::poll_fn;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::buffer::Buffer;
use crate::deadline::Deadline;
use crate::decide::Target;
use crate::serve::{Connection, Core};
use crate::tls;

mod answer;
mod dial;
mod http;
mod report;
mod sniff;
mod tunnel;

use report::Report;
use sniff::Protocol;

/// Serves a connection to its end.
///
/// 1. Nobody redirected it here: it is closed.
/// 2. By its first bytes it is HTTP, TLS or something else; something else too is one on which the
///    client waits for the server.
/// 3. HTTP is served request by request. TLS is decided by the name in the client's hello, all else
///    by its address, and becomes a tunnel.
pub(crate) async fn serve(core: &Core, connection: &Connection, mut stream: TcpStream) {
    let Some(destination) = crate::socket::original_destination(&stream) else {
        return;
    };
    // A response's last bytes shall not wait for an acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut buffer = core.buffers.take();
    let mut deadline = Deadline::after(core.config.sniff);
    match first(&mut stream, &mut buffer, &mut deadline).await {
        Some(Protocol::Http) => {
            let client = (stream, buffer);
            let http = http::Http::new(core, connection, client, deadline, destination);
            http.serve().await;
        }
        Some(Protocol::Tls(hello)) => {
            let name = hello.name.as_deref();
            let client = Client {
                stream,
                buffer,
                deadline,
            };
            by_connection(core, connection, client, destination, name, true).await;
        }
        Some(Protocol::Other) => {
            let client = Client {
                stream,
                buffer,
                deadline,
            };
            by_connection(core, connection, client, destination, None, false).await;
        }
        None => {}
    }
}

/// A client's side.
struct Client {
    stream: TcpStream,
    buffer: Buffer,
    deadline: Deadline,
}

/// What is spoken; `None` when the client has gone, or when nobody could say.
async fn first(
    stream: &mut TcpStream,
    buffer: &mut Buffer,
    deadline: &mut Deadline,
) -> Option<Protocol> {
    loop {
        if let Some(protocol) = sniff::protocol(buffer.filled()) {
            return protocol;
        }
        match deadline
            .within(poll_fn(|cx| buffer.poll_fill(cx, stream)))
            .await
        {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(_)) => {}
            // Silent so far: perhaps the server speaks first. Who has begun to speak TLS or HTTP
            // and stops is not decided by address: a policy for the name would be passed by.
            Err(_) => return buffer.is_empty().then_some(Protocol::Other),
        }
    }
}

/// A connection that is decided as a whole.
async fn by_connection(
    core: &Core,
    connection: &Connection,
    mut client: Client,
    destination: SocketAddr,
    name: Option<&str>,
    encrypted: bool,
) {
    let mut report = Report::begin(&connection.workload, destination.port());
    if let Some(name) = name {
        report.host(name);
    }
    let target = Target {
        name,
        address: Some(destination.ip()),
        port: destination.port(),
        request: None,
        encrypted,
    };
    let verdict = core.outside.decide.decide(&connection.workload, &target);
    let dial = dial::Dial {
        core,
        workload: &connection.workload,
        verdict: &verdict,
        name,
        destination,
    };
    report.verdict(&verdict);
    match dial.connect(&mut client.deadline).await {
        Ok(mut upstream) => {
            report.upstream(&verdict, &upstream, false);
            let mut answer = core.buffers.take();
            let (sent, received) = tunnel::run(
                core,
                (&mut client.stream, &mut client.buffer),
                (&mut upstream, &mut answer),
                &mut client.deadline,
            )
            .await;
            report.bytes(sent, received);
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
