//! TLS: the first message of a client and the alert that refuses it, and TLS that the gateway itself
//! begins with an origin.

pub mod client_hello;
mod origination;
mod stream;

pub use origination::{ClientCertificate, Origination, OriginationError};
pub(crate) use stream::TlsStream;

/// An alert record that ends a handshake: fatal, `access_denied` (RFC 8446 §6.2). What the client
/// can show is that a policy was against it, not that a certificate was wrong.
pub const ACCESS_DENIED: [u8; 7] = [21, 3, 1, 0, 2, 2, 49];
