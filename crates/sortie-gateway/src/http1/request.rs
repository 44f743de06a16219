//! The head of a request: what it asks for, and the head that is forwarded.

use std::borrow::Cow;

use super::authority::Authority;
use super::field::{Fields, Hop, content_length, is_hop_by_hop, tokens};
use super::{FieldSpace, Framing, Limits, Parsed, Refused, Version, path, scan};

/// A request that can be read in one way only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what a request says of its connection, each said or not"
)]
pub struct Request<'h, 'a> {
    /// As written; methods know upper and lower case.
    pub method: &'a str,
    /// What is asked for.
    pub target: Target<'a>,
    /// Who is asked: of an absolute target, else of the `Host` field. `None` in HTTP/1.0 only.
    pub authority: Option<Authority<'a>>,
    /// Its version.
    pub version: Version,
    /// How its body ends.
    pub body: Framing,
    /// Whether the client keeps the connection for more.
    pub persists: bool,
    /// Whether it asks for WebSocket (RFC 6455).
    pub upgrades: bool,
    /// Bytes of the head, empty lines before it included.
    pub length: usize,
    /// Whether the target was absolute: its authority replaces `Host`.
    pub is_absolute: bool,
    credentials: Option<&'a [u8]>,
    /// Whether `TE: trailers` goes on.
    takes_trailers: bool,
    /// Where the `Host` field is.
    host_field: Option<usize>,
    fields: Fields<'h, 'a>,
    head: &'a [u8],
}

/// The target of a request (RFC 9112 §3.2), the absolute form taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<'a> {
    /// A path and perhaps a query.
    Path {
        /// Begins with `/`. As it came, until [`Request::settle_path`].
        path: Cow<'a, str>,
        /// From the question mark on; empty without one.
        query: &'a str,
    },
    /// CONNECT's `host:port`; it is [`Request::authority`] too.
    Authority,
    /// `*`, of OPTIONS.
    Asterisk,
}

impl Target<'_> {
    /// The path that policies see; `*` where there is none.
    pub fn path(&self) -> &str {
        match self {
            Self::Path { path, .. } => path,
            Self::Authority => "",
            Self::Asterisk => "*",
        }
    }
}

const TWO_LENGTHS: Refused = Refused::bad("several Content-Lengths that differ");

impl<'h, 'a> Request<'h, 'a> {
    /// Reads a request's head at the beginning of `input`.
    ///
    /// 1. The lines: CR LF, none folded, no control characters, bounded in size and number.
    /// 2. The fields: one `Host` at most, one length, `chunked` alone as a transfer coding, never
    ///    both, and none of it in HTTP/1.0. What is for this connection only does not go on.
    /// 3. The target, in the form that its method may have; an absolute one replaces `Host`, which
    ///    HTTP/1.1 must have all the same.
    pub fn parse(input: &'a [u8], space: &'h mut FieldSpace<'a>, limits: Limits) -> Parsed<Self> {
        let empty = scan::empty_lines(input);
        let input = &input[empty..];
        match scan::head_length(input, limits) {
            Parsed::Incomplete => Parsed::Incomplete,
            Parsed::Refused(refused) => Parsed::Refused(refused),
            Parsed::Head(length) => match Self::read(&input[..length], space) {
                Ok(mut request) => {
                    request.length += empty;
                    Parsed::Head(request)
                }
                Err(refused) => Parsed::Refused(refused),
            },
        }
    }

