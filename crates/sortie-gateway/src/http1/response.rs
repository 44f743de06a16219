//! The head of a response: how its body ends, and the head that is forwarded.

use super::field::{Fields, Hop, content_length, is_hop_by_hop};
use super::{FieldSpace, Framing, Limits, Parsed, Refused, Version, scan};

/// What the request says about its response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// HEAD: no body, whatever the fields say.
    pub head: bool,
    /// It was forwarded with `Upgrade: websocket`.
    pub upgrades: bool,
    /// Its version: HTTP/1.0 knows no chunks.
    pub version: Version,
}

/// A response that can be read in one way only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'h, 'a> {
    /// The status code.
    pub status: u16,
    /// How its body ends. Nothing of HTTP follows a 101.
    pub body: Framing,
    /// Whether the origin keeps the connection for more.
    pub persists: bool,
    /// Whether the connection is now its client's alone: NTLM and Negotiate prove who asks for a
    /// connection, not for a request.
    pub pins: bool,
    /// Bytes of the head.
    pub length: usize,
    fields: Fields<'h, 'a>,
    head: &'a [u8],
}

/// What the fields of a response say.
#[derive(Default)]
struct Found {
    length: Option<u64>,
    chunked: bool,
    hop: Hop,
    pins: bool,
}

impl Response<'_, '_> {
    /// Whether another response to the same request follows (RFC 9110 §15.2).
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

impl<'h, 'a> Response<'h, 'a> {
    /// Reads a response's head at the beginning of `input`, as strictly as a request's: what is
    /// refused is no answer, and the client gets a 502.
    pub fn parse(
        input: &'a [u8],
        space: &'h mut FieldSpace<'a>,
        asked: Asked,
        limits: Limits,
    ) -> Parsed<Self> {
        match scan::head_length(input, limits) {
            Parsed::Incomplete => Parsed::Incomplete,
            Parsed::Refused(refused) => Parsed::Refused(refused),
            Parsed::Head(length) => match Self::read(&input[..length], space, asked) {
                Ok(response) => Parsed::Head(response),
                Err(refused) => Parsed::Refused(refused),
            },
        }
    }

    fn read(head: &'a [u8], space: &'h mut FieldSpace<'a>, asked: Asked) -> Result<Self, Refused> {
        let mut raw = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut raw, head, &mut space.0) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Refused::bad("the head does not end where its lines end")),
            Err(error) => return Err(scan::refusal(error, head)),
        }
        let status = raw.code.unwrap_or_default();
        if !(100..1000).contains(&status) {
            return Err(Refused::bad("the status is not a number of three digits"));
        }
        let version = match raw.version {
            Some(1) => Version::Http11,
            _ => Version::Http10,
        };
        let mut found = Found::default();
        let mut fields = Fields::new(head, raw.headers);
        for (index, header) in fields.headers().iter().enumerate() {
            found.look_at(&mut fields, index, header.name, header.value, status)?;
        }
        found.hop.remove_named(&mut fields)?;
        if status == 101 && !(asked.upgrades && found.hop.upgrade) {
            return Err(Refused::bad("101 where nobody asked for another protocol"));
        }
        let body = found.framing(status, asked, version)?;
        Ok(Self {
            status,
            body,
            persists: found.hop.persists(version) && body != Framing::UntilClose,
            pins: found.pins,
            length: head.len(),
            fields,
            head,
        })
    }

    /// Appends the head that is forwarded: as it came, without the fields of the origin's
    /// connection, and as HTTP/1.1, which is what is spoken here. With `closes` the client is told
    /// that the connection ends.
    pub fn write_head(&self, out: &mut Vec<u8>, closes: bool) {
        const VERSION: &[u8] = b"HTTP/1.1";
        out.extend_from_slice(VERSION);
        out.extend_from_slice(&self.head[VERSION.len()..self.fields.start()]);
        self.fields.write(out, None, &[]);
        if self.status == 101 {
            out.extend_from_slice(b"Connection: Upgrade\r\n");
        } else if closes && !self.is_interim() {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Values of the fields of a name that the client will get, in their order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.values(name)
    }

    /// Takes HTTP/3 out of `Alt-Svc` (RFC 7838): the client would go on by UDP, where nobody sees
    /// names and paths. A field that offers something else too goes whole; it is only an offer.
    pub fn remove_http3(&mut self) {
        for (index, header) in self.fields.headers().iter().enumerate() {
            if header.name.eq_ignore_ascii_case("alt-svc") && offers_http3(header.value) {
                self.fields.remove(index);
            }
        }
    }
}

impl Found {
    fn look_at(
        &mut self,
        fields: &mut Fields<'_, '_>,
        index: usize,
        name: &str,
        value: &[u8],
        status: u16,
    ) -> Result<(), Refused> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("content-length") {
            let length = content_length(value)?;
            match self.length.replace(length) {
                None => {}
                Some(before) if before == length => fields.remove(index),
                Some(_) => return Err(Refused::bad("several Content-Lengths that differ")),
            }
        } else if is("transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refused::bad("Transfer-Encoding is not just chunked"));
            }
            self.chunked = true;
        } else if is("connection") {
            self.hop.read(value);
            fields.remove(index);
        } else if is("upgrade") {
            // Also of a 426 and where h2c is offered: the offer is for one connection.
            if status != 101 {
                fields.remove(index);
            }
        } else if is("www-authenticate") {
            self.pins |= pins(value);
        } else if is_hop_by_hop(name) {
            fields.remove(index);
        }
        Ok(())
    }

    fn framing(&self, status: u16, asked: Asked, version: Version) -> Result<Framing, Refused> {
        if self.chunked && self.length.is_some() {
            return Err(Refused::bad("both Transfer-Encoding and Content-Length"));
        }
        if self.chunked && (version == Version::Http10 || asked.version == Version::Http10) {
            return Err(Refused::bad("Transfer-Encoding in HTTP/1.0"));
        }
        if asked.head || (100..200).contains(&status) || matches!(status, 204 | 304) {
            return Ok(Framing::None);
        }
        Ok(match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        })
    }
}

/// Whether a value of `Alt-Svc` offers HTTP/3 or its forerunner.
pub fn offers_http3(value: &[u8]) -> bool {
    let mut entries = value.split(|byte| *byte == b',');
    entries.any(|entry| {
        let entry = entry.trim_ascii_start();
        let offers = |protocol: &[u8]| {
            entry
                .get(..protocol.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(protocol))
        };
        offers(b"h3") || offers(b"quic")
    })
}

/// Whether the value of an authentication field is of a scheme that proves a connection.
pub fn pins(value: &[u8]) -> bool {
    let scheme = value
        .split(|byte| *byte == b' ')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

#[cfg(test)]
mod tests;
