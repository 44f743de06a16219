//! What a client is told when its request does not go on: a status, `Proxy-Status` (RFC 9209), and
//! a line for a person.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::decide::Reason;
use crate::http1::Refused;

/// Why a request does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The type of RFC 9209 §2.3.
    pub error: &'static str,
    /// The policy that decided, if it was one.
    pub policy: Option<Arc<str>>,
    /// A word for programs, where a policy decided.
    pub reason: Option<Reason>,
    /// What it is, for a person.
    pub details: Cow<'static, str>,
}

impl Refusal {
    fn new(status: u16, error: &'static str, details: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            error,
            policy: None,
            reason: None,
            details: details.into(),
        }
    }

    /// The client's message cannot be read in one way only.
    pub fn request(refused: Refused) -> Self {
        Self::new(refused.status, "http_request_error", refused.reason)
    }

    /// Nobody knows who asks the proxy.
    pub fn unknown_client() -> Self {
        Self::new(
            407,
            "http_request_denied",
            "the proxy does not know this client: it has no managed address and proved nothing",
        )
    }

    /// A tunnel to a port that no policy names.
    pub fn port(port: u16) -> Self {
        let details = format!("a tunnel reaches port 443 only where no policy names port {port}");
        Self::new(403, "http_request_denied", details)
    }

    /// TLS inside a tunnel asks for another name than the tunnel did.
    pub fn other_name() -> Self {
        Self::new(
            403,
            "http_request_denied",
            "TLS asks for another name than CONNECT or SOCKS5 did",
        )
    }

    /// TLS that would be looked into was not begun by the client.
    pub fn client_tls(error: &io::Error) -> Self {
        let details = format!("TLS with the client was not begun: {error}; does it trust the CA?");
        Self::new(400, "http_request_error", details)
    }

    /// TLS with a client of the proxy was not begun.
    pub fn proxy_tls(error: &io::Error) -> Self {
        let details = format!("TLS with the proxy's client was not begun: {error}");
        Self::new(400, "http_request_error", details)
    }

    /// A policy is against it.
    pub fn policy(policy: Option<Arc<str>>, reason: Reason) -> Self {
        let (status, error, details) = match reason {
            Reason::Denied => (403, "http_request_denied", "a policy denies this"),
            Reason::PathNotVisible => (
                403,
                "http_request_denied",
                "TLS hides the path, which decides about the source address",
            ),
            Reason::NoAddress => (
                503,
                "destination_unavailable",
                "the policy has no source address that can be used now",
            ),
            Reason::PrivateAnswer => (
                502,
                "destination_ip_prohibited",
                "the name has only addresses of this host or of private networks, which its policy \
                 does not allow",
            ),
            Reason::AmbiguousPath => (
                400,
                "http_request_error",
                "the path has several spellings, and a policy looks at it",
            ),
            Reason::PolicyChanged => return Self::changed(),
            Reason::NoCertificates => (
                500,
                "proxy_configuration_error",
                "the certificates that the policy wants for TLS cannot be used",
            ),
        };
        Self {
            policy,
            reason: Some(reason),
            ..Self::new(status, error, details)
        }
    }

    /// No address of the name has the family of a source.
    pub fn no_family(policy: Option<Arc<str>>) -> Self {
        Self {
            policy,
            ..Self::new(
                503,
                "destination_unavailable",
                "the policy has no source of the family of any address of the name",
            )
        }
    }

    /// The source cannot be bound: it is not on this host.
    pub fn source(source: IpAddr, error: &io::Error) -> Self {
        let details = format!("cannot leave from {source}: {error}; is it on this host?");
        Self::new(503, "proxy_configuration_error", details)
    }

    /// Every source port towards this destination is in use.
    pub fn no_ports(source: IpAddr, to: SocketAddr) -> Self {
        let details = format!("every source port of {source} towards {to} is in use");
        Self::new(503, "connection_limit_reached", details)
    }

    /// The name has no addresses.
    pub fn name(name: &str, error: &io::Error) -> Self {
        let (status, kind) = match error.kind() {
            io::ErrorKind::TimedOut => (504, "dns_timeout"),
            _ => (502, "dns_error"),
        };
        Self::new(status, kind, format!("cannot resolve {name}: {error}"))
    }

    /// The destination cannot be reached.
    pub fn connect(to: SocketAddr, error: &io::Error) -> Self {
        let (status, kind) = match error.kind() {
            io::ErrorKind::ConnectionRefused => (502, "connection_refused"),
            io::ErrorKind::TimedOut => (504, "connection_timeout"),
            _ => (503, "destination_unavailable"),
        };
        Self::new(status, kind, format!("cannot connect to {to}: {error}"))
    }

    /// TLS with the origin was not begun.
    pub fn tls(to: SocketAddr, error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        let kind = match cause {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                "tls_certificate_error"
            }
            Some(rustls::Error::AlertReceived(_)) => "tls_alert_received",
            _ => "tls_protocol_error",
        };
        Self::new(502, kind, format!("cannot begin TLS with {to}: {error}"))
    }

    /// The origin went without an answer, or in its middle.
    pub fn incomplete(details: &'static str) -> Self {
        Self::new(502, "http_response_incomplete", details)
    }

    /// The origin's answer cannot be read in one way only.
    pub fn response(refused: Refused) -> Self {
        Self::new(502, "http_protocol_error", refused.reason)
    }

    /// The origin did not answer in time.
    pub fn late() -> Self {
        Self::new(
            504,
            "http_response_timeout",
            "the origin did not answer in time",
        )
    }

    /// The client did not send its request in time.
    pub fn slow() -> Self {
        Self::new(
            408,
            "http_request_error",
            "the request did not come in time",
        )
    }

    /// What it is in a word: a policy's reason, or the type of error.
    pub fn word(&self) -> &'static str {
        self.reason.map_or(self.error, Reason::name)
    }

    /// The kernel gave the connection another source than it was to have.
    pub fn wrong_source(wanted: IpAddr, seen: IpAddr) -> Self {
        let details =
            format!("the kernel gave the connection the source {seen} in place of {wanted}");
        Self::new(503, "proxy_internal_error", details)
    }

    /// Policies are others now, and it did not reach its end in time.
    pub fn changed() -> Self {
        Self {
            reason: Some(Reason::PolicyChanged),
            ..Self::new(
                503,
                "connection_terminated",
                "policies changed while the request was on its way",
            )
        }
    }

    /// The value of `Proxy-Status`: a structured field (RFC 8941).
    pub fn proxy_status(&self) -> String {
        let mut value = format!("sortie; error={}", self.error);
        // Writing to a string cannot fail.
        if let Some(policy) = &self.policy {
            let _ = write!(value, "; policy=\"{}\"", quoted(policy));
        }
        if let Some(reason) = self.reason {
            let _ = write!(value, "; reason={reason}");
        }
        let _ = write!(value, "; details=\"{}\"", quoted(&self.details));
        value
    }

    /// The body: a line for a person.
    pub fn text(&self) -> String {
        format!("sortie: {}\n", self.details)
    }

    /// Appends the whole response of HTTP/1.
    pub fn write(&self, out: &mut Vec<u8>, closes: bool, is_head: bool) {
        let reason = match self.status {
            400 => "Bad Request",
            403 => "Forbidden",
            407 => "Proxy Authentication Required",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            421 => "Misdirected Request",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            _ => "Refused",
        };
        let body = self.text();
        let text = format!(
            "HTTP/1.1 {} {reason}\r\nProxy-Status: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n{}{}\r\n{}",
            self.status,
            self.proxy_status(),
            body.len(),
            if self.status == 407 {
                "Proxy-Authenticate: Basic realm=\"sortie\"\r\n"
            } else {
                ""
            },
            if closes { "Connection: close\r\n" } else { "" },
            if is_head { "" } else { &body },
        );
        out.extend_from_slice(text.as_bytes());
    }
}

/// A string of RFC 8941 §3.3.3: visible ASCII, with quotes and backslashes escaped.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests;
