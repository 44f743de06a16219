//! The head of a response as an HTTP/2 client gets it. Pure.

use http::header::{CONNECTION, HeaderName, TE, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, response};

use crate::http1::response::{offers_http3, pins};
use crate::http1::{is_hop_by_hop, tokens};
use crate::refusal::Refusal;

/// The head that goes on: without what is for the origin's connection only, and, where UDP would
/// pass by, without HTTP/3 in `Alt-Svc`.
pub(super) fn forward(parts: response::Parts, hides_http3: bool) -> Response<()> {
    let mut fields = parts.headers;
    let named = names(&fields);
    for name in named {
        fields.remove(name);
    }
    if hides_http3 {
        let has_http3 = |value: &HeaderValue| offers_http3(value.as_bytes());
        let kept: Vec<_> = fields
            .get_all("alt-svc")
            .iter()
            .filter(|value| !has_http3(value))
            .cloned()
            .collect();
        fields.remove("alt-svc");
        for value in kept {
            fields.append("alt-svc", value);
        }
    }
    let mut response = Response::new(());
    *response.status_mut() = parts.status;
    *response.headers_mut() = fields;
    response
}

/// Fields of one connection, and those that `Connection` names.
fn names(fields: &HeaderMap) -> Vec<HeaderName> {
    let named = fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| tokens(value.as_bytes()))
        .filter_map(|name| HeaderName::from_bytes(name).ok());
    let own = fields
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()))
        .cloned();
    named
        .chain(own)
        .chain([CONNECTION, TRANSFER_ENCODING, UPGRADE, TE])
        .collect()
}

/// Whether the origin's connection is now one client's alone ([`pins`]).
pub(super) fn pins_connection(fields: &HeaderMap) -> bool {
    fields
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .any(|value| pins(value.as_bytes()))
}

/// The answer to a request that does not go on, and its body.
pub(super) fn refused(refusal: &Refusal) -> (Response<()>, String) {
    let mut response = Response::new(());
    *response.status_mut() =
        StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = response.headers_mut();
    // It is visible ASCII.
    if let Ok(value) = HeaderValue::from_str(&refusal.proxy_status()) {
        fields.insert("proxy-status", value);
    }
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(http::header::CONTENT_TYPE, text);
    let body = refusal.text();
    fields.insert(http::header::CONTENT_LENGTH, body.len().into());
    (response, body)
}

#[cfg(test)]
mod tests;
