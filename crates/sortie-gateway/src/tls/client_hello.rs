//! The first message of a TLS client (RFC 8446 §4.1.2): which name and protocols it asks for.
//! Bytes in, an answer out, bounded; records and segments may cut it anywhere.

use std::borrow::Cow;

/// The most bytes that are waited for. Hellos with post-quantum keys take some 2 KiB; no client is
/// known with one of 16 KiB.
pub const MAX_LENGTH: usize = 16 * 1024;

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sniffed {
    /// A whole hello.
    Found(ClientHello),
    /// No TLS.
    NotTls,
    /// The hello has not ended yet; nothing in it is wrong so far.
    Incomplete,
    /// It begins as TLS and goes on as something that no server would answer.
    Malformed,
}

/// What a client asks for in the open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name (RFC 6066 §3), in lower case and without the root's dot. Never an address.
    pub name: Option<String>,
    /// Protocols for the connection (RFC 7301), in the client's order.
    pub alpn: Vec<Vec<u8>>,
    /// Whether it has an encrypted hello inside (draft-ietf-tls-esni): [`ClientHello::name`] is
    /// then the outer name, which only says who decrypts the inner one.
    pub encrypted: bool,
}

/// Why reading stopped.
enum Stop {
    /// The bytes so far end here.
    End,
    Malformed,
}

type Read<T> = Result<T, Stop>;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Bytes before a record's content.
const RECORD_HEAD: usize = 5;
/// RFC 8446 §5.1.
const MAX_RECORD: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// Looks at the first bytes of a connection.
///
/// 1. The first record's head must be a handshake's, and its first message a client's hello: what
///    is something else at a byte that has come is not waited for. No hello begins with an empty
///    record; in one that is larger than any may be nothing else is looked at.
/// 2. The message is put together from records, each at least one byte and all of handshakes.
/// 3. Once it is whole, its fields are read; every length inside must fit exactly.
pub fn sniff(input: &[u8]) -> Sniffed {
    const START: [fn(u8) -> bool; 6] = [
        |byte| byte == HANDSHAKE,
        |byte| byte == 3,
        |minor| minor <= 4,
        |length| usize::from(length) <= MAX_RECORD >> 8,
        |_| true,
        |byte| byte == CLIENT_HELLO,
    ];
    // What is behind it must not change the answer.
    let input = &input[..input.len().min(MAX_LENGTH)];
    let (head, body) = input.split_at(input.len().min(RECORD_HEAD));
    let fits = |bytes: &[u8], wanted: &[fn(u8) -> bool]| {
        bytes.iter().zip(wanted).all(|(byte, fits)| fits(*byte))
    };
    if !fits(head, &START[..RECORD_HEAD]) {
        return Sniffed::NotTls;
    }
    if let [_, _, _, high, low] = *head {
        match usize::from(u16::from_be_bytes([high, low])) {
            0 => return Sniffed::NotTls,
            length if length > MAX_RECORD => return Sniffed::Malformed,
            _ => {}
        }
    }
    if !fits(body, &START[RECORD_HEAD..]) {
        return Sniffed::NotTls;
    }
    let message = match message(input) {
        Ok(message) => message,
        Err(Stop::End) if input.len() < MAX_LENGTH => return Sniffed::Incomplete,
        Err(_) => return Sniffed::Malformed,
    };
    // All of the message is there: what ends early now will not come any more.
    hello(&message).map_or(Sniffed::Malformed, Sniffed::Found)
}

/// The body of the hello, from as many records as it is in.
fn message(input: &[u8]) -> Read<Cow<'_, [u8]>> {
    let mut records = Reader(input);
    let mut whole = Cow::Borrowed(&[][..]);
    loop {
        if let [_, high, middle, low, body @ ..] = &*whole {
            let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
            if length > MAX_LENGTH {
                return Err(Stop::Malformed);
            }
            if body.len() >= length {
                return Ok(match whole {
                    Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[4..4 + length]),
                    Cow::Owned(bytes) => Cow::Owned(bytes[4..4 + length].to_vec()),
                });
            }
        }
        let content = records.u8()?;
        let version = records.take(2)?;
        if content != HANDSHAKE || version[0] != 3 {
            return Err(Stop::Malformed);
        }
        let length = usize::from(records.u16()?);
        if length == 0 || length > MAX_RECORD {
            return Err(Stop::Malformed);
        }
        let part = records.take(length)?;
        if whole.is_empty() {
            whole = Cow::Borrowed(part);
        } else {
            whole.to_mut().extend_from_slice(part);
        }
    }
}

fn hello(message: &[u8]) -> Option<ClientHello> {
    fields(message).ok()
}

fn fields(message: &[u8]) -> Read<ClientHello> {
    let mut reader = Reader(message);
    // legacy_version and random; then session, ciphers, compression.
    if reader.take(2)?[0] != 3 {
        return Err(Stop::Malformed);
    }
    reader.take(32)?;
    reader.vector8()?;
    reader.vector16()?;
    reader.vector8()?;
    let mut found = ClientHello::default();
    if reader.0.is_empty() {
        // TLS 1.2 knows hellos without extensions.
        return Ok(found);
    }
    let mut extensions = Reader(reader.vector16()?);
    reader.end()?;
    let (mut has_name, mut has_alpn) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut value = Reader(extensions.vector16()?);
        match kind {
            // Two of one kind are not allowed (RFC 8446 §4.2): who takes the first, who the last?
            SERVER_NAME if std::mem::replace(&mut has_name, true) => return Err(Stop::Malformed),
            SERVER_NAME => found.name = Some(server_name(&mut value)?),
            ALPN if std::mem::replace(&mut has_alpn, true) => return Err(Stop::Malformed),
            ALPN => found.alpn = protocols(&mut value)?,
            ENCRYPTED_CLIENT_HELLO => found.encrypted = true,
            _ => {}
        }
    }
    Ok(found)
}

/// The one name of a list that may have one name of each kind, and only one kind exists.
fn server_name(value: &mut Reader<'_>) -> Read<String> {
    const HOST_NAME: u8 = 0;
    let mut list = Reader(value.vector16()?);
    value.end()?;
    if list.u8()? != HOST_NAME {
        return Err(Stop::Malformed);
    }
    let name = std::str::from_utf8(list.vector16()?).map_err(|_| Stop::Malformed)?;
    list.end()?;
    match crate::http1::authority::Host::parse(name) {
        Ok(crate::http1::authority::Host::Name(name)) => Ok(name.into_owned()),
        _ => Err(Stop::Malformed),
    }
}

fn protocols(value: &mut Reader<'_>) -> Read<Vec<Vec<u8>>> {
    let mut list = Reader(value.vector16()?);
    value.end()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector8()?.to_vec());
    }
    Ok(protocols)
}

/// Bytes, read from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Stop::End)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Read<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Read<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Read<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Read<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn end(&self) -> Read<()> {
        self.0.is_empty().then_some(()).ok_or(Stop::Malformed)
    }
}

#[cfg(test)]
mod tests;
