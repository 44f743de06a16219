//! A synchronous rtnetlink socket: request and acknowledgement, request and answer, dump.

#[cfg(test)]
mod tests;

use std::os::fd::AsRawFd;

use netlink_packet_core::{
    DecodeError, ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::error::{Error, Refusal};

/// The text in an extended acknowledgement (`linux/netlink.h`).
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The header of the request that an error answers (`NETLINK_CAP_ACK` leaves out the rest).
const REQUEST_HEADER: usize = 16;
/// Bytes; the kernel's datagrams are at most 32 KiB (`netlink_dump`).
pub(crate) const DATAGRAM: usize = 64 << 10;
/// How often a dump that changed while it was read is read again.
const DUMP_ATTEMPTS: u32 = 8;

/// A socket to the routing subsystem of the network namespace that it was opened in, wherever the
/// calling thread is later.
pub struct Rtnetlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What a request is for, as errors name it.
pub(crate) struct Task {
    pub(crate) operation: &'static str,
    pub(crate) object: String,
}

impl Task {
    pub(crate) fn new(operation: &'static str, object: impl Into<String>) -> Self {
        Self {
            operation,
            object: object.into(),
        }
    }

    fn refused(&self, refusal: Refusal) -> Error {
        Error::Refused {
            operation: self.operation,
            object: self.object.clone(),
            refusal,
        }
    }

    fn undecodable(&self, source: DecodeError) -> Error {
        Error::Decode {
            operation: self.operation,
            object: self.object.clone(),
            source,
        }
    }
}

impl Rtnetlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let failed = |source| Error::Socket {
            operation: "open",
            protocol: "rtnetlink",
            source,
        };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        // Errors then say why, and echo the request's header only.
        socket.set_ext_ack(true).map_err(failed)?;
        socket.set_cap_ack(true).map_err(failed)?;
        // Dumps are then filtered by their header (kernel 4.20), and unknown fields are refused.
        socket.set_netlink_get_strict_chk(true).map_err(failed)?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Sends a change and waits for its acknowledgement. `flags` are those of `NLM_F_CREATE`'s kind.
    pub(crate) fn change(
        &mut self,
        task: &Task,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), Error> {
        self.send(message, flags | NLM_F_REQUEST | NLM_F_ACK)?;
        self.receive(task, |_| ()).map(drop)
    }

    /// Sends a question with one answer.
    pub(crate) fn get(
        &mut self,
        task: &Task,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, Error> {
        let mut answer = None;
        self.send(message, NLM_F_REQUEST | NLM_F_ACK)?;
        self.receive(task, |message| answer = Some(message))?;
        Ok(answer)
    }

    /// Sends a question with many answers; reads again when they changed meanwhile.
    pub(crate) fn dump(
        &mut self,
        task: &Task,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut answers = Vec::new();
            self.send(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            if self.receive(task, |message| answers.push(message))? {
                return Ok(answers);
            }
        }
        Err(Error::Unsteady {
            operation: task.operation,
            object: task.object.clone(),
            attempts: DUMP_ATTEMPTS,
        })
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket
            .send(&bytes, 0)
            .map(drop)
            .map_err(|source| Error::Socket {
                operation: "send to",
                protocol: "rtnetlink",
                source,
            })
    }

    /// Hands each answer to `each` until the acknowledgement or the end of the dump; false when the
    /// dump was interrupted by a change.
    fn receive(
        &mut self,
        task: &Task,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<bool, Error> {
        let mut steady = true;
        loop {
            let length = self
                .socket
                .recv(&mut self.buffer.as_mut_slice(), 0)
                .map_err(|source| Error::Socket {
                    operation: "receive from",
                    protocol: "rtnetlink",
                    source,
                })?;
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let buffer =
                    NetlinkBuffer::new_checked(rest).map_err(|error| task.undecodable(error))?;
                let length = (buffer.length() as usize).next_multiple_of(4);
                // The rest of an answer that an earlier error made us leave.
                if buffer.sequence_number() == self.sequence {
                    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                        .map_err(|error| task.undecodable(error))?;
                    let flags = message.header.flags;
                    steady &= flags & NLM_F_DUMP_INTR == 0;
                    match message.payload {
                        NetlinkPayload::InnerMessage(message) => each(message),
                        NetlinkPayload::Done(done) if done.code < 0 => {
                            return Err(task.refused(Refusal {
                                errno: -done.code,
                                message: None,
                            }));
                        }
                        NetlinkPayload::Done(_) => return Ok(steady),
                        NetlinkPayload::Error(error) => {
                            return match refusal(&error, flags) {
                                Some(refusal) => Err(task.refused(refusal)),
                                None => Ok(steady),
                            };
                        }
                        _ => {}
                    }
                }
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
}

impl std::fmt::Debug for Rtnetlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rtnetlink")
            .field("fd", &self.socket.as_raw_fd())
            .finish_non_exhaustive()
    }
}

/// What an acknowledgement says; none when it is a yes.
fn refusal(error: &ErrorMessage, flags: u16) -> Option<Refusal> {
    let code = error.code?;
    let message = (flags & NLM_F_ACK_TLVS != 0)
        .then(|| error.header.get(REQUEST_HEADER..))
        .flatten()
        .and_then(|attributes| {
            NlasIterator::new(attributes)
                .flatten()
                .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
                .map(|attribute| {
                    String::from_utf8_lossy(attribute.value())
                        .trim_end_matches('\0')
                        .to_owned()
                })
        });
    Some(Refusal {
        errno: code.get().saturating_abs(),
        message,
    })
}
