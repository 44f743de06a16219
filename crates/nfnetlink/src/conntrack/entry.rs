//! Connections, with all that the kernel says of one.

use std::time::{Duration, SystemTime};

use super::Tuple;
use crate::expr::Counter;
use crate::uapi::bit_flags;
use crate::uapi::ct::{
    CTA_COUNTERS_BYTES, CTA_COUNTERS_ORIG, CTA_COUNTERS_PACKETS, CTA_COUNTERS_REPLY, CTA_ID,
    CTA_LABELS, CTA_MARK, CTA_PROTOINFO, CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE, CTA_STATUS,
    CTA_TIMEOUT, CTA_TIMESTAMP, CTA_TIMESTAMP_START, CTA_TIMESTAMP_STOP, CTA_TUPLE_ORIG,
    CTA_TUPLE_REPLY, CTA_ZONE,
};
use crate::wire::{Malformed, Writer, attrs};

bit_flags! {
    /// A connection's status (`enum ip_conntrack_status`).
    pub Status: u32 {
        /// Expected by another connection.
        EXPECTED = 0x1;
        /// Packets were seen in both directions.
        SEEN_REPLY = 0x2;
        /// Not thrown out early when the table is full.
        ASSURED = 0x4;
        /// Its first packet has left.
        CONFIRMED = 0x8;
        /// Its source is translated.
        SRC_NAT = 0x10;
        /// Its destination is translated.
        DST_NAT = 0x20;
        /// Whether the source is translated has been decided.
        SRC_NAT_DONE = 0x80;
        /// Whether the destination is translated has been decided.
        DST_NAT_DONE = 0x100;
        /// It is being deleted.
        DYING = 0x200;
        /// Its timeout does not change.
        FIXED_TIMEOUT = 0x400;
    }
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conntrack {
    /// What the first packet looked like, before translation.
    pub original: Tuple,
    /// What answers look like, before translation: their destination is the translated
    /// source.
    pub reply: Tuple,
    /// Status.
    pub status: Status,
    /// How long it stays without a packet, in whole seconds.
    pub timeout: Option<Duration>,
    /// Connection mark.
    pub mark: u32,
    /// Its labels: 128 bits, none set where it has no room for any.
    pub labels: [u8; 16],
    /// Zone.
    pub zone: u16,
    /// The kernel's number for it, a hash of its tuple and its place in memory: a later
    /// connection of the same tuple has another one, unless it took the very same place.
    pub id: Option<u32>,
    /// What went in the original direction; with `nf_conntrack_acct` only.
    pub original_counter: Option<Counter>,
    /// What went in the reply direction; with `nf_conntrack_acct` only.
    pub reply_counter: Option<Counter>,
    /// When it began; with `nf_conntrack_timestamp` only.
    pub start: Option<SystemTime>,
    /// When it ended; in [`Event::Destroy`](super::Event) only.
    pub stop: Option<SystemTime>,
    /// TCP's state (`enum tcp_conntrack`): 3 is established.
    pub tcp_state: Option<u8>,
}

impl Conntrack {
    /// A connection without translation that stays for `timeout`.
    pub fn new(original: Tuple, timeout: Duration) -> Self {
        Self {
            original,
            reply: original.reversed(),
            status: Status::NONE,
            timeout: Some(timeout),
            mark: 0,
            labels: [0; 16],
            zone: 0,
            id: None,
            original_counter: None,
            reply_counter: None,
            start: None,
            stop: None,
            tcp_state: None,
        }
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        self.original.encode(w, CTA_TUPLE_ORIG);
        self.reply.encode(w, CTA_TUPLE_REPLY);
        if self.zone != 0 {
            w.be16(CTA_ZONE, self.zone);
        }
        if self.status != Status::NONE {
            w.be32(CTA_STATUS, self.status.0);
        }
        if let Some(timeout) = self.timeout {
            let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
            w.be32(CTA_TIMEOUT, seconds);
        }
        if self.mark != 0 {
            w.be32(CTA_MARK, self.mark);
        }
        if let Some(state) = self.tcp_state {
            w.nest(CTA_PROTOINFO, |w| {
                w.nest(CTA_PROTOINFO_TCP, |w| w.u8(CTA_PROTOINFO_TCP_STATE, state));
            });
        }
    }

    pub(crate) fn decode(attributes: &[u8]) -> Result<Self, Malformed> {
        let (mut original, mut reply, mut tuple_zone) = (None, None, None);
        let mut rest = Rest::default();
        for attr in attrs(attributes) {
            let attr = attr?;
            match attr.kind {
                CTA_TUPLE_ORIG => {
                    let (tuple, zone) = Tuple::decode(attr.data)?;
                    original = Some(tuple);
                    tuple_zone = zone;
                }
                CTA_TUPLE_REPLY => reply = Some(Tuple::decode(attr.data)?.0),
                CTA_STATUS => rest.status = Status(attr.be32()?),
                CTA_TIMEOUT => rest.timeout = Some(Duration::from_secs(attr.be32()?.into())),
                CTA_MARK => rest.mark = attr.be32()?,
                CTA_LABELS => rest.labels = decode_labels(attr.data),
                CTA_ZONE => rest.zone = Some(attr.be16()?),
                CTA_ID => rest.id = Some(attr.be32()?),
                CTA_COUNTERS_ORIG => rest.original_counter = Some(decode_counter(attr.data)?),
                CTA_COUNTERS_REPLY => rest.reply_counter = Some(decode_counter(attr.data)?),
                CTA_TIMESTAMP => (rest.start, rest.stop) = decode_timestamp(attr.data)?,
                CTA_PROTOINFO => rest.tcp_state = decode_tcp_state(attr.data)?,
                _ => {}
            }
        }
        match (original, reply) {
            (Some(original), Some(reply)) => Ok(Self {
                original,
                reply,
                status: rest.status,
                timeout: rest.timeout,
                mark: rest.mark,
                labels: rest.labels,
                zone: rest.zone.or(tuple_zone).unwrap_or(0),
                id: rest.id,
                original_counter: rest.original_counter,
                reply_counter: rest.reply_counter,
                start: rest.start,
                stop: rest.stop,
                tcp_state: rest.tcp_state,
            }),
            _ => Err(Malformed("a connection without its tuples")),
        }
    }
}

/// What is not a tuple, while decoding.
#[derive(Default)]
struct Rest {
    status: Status,
    timeout: Option<Duration>,
    mark: u32,
    labels: [u8; 16],
    zone: Option<u16>,
    id: Option<u32>,
    original_counter: Option<Counter>,
    reply_counter: Option<Counter>,
    start: Option<SystemTime>,
    stop: Option<SystemTime>,
    tcp_state: Option<u8>,
}

/// As long as the kernel's (`NF_CT_LABELS_MAX_SIZE`); what is behind that would be another kernel's.
fn decode_labels(data: &[u8]) -> [u8; 16] {
    let mut labels = [0; 16];
    for (label, byte) in labels.iter_mut().zip(data) {
        *label = *byte;
    }
    labels
}

fn decode_counter(nested: &[u8]) -> Result<Counter, Malformed> {
    let mut counter = Counter::default();
    for attr in attrs(nested) {
        let attr = attr?;
        match attr.kind {
            CTA_COUNTERS_PACKETS => counter.packets = attr.be64()?,
            CTA_COUNTERS_BYTES => counter.bytes = attr.be64()?,
            _ => {}
        }
    }
    Ok(counter)
}

/// Start and stop, in nanoseconds since 1970.
fn decode_timestamp(nested: &[u8]) -> Result<(Option<SystemTime>, Option<SystemTime>), Malformed> {
    let at = |nanos| SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos));
    let (mut start, mut stop) = (None, None);
    for attr in attrs(nested) {
        let attr = attr?;
        match attr.kind {
            CTA_TIMESTAMP_START => start = at(attr.be64()?),
            CTA_TIMESTAMP_STOP => stop = at(attr.be64()?),
            _ => {}
        }
    }
    Ok((start, stop))
}

fn decode_tcp_state(nested: &[u8]) -> Result<Option<u8>, Malformed> {
    for attr in attrs(nested) {
        let attr = attr?;
        if attr.kind != CTA_PROTOINFO_TCP {
            continue;
        }
        for attr in attr.nested() {
            let attr = attr?;
            if attr.kind == CTA_PROTOINFO_TCP_STATE {
                return attr.u8().map(Some);
            }
        }
    }
    Ok(None)
}
