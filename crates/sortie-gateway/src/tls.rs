//! TLS: the first message of a client and the alert that refuses it, TLS that the gateway itself
//! begins with an origin, TLS of clients that it looks into, and TLS with clients of the proxy.

mod certificate;
pub mod client_hello;
mod inspection;
mod origination;
mod reception;
mod stream;
mod subject;

pub use inspection::{Authority, Inspection, InspectionError};
pub use origination::{ClientCertificate, Origination, OriginationError};
pub use reception::{Reception, ReceptionError, ShownCertificate};
pub(crate) use stream::TlsStream;

/// The names of HTTP/2 and HTTP/1.1 in TLS (RFC 9113 §3.2, RFC 7301 §6).
pub(crate) const H2: &[u8] = b"h2";
pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// An alert record that ends a handshake: fatal, `access_denied` (RFC 8446 §6.2). What the client
/// can show is that a policy was against it, not that a certificate was wrong.
pub const ACCESS_DENIED: [u8; 7] = [21, 3, 1, 0, 2, 2, 49];