    /// Reads a head that has ended.
    fn read(head: &'a [u8], space: &'h mut FieldSpace<'a>) -> Result<Self, Refused> {
        let mut raw = httparse::Request::new(&mut []);
        match raw.parse_with_uninit_headers(head, &mut space.0) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Refused::bad("the head does not end where its lines end")),
            Err(error) => return Err(scan::refusal(error, head)),
        }
        let (Some(method), Some(target)) = (raw.method, raw.path) else {
            return Err(Refused::bad("the request line cannot be read"));
        };
        let version = match raw.version {
            Some(1) => Version::Http11,
            _ => Version::Http10,
        };
        let mut found = Found::default();
        let mut fields = Fields::new(head, raw.headers);
        for (index, header) in fields.headers().iter().enumerate() {
            found.look_at(&mut fields, index, header.name, header.value)?;
        }
        found.hop.remove_named(&mut fields)?;
        let (target, authority, is_absolute) = Self::target(method, target)?;
        let from_field = match found.host {
            Some((_, value)) => {
                let text = std::str::from_utf8(value)
                    .map_err(|_| Refused::bad("the Host field is not ASCII"))?;
                Some(Authority::parse(text)?)
            }
            None if version == Version::Http11 => {
                return Err(Refused::bad("no Host field, which HTTP/1.1 must have"));
            }
            None => None,
        };
        let body = found.framing(version)?;
        let upgrades = found.hop.upgrade
            && found.websocket.is_some()
            && method == "GET"
            && body == Framing::None
            && version == Version::Http11;
        if let Some(index) = found.websocket
            && !upgrades
        {
            fields.remove(index);
        }
        Ok(Self {
            method,
            target,
            authority: authority.or(from_field),
            version,
            body,
            persists: found.hop.persists(version),
            upgrades,
            length: head.len(),
            is_absolute,
            credentials: found.credentials,
            takes_trailers: found.trailers,
            host_field: found.host.map(|(index, _)| index),
            fields,
            head,
        })
    }

    /// The target by its method, with the authority of an absolute one, and whether it is one.
    fn target(
        method: &str,
        target: &'a str,
    ) -> Result<(Target<'a>, Option<Authority<'a>>, bool), Refused> {
        if !target.is_ascii() {
            return Err(Refused::bad("the target is not ASCII"));
        }
        if target.contains('#') {
            return Err(Refused::bad("a fragment in the target"));
        }
        if method == "CONNECT" {
            let authority = Authority::parse(target)?;
            if authority.port.is_none() {
                return Err(Refused::bad("CONNECT without a port"));
            }
            return Ok((Target::Authority, Some(authority), false));
        }
        if target == "*" {
            let asterisk = (Target::Asterisk, None, false);
            let wrong = Refused::bad("the target * is for OPTIONS only");
            return (method == "OPTIONS").then_some(asterisk).ok_or(wrong);
        }
        if target.starts_with('/') {
            return Ok((path_and_query(target), None, false));
        }
        let is_http = target
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
        if !is_http {
            return Err(Refused::bad(
                "the target is neither a path nor a URL that begins with http://",
            ));
        }
        let rest = &target[7..];
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let authority = Authority::parse(&rest[..end])?;
        let target = match &rest[end..] {
            // RFC 9112 §3.2.4.
            "" if method == "OPTIONS" => Target::Asterisk,
            path => path_and_query(path),
        };
        Ok((target, Some(authority), true))
    }

    /// Puts the path into its one spelling ([`path::normalise`]): where a policy looks at paths.
    ///
    /// # Errors
    /// [`Refused`] where origins could read the path in two ways.
    pub fn settle_path(&mut self) -> Result<(), Refused> {
        if let Target::Path { path, .. } = &mut self.target {
            let settled = match path {
                Cow::Borrowed(path) => path::normalise(path)?,
                Cow::Owned(path) => Cow::Owned(path::normalise(path)?.into_owned()),
            };
            *path = settled;
        }
        Ok(())
    }

    /// What the client proves to a proxy (`Proxy-Authorization`). It does not go on.
    pub fn credentials(&self) -> Option<&'a [u8]> {
        self.credentials
    }

    /// Values of the fields of a name that the origin will get, in their order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.values(name)
    }

    /// Whether doing it twice is doing it once (RFC 9110 §9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(
            self.method,
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        )
    }

    /// Appends the head that is forwarded: the bytes that came, without this connection's fields;
    /// the target as a path, in its one spelling where it was settled; and `Host` from an absolute
    /// target (RFC 9112 §3.2.2).
    pub fn write_head(&self, out: &mut Vec<u8>) {
        match &self.target {
            Target::Path {
                path: Cow::Borrowed(_),
                ..
            } if !self.is_absolute => {
                out.extend_from_slice(&self.head[..self.fields.start()]);
            }
            target => {
                let query = match target {
                    Target::Path { query, .. } => query,
                    Target::Authority | Target::Asterisk => "",
                };
                let version = match self.version {
                    Version::Http11 => " HTTP/1.1\r\n",
                    Version::Http10 => " HTTP/1.0\r\n",
                };
                for part in [self.method, " ", target.path(), query, version] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
        }
        let authority = match &self.authority {
            Some(authority) if self.is_absolute => Some(authority.text.as_bytes()),
            _ => None,
        };
        let host: [&[u8]; 3] = [b"Host: ", authority.unwrap_or_default(), b"\r\n"];
        let replaced = authority.and(self.host_field);
        if authority.is_some() && replaced.is_none() {
            out.extend(host.concat());
        }
        self.fields.write(out, replaced, &host);
        let connection: &[u8] = match (self.upgrades, self.takes_trailers) {
            (true, true) => b"Connection: Upgrade, TE\r\n",
            (true, false) => b"Connection: Upgrade\r\n",
            (false, true) => b"Connection: TE\r\n",
            (false, false) => b"",
        };
        out.extend_from_slice(connection);
        out.extend_from_slice(b"\r\n");
    }
}

