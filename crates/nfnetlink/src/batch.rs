//! A transaction: operations that the kernel applies all together, or not at all.

use crate::error::Refusal;
use crate::socket::{Ack, Received};
use crate::uapi::nft::{
    NFT_MSG_DELSETELEM, NFT_MSG_DESTROYSETELEM, NFT_MSG_NEWSETELEM, NFTA_SET_ELEM_LIST_ELEMENTS,
};
use crate::uapi::nl::{
    NFNL_BATCH_GENID, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NLM_F_ACK,
    NLM_F_REQUEST, NLMSG_ERROR, message_type,
};
use crate::wire::{Mark, Message, Writer, attrs, messages};
use crate::{Error, Family, Socket};
use std::time::Duration;

/// How long the acknowledgement of a batch may take after it was sent.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);

/// Operations to be applied as one transaction.
///
/// Operations are encoded as they are added, in order; [`Socket::commit`] sends them.
/// A batch can be committed again, for instance after [`Error::is_stale_generation`].
#[derive(Debug, Clone)]
pub struct Batch {
    writer: Writer,
    operations: Vec<String>,
    messages: Vec<Entry>,
    generation: Option<u32>,
    sets: u32,
}

/// One message of the batch: where it starts, what it belongs to.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    operation: usize,
    /// Elements of the same operation in earlier messages.
    elements_before: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self {
            writer: Writer::new(),
            operations: Vec::new(),
            messages: Vec::new(),
            generation: None,
            sets: 0,
        }
    }

    /// Applies the batch only while the ruleset is at this generation
    /// ([`Socket::generation`]); else it is refused with `ERESTART`.
    #[must_use]
    pub fn at_generation(mut self, id: u32) -> Self {
        self.generation = Some(id);
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// What each operation does, in words and in order: `add element inet filter allowed`.
    pub fn operations(&self) -> &[String] {
        &self.operations
    }

    /// Size of the encoded operations, in bytes.
    pub fn encoded_len(&self) -> usize {
        self.writer.len()
    }

    /// Adds an operation of one message.
    pub(crate) fn push(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        operation: String,
        fill: impl FnOnce(&mut Writer),
    ) {
        self.operations.push(operation);
        let mark = self.begin(kind, flags, family, 0);
        fill(&mut self.writer);
        self.writer.end_message(mark);
    }

    /// Begins an operation that may need several messages.
    pub(crate) fn push_operation(&mut self, operation: String) {
        self.operations.push(operation);
    }

    /// Begins a message of the last operation.
    pub(crate) fn begin(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        elements_before: usize,
    ) -> Mark {
        self.messages.push(Entry {
            start: self.writer.len(),
            operation: self.operations.len().saturating_sub(1),
            elements_before,
        });
        self.writer.begin_message(
            message_type(NFNL_SUBSYS_NFTABLES, kind),
            NLM_F_REQUEST | flags,
            0,
            family.number(),
            0,
        )
    }

    pub(crate) fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// A number for a new set, unique within the batch (`NFTA_SET_ID`).
    pub(crate) fn next_set_id(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    /// The whole datagram, with sequence numbers from `seq` on: begin, messages, end.
    pub(crate) fn datagram(&self, seq: u32) -> Writer {
        let mut all = Writer::with_capacity(self.writer.len() + 64);
        let begin = all.begin_message(
            NFNL_MSG_BATCH_BEGIN,
            NLM_F_REQUEST,
            seq,
            0,
            NFNL_SUBSYS_NFTABLES,
        );
        if let Some(id) = self.generation {
            all.be32(NFNL_BATCH_GENID, id);
        }
        all.end_message(begin);
        let base = all.len();
        all.append(&self.writer);
        for (entry, number) in self.messages.iter().zip(seq.wrapping_add(1)..) {
            all.set_sequence(base + entry.start, number);
        }
        // Kernels before 6.10 do not acknowledge the end, so the last message is asked.
        if let Some(last) = self.messages.last() {
            all.add_flags(base + last.start, NLM_F_ACK);
        }
        let end = all.begin_message(
            NFNL_MSG_BATCH_END,
            NLM_F_REQUEST,
            seq.wrapping_add(self.message_count()).wrapping_add(1),
            0,
            NFNL_SUBSYS_NFTABLES,
        );
        all.end_message(end);
        all
    }

    fn message_count(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap_or(u32::MAX)
    }

    /// The refusal of the message with this place in the datagram; 0 is the begin message.
    fn refusal(&self, place: usize, ack: Ack) -> Refusal {
        let mut refusal = Refusal {
            operation: format!("a batch of {} operations", self.operations.len()),
            index: None,
            element: None,
            errno: ack.errno,
            text: ack.text,
            offset: ack.offset,
            others: 0,
        };
        let entry = place.checked_sub(1).and_then(|at| self.messages.get(at));
        if let Some(entry) = entry {
            refusal.index = Some(entry.operation);
            if let Some(operation) = self.operations.get(entry.operation) {
                refusal.operation.clone_from(operation);
            }
            refusal.element = ack
                .offset
                .and_then(|offset| self.element_at(entry, offset as usize))
                .map(|element| element + entry.elements_before);
        }
        refusal
    }

    /// Which element of an element message holds the attribute at `offset`.
    fn element_at(&self, entry: &Entry, offset: usize) -> Option<usize> {
        let bytes = self.writer.as_slice().get(entry.start..)?;
        let message = messages(bytes).next()?.ok()?;
        element_at(&message, offset)
    }
}

/// Which element of `message` holds the attribute at `offset` from the message's start.
fn element_at(message: &Message<'_>, offset: usize) -> Option<usize> {
    let nft = |kind| message_type(NFNL_SUBSYS_NFTABLES, kind);
    let kinds = [
        NFT_MSG_NEWSETELEM,
        NFT_MSG_DELSETELEM,
        NFT_MSG_DESTROYSETELEM,
    ];
    if !kinds.iter().any(|&kind| nft(kind) == message.kind) {
        return None;
    }
    let (_, _, body) = message.body().ok()?;
    let mut list = attrs(body);
    loop {
        let at = Message::ATTRS_AT + list.offset();
        let attr = list.next()?.ok()?;
        if attr.kind == NFTA_SET_ELEM_LIST_ELEMENTS {
            let mut elements = attr.nested();
            let mut index = 0;
            while elements.next()?.is_ok() {
                if offset >= at + 4 && offset < at + 4 + elements.offset() {
                    return Some(index);
                }
                index += 1;
            }
        }
    }
}

impl Socket {
    /// Applies a batch: all of it, or nothing and the error of the first refused operation.
    ///
    /// An empty batch does nothing.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let operation = || format!("a batch of {} operations", batch.len());
        let seq = self.reserve(batch.message_count().saturating_add(2));
        let datagram = batch.datagram(seq);
        if datagram.overflow() {
            return Err(Error::TooLarge {
                operation: operation(),
            });
        }
        self.send(datagram.as_slice())?;
        let last = batch.messages.len();
        let mut refusal: Option<Refusal> = None;
        let mut applied = false;
        let mut overrun = false;
        // The kernel answers while it is sent to: the answers are in the queue already, in
        // the order of the messages. It is waited only for an answer that is missing.
        loop {
            let decided = applied || refusal.is_some() || overrun;
            let limit = if decided {
                Duration::ZERO
            } else {
                COMMIT_LIMIT
            };
            let length = match self.receive(limit)? {
                Received::Datagram(length) => length,
                Received::Overrun => {
                    overrun = true;
                    continue;
                }
                Received::Nothing => break,
            };
            for message in messages(self.datagram(length)) {
                let message = message.map_err(|bad| Error::malformed(&operation(), bad))?;
                let place = message.seq.wrapping_sub(seq) as usize;
                if message.kind != NLMSG_ERROR || place > last + 1 {
                    continue;
                }
                let ack = Ack::decode(&message, false)
                    .map_err(|bad| Error::malformed(&operation(), bad))?;
                match (ack.errno, &mut refusal) {
                    (0, _) => applied |= place >= last,
                    (_, None) => refusal = Some(batch.refusal(place, ack)),
                    (_, Some(first)) => first.others += 1,
                }
            }
        }
        match refusal {
            Some(refusal) => Err(refusal.into()),
            None if applied => Ok(()),
            None if overrun => Err(Error::AnswerLost {
                operation: operation(),
            }),
            None => Err(Error::Timeout {
                operation: operation(),
                seconds: COMMIT_LIMIT.as_secs(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
