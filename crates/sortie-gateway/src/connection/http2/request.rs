//! What an HTTP/2 request asks for, and the request that is forwarded. Pure.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::uri::{Authority as UriAuthority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, Version, request};

use crate::decide::Fields;
use crate::http1::authority::{Authority, Host};
use crate::http1::{Refused, is_hop_by_hop, path};

/// A request that can be read in one way only.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) host: Host<'static>,
    /// As it was written, with its port.
    authority: UriAuthority,
    /// The path; `*` of OPTIONS.
    pub(super) path: String,
    /// From the question mark on.
    query: String,
    pub(super) fields: HeaderMap,
}

/// Reads a request.
///
/// 1. CONNECT asks a proxy, which the client does not know it has.
/// 2. Who is asked: `:authority`, which a `Host` field may repeat and nothing else; one of both.
/// 3. The path begins with `/`, except `*` of OPTIONS.
/// 4. One length at most; crumbs of a cookie are one field again (RFC 9113 §8.2.3); what is for
///    this connection only does not go on.
///
/// # Errors
/// [`Refused`] where an origin could read it in another way.
pub(super) fn read(parts: request::Parts) -> Result<Asked, Refused> {
    let mut fields = parts.headers;
    if parts.method == Method::CONNECT {
        return Err(Refused {
            status: 405,
            reason: "CONNECT is for a proxy, and none was asked",
        });
    }
    let authority = authority(&parts.uri, &fields)?;
    let host = match Authority::parse(authority.as_str())?.host {
        Host::Name(name) => Host::Name(Cow::Owned(name.into_owned())),
        Host::Ip(address) => Host::Ip(address),
    };
    let path = parts.uri.path();
    if !path.is_ascii() {
        return Err(Refused::bad("the path is not ASCII"));
    }
    let is_asterisk = path == "*" && parts.method == Method::OPTIONS;
    if !path.starts_with('/') && !is_asterisk {
        return Err(Refused::bad("the path does not begin with a slash"));
    }
    let query = parts
        .uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    if !query.is_ascii() {
        return Err(Refused::bad("the query is not ASCII"));
    }
    let path = path.to_owned();
    settle_length(&mut fields)?;
    join_cookies(&mut fields);
    fields.remove(HOST);
    remove_hop_by_hop(&mut fields);
    Ok(Asked {
        method: parts.method,
        host,
        authority,
        path,
        query,
        fields,
    })
}

/// Who is asked.
fn authority(uri: &Uri, fields: &HeaderMap) -> Result<UriAuthority, Refused> {
    const OTHER: Refused = Refused::bad(":authority and Host ask for different hosts");
    let mut hosts = fields.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Refused::bad("two Host fields"));
    }
    match (uri.authority(), host) {
        (Some(authority), None) => Ok(authority.clone()),
        (Some(authority), Some(host)) => {
            let is_same = host
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes());
            is_same.then(|| authority.clone()).ok_or(OTHER)
        }
        (None, Some(host)) => UriAuthority::try_from(host.as_bytes())
            .map_err(|_| Refused::bad("the host is neither a name nor an IP address")),
        (None, None) => Err(Refused::bad("neither :authority nor Host")),
    }
}

/// Lengths that differ are refused: an origin may take the other one. Equal ones become one.
fn settle_length(fields: &mut HeaderMap) -> Result<(), Refused> {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next().cloned() else {
        return Ok(());
    };
    if lengths.any(|other| *other != first) {
        return Err(Refused::bad("several Content-Lengths that differ"));
    }
    fields.insert(CONTENT_LENGTH, first);
    Ok(())
}

fn join_cookies(fields: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = fields
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        fields.insert(COOKIE, whole);
    }
}

/// Removes what is for one connection only. HTTP/2 itself allows none of `Connection`,
/// `Transfer-Encoding` and `Upgrade`.
fn remove_hop_by_hop(fields: &mut HeaderMap) {
    let names: Vec<_> = fields
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        fields.remove(name);
    }
}

impl Asked {
    /// Puts the path into its one spelling ([`path::normalise`]).
    ///
    /// # Errors
    /// [`Refused`] where origins could read the path in two ways.
    pub(super) fn settle_path(&mut self) -> Result<(), Refused> {
        if self.path != "*" {
            self.path = path::normalise(&self.path)?.into_owned();
        }
        Ok(())
    }

    /// Whether doing it twice is doing it once (RFC 9110 §9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }

    /// The request as it goes on: HTTP/2, with the scheme that it really goes by; or HTTP/1.1.
    ///
    /// # Errors
    /// [`Refused`] for a path that cannot be written.
    pub(super) fn forward<B>(
        &self,
        body: B,
        is_http2: bool,
        is_encrypted: bool,
    ) -> Result<Request<B>, Refused> {
        let wrong = |_| Refused::bad("the path cannot be forwarded");
        let target = format!("{}{}", self.path, self.query);
        let target = PathAndQuery::try_from(target).map_err(wrong)?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.fields.clone();
        if is_http2 {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(if is_encrypted {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            });
            parts.authority = Some(self.authority.clone());
            parts.path_and_query = Some(target);
            let uri = Uri::from_parts(parts);
            *request.uri_mut() = uri.map_err(|_| Refused::bad("the path cannot be forwarded"))?;
            *request.version_mut() = Version::HTTP_2;
        } else {
            *request.uri_mut() = Uri::from(target);
            *request.version_mut() = Version::HTTP_11;
            // An authority is visible ASCII.
            if let Ok(host) = HeaderValue::from_str(self.authority.as_str()) {
                request.headers_mut().insert(HOST, host);
            }
        }
        Ok(request)
    }
}

impl Fields for HeaderMap {
    fn any(&self, name: &str, wanted: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.get_all(name)
            .iter()
            .any(|value| wanted(value.as_bytes()))
    }
}

#[cfg(test)]
mod tests;