fn path_and_query(target: &str) -> Target<'_> {
    let end = target.find('?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let path = if path.is_empty() { "/" } else { path };
    Target::Path {
        path: path.into(),
        query,
    }
}

/// What the fields of a request say, gathered one by one.
#[derive(Default)]
struct Found<'a> {
    /// The `Host` field's number and value.
    host: Option<(usize, &'a [u8])>,
    length: Option<u64>,
    codings: bool,
    hop: Hop,
    credentials: Option<&'a [u8]>,
    /// The number of a field `Upgrade: websocket`.
    websocket: Option<usize>,
    trailers: bool,
}

impl<'a> Found<'a> {
    fn look_at(
        &mut self,
        fields: &mut Fields<'_, 'a>,
        index: usize,
        name: &str,
        value: &'a [u8],
    ) -> Result<(), Refused> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("host") {
            if self.host.replace((index, value)).is_some() {
                return Err(Refused::bad("two Host fields"));
            }
        } else if is("content-length") {
            let length = content_length(value)?;
            match self.length.replace(length) {
                None => {}
                Some(before) if before == length => fields.remove(index),
                Some(_) => return Err(TWO_LENGTHS),
            }
        } else if is("transfer-encoding") {
            if self.codings || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(coding_refused(value));
            }
            self.codings = true;
        } else if is("connection") {
            self.hop.read(value);
            fields.remove(index);
        } else if is("upgrade") {
            if self.websocket.is_none() && value.eq_ignore_ascii_case(b"websocket") {
                self.websocket = Some(index);
            } else {
                fields.remove(index);
            }
        } else if is("te") {
            if value.eq_ignore_ascii_case(b"trailers") {
                self.trailers = true;
            } else {
                fields.remove(index);
            }
        } else if is_hop_by_hop(name) {
            if is("proxy-authorization") {
                self.credentials = Some(value);
            }
            fields.remove(index);
        }
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<Framing, Refused> {
        match (self.codings, self.length) {
            (true, Some(_)) => Err(Refused::bad("both Transfer-Encoding and Content-Length")),
            (true, None) if version == Version::Http10 => {
                Err(Refused::bad("Transfer-Encoding in HTTP/1.0"))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

/// Codings before `chunked` are right, but nobody here knows them (RFC 9112 §6.1); all else is not.
fn coding_refused(value: &[u8]) -> Refused {
    let codings = || tokens(value);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let chunked = codings().filter(|coding| is_chunked(coding)).count();
    if chunked == 1 && codings().last().is_some_and(is_chunked) && codings().count() > 1 {
        return Refused {
            status: 501,
            reason: "a transfer coding other than chunked",
        };
    }
    Refused::bad("Transfer-Encoding is not just chunked")
}

#[cfg(test)]
mod tests;
