//! One request and its answers: a single object, or a dump of many.

use super::{ANSWER_LIMIT, Ack, Received, Socket};
use crate::uapi::nl::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN,
};
use crate::wire::{Malformed, Message, Writer, messages};
use crate::{Error, Family, Refusal};

/// How often an interrupted dump starts again.
const DUMP_ATTEMPTS: u32 = 32;

/// A request outside a batch.
pub(crate) struct Request<'a> {
    /// The message type, subsystem included.
    pub(crate) kind: u16,
    pub(crate) family: u8,
    pub(crate) res_id: u16,
    /// What is asked for, in words, for errors.
    pub(crate) operation: &'a str,
}

impl<'a> Request<'a> {
    pub(crate) fn new(kind: u16, family: Family, operation: &'a str) -> Self {
        Self {
            kind,
            family: family.number(),
            res_id: 0,
            operation,
        }
    }

    fn refusal(&self, ack: Ack) -> Error {
        Error::Refused(Refusal {
            operation: self.operation.to_owned(),
            index: None,
            element: None,
            errno: ack.errno,
            text: ack.text,
            offset: ack.offset,
            others: 0,
        })
    }
}

/// One decoded answer: the family and the attributes of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    pub(crate) family: Family,
    pub(crate) attrs: &'a [u8],
}

impl<'a> Reply<'a> {
    pub(crate) fn from_message(message: &Message<'a>) -> Result<Self, Malformed> {
        let (family, _, attrs) = message.body()?;
        Ok(Self {
            family: Family::from_number(family),
            attrs,
        })
    }
}

/// A step of a dump.
pub(crate) enum Visit<'a> {
    /// One object.
    Object(Reply<'a>),
    /// The dump was interrupted by a change and starts again: forget what came before.
    Restart,
}

impl Socket {
    /// Sends a request that is only acknowledged.
    pub(crate) fn execute(
        &mut self,
        request: &Request<'_>,
        fill: impl Fn(&mut Writer),
        flags: u16,
    ) -> Result<(), Error> {
        self.exchange(request, &fill, flags | NLM_F_ACK, &mut |_| Ok(()))
            .map(drop)
    }

    /// Asks for one object.
    pub(crate) fn get<T>(
        &mut self,
        request: &Request<'_>,
        fill: impl Fn(&mut Writer),
        decode: impl Fn(Reply<'_>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Error> {
        let mut found = None;
        self.exchange(request, &fill, NLM_F_ACK, &mut |reply| {
            found = Some(decode(reply)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// Lists objects, from the start again whenever a change interrupts the dump.
    pub(crate) fn dump(
        &mut self,
        request: &Request<'_>,
        fill: impl Fn(&mut Writer),
        visit: &mut dyn FnMut(Visit<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let consistent = self.exchange(request, &fill, NLM_F_DUMP, &mut |reply| {
                visit(Visit::Object(reply))
            });
            match consistent {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.errno() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
            visit(Visit::Restart).map_err(|error| Error::malformed(request.operation, error))?;
        }
        Err(Error::Interrupted {
            operation: request.operation.to_owned(),
            attempts: DUMP_ATTEMPTS,
        })
    }

    /// Lists objects into a vector.
    pub(crate) fn list<T>(
        &mut self,
        request: &Request<'_>,
        fill: impl Fn(&mut Writer),
        decode: impl Fn(Reply<'_>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        self.dump(request, fill, &mut |visit| {
            match visit {
                Visit::Object(reply) => all.push(decode(reply)?),
                Visit::Restart => all.clear(),
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Sends one request and reads its answers to the end; false when a dump was interrupted.
    fn exchange(
        &mut self,
        request: &Request<'_>,
        fill: &dyn Fn(&mut Writer),
        flags: u16,
        each: &mut dyn FnMut(Reply<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Error> {
        let seq = self.reserve(1);
        let mut writer = Writer::new();
        let mark = writer.begin_message(
            request.kind,
            NLM_F_REQUEST | flags,
            seq,
            request.family,
            request.res_id,
        );
        fill(&mut writer);
        writer.end_message(mark);
        if writer.overflow() {
            return Err(Error::TooLarge {
                operation: request.operation.to_owned(),
            });
        }
        self.send(writer.as_slice())?;
        let malformed = |error| Error::malformed(request.operation, error);
        let mut consistent = true;
        loop {
            let length = match self.receive(ANSWER_LIMIT)? {
                Received::Datagram(length) => length,
                Received::Overrun => {
                    return Err(Error::AnswerLost {
                        operation: request.operation.to_owned(),
                    });
                }
                Received::Nothing => {
                    return Err(Error::Timeout {
                        operation: request.operation.to_owned(),
                        seconds: ANSWER_LIMIT.as_secs(),
                    });
                }
            };
            for message in messages(self.datagram(length)) {
                let message = message.map_err(malformed)?;
                // An answer to an earlier request, or to an earlier user of the socket.
                if message.seq != seq {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let done = message.kind == NLMSG_DONE;
                        let ack = Ack::decode(&message, done).map_err(malformed)?;
                        return match ack.errno {
                            0 => Ok(consistent),
                            _ => Err(request.refusal(ack)),
                        };
                    }
                    NLMSG_OVERRUN => {
                        return Err(Error::AnswerLost {
                            operation: request.operation.to_owned(),
                        });
                    }
                    _ => Reply::from_message(&message)
                        .and_then(&mut *each)
                        .map_err(malformed)?,
                }
            }
        }
    }
}
