//! The internet's name server: it answers from a table, at every address of the observers', and
//! remembers who asked (RFC 1035).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Observer, datagram, listen};
use crate::error::{Doing, Result};

const PORT: u16 = 53;
const HEADER: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;
/// `QR` and `AA`, with `RD` as it was asked.
const AUTHORITATIVE: u16 = 0x8400;
const RECURSION_DESIRED: u16 = 0x0100;
const NO_SUCH_NAME: u16 = 3;

/// One question that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// In lower case, without the last dot.
    pub name: String,
    /// The asker, as seen from outside.
    pub source: SocketAddr,
}

/// The names of the internet.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    records: HashMap<String, Record>,
    lookups: Vec<Lookup>,
}

struct Record {
    addresses: Vec<IpAddr>,
    /// In seconds.
    ttl: u32,
}

impl Names {
    /// From now on a name has these addresses, for so many seconds in anybody's cache.
    pub fn set(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        let addresses = addresses.to_vec();
        let record = Record { addresses, ttl };
        self.lock().records.insert(name.to_owned(), record);
    }

    /// Every look-up of a name so far.
    pub fn lookups(&self, name: &str) -> Vec<Lookup> {
        let mut lookups = self.lock().lookups.clone();
        lookups.retain(|lookup| lookup.name == name);
        lookups
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a query; none for what is no query.
    fn answer(&self, query: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let flags = short(query, 2)?;
        let (name, end) = question(query)?;
        let kind = short(query, end)?;
        let mut state = self.lock();
        state.lookups.push(Lookup {
            name: name.clone(),
            source,
        });
        let record = state.records.get(&name);
        let of_kind = |address: &&IpAddr| match kind {
            A => address.is_ipv4(),
            AAAA => address.is_ipv6(),
            _ => false,
        };
        let addresses = record.into_iter().flat_map(|record| &record.addresses);
        let addresses: Vec<&IpAddr> = addresses.filter(of_kind).collect();
        let code = if record.is_some() { 0 } else { NO_SUCH_NAME };
        let mut answer = query.get(..2)?.to_vec();
        let count = u16::try_from(addresses.len()).ok()?;
        let flags = AUTHORITATIVE | (flags & RECURSION_DESIRED) | code;
        for number in [flags, 1, count, 0, 0] {
            answer.extend(number.to_be_bytes());
        }
        answer.extend(query.get(HEADER..end + 4)?);
        let ttl = record.map_or(0, |record| record.ttl);
        for address in addresses {
            // The name is that of the question.
            answer.extend([0xc0, 0x0c]);
            answer.extend(kind.to_be_bytes());
            answer.extend(1_u16.to_be_bytes());
            answer.extend(ttl.to_be_bytes());
            match address {
                IpAddr::V4(v4) => answer.extend([&[0, 4][..], &v4.octets()].concat()),
                IpAddr::V6(v6) => answer.extend([&[0, 16][..], &v6.octets()].concat()),
            }
        }
        Some(answer)
    }
}

impl Observer {
    /// Answers look-ups on every address, with UDP and TCP.
    ///
    /// # Errors
    /// When port 53 is taken.
    pub(crate) fn name(&self) -> Result<()> {
        for any in [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ] {
            let address = SocketAddr::new(any, PORT);
            self.name_at(address).doing("answer look-ups at", address)?;
        }
        Ok(())
    }

    fn name_at(&self, address: SocketAddr) -> io::Result<()> {
        let _context = self.runtime.enter();
        let opened = self.netns.run(|| -> io::Result<_> {
            let datagrams = datagram::bind(address)?;
            Ok((datagrams, listen(address)?))
        });
        let (datagrams, listener) = opened.map_err(io::Error::other)??;
        let names = self.names.clone();
        self.runtime.spawn(datagram::answer(datagrams, {
            let names = names.clone();
            move |query: &[u8], source, _| names.answer(query, source)
        }));
        let listener = tokio::net::TcpListener::from_std(listener)?;
        self.runtime.spawn(async move {
            loop {
                if let Ok((stream, source)) = listener.accept().await {
                    let names = names.clone();
                    tokio::spawn(async move {
                        // The asker may go at any time.
                        let _ = converse(stream, source, &names).await;
                    });
                }
            }
        });
        Ok(())
    }
}

/// Queries and answers with their lengths in front (RFC 1035, 4.2.2).
async fn converse(mut stream: TcpStream, source: SocketAddr, names: &Names) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await?;
        let Some(answer) = names.answer(&query, source) else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&answer).await?;
    }
}

/// The name asked for, and where its type is.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let mut labels: Vec<String> = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}
