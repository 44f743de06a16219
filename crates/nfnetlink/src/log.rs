//! NFLOG: packets that `log group` rules copy to user space.

mod packet;

pub use packet::{HookSeen, Packet};

use crate::listen::Listener;
use crate::socket::Request;
use crate::uapi::log::{
    NFULA_CFG_CMD, NFULA_CFG_MODE, NFULA_CFG_QTHRESH, NFULA_CFG_TIMEOUT, NFULNL_CFG_CMD_BIND,
    NFULNL_COPY_PACKET, NFULNL_MSG_CONFIG, NFULNL_MSG_PACKET,
};
use crate::uapi::nl::{NFNL_SUBSYS_ULOG, message_type};
use crate::wire::{Malformed, Message, Writer};
use crate::{Error, Family};
use std::time::Duration;

/// How a group's packets are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The group, as in `log group N`.
    pub group: u16,
    /// Bytes to copy of each packet.
    pub snaplen: u32,
    /// How many packets the kernel collects before it sends them; 1 sends each at once.
    pub queue_threshold: u32,
    /// How long the kernel collects at most, in hundredths of a second.
    pub timeout: Duration,
}

impl Config {
    /// Each packet at once, its first 128 bytes: enough for all headers.
    pub fn new(group: u16) -> Self {
        Self {
            group,
            snaplen: 128,
            queue_threshold: 1,
            timeout: Duration::from_millis(10),
        }
    }
}

/// Listens to a group of the calling thread's namespace. A group has one listener: a
/// second is refused (`EPERM`).
pub fn listen(config: &Config) -> Result<Listener<Packet>, Error> {
    let mut listener = Listener::new("a logged packet", &[], decode)?;
    let operation = format!("bind to NFLOG group {}", config.group);
    let request = Request {
        kind: message_type(NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG),
        family: Family::Unspec.number(),
        res_id: config.group,
        operation: &operation,
    };
    // The kernel wants the binding by itself, before anything is set on it.
    let bind = |w: &mut Writer| w.u8(NFULA_CFG_CMD, NFULNL_CFG_CMD_BIND);
    let set = |w: &mut Writer| {
        // struct nfulnl_msg_config_mode: length, mode, padding.
        let [a, b, c, d] = config.snaplen.to_be_bytes();
        w.bytes(NFULA_CFG_MODE, &[a, b, c, d, NFULNL_COPY_PACKET, 0]);
        w.be32(NFULA_CFG_QTHRESH, config.queue_threshold);
        let hundredths = config.timeout.as_millis() / 10;
        w.be32(
            NFULA_CFG_TIMEOUT,
            u32::try_from(hundredths).unwrap_or(u32::MAX).max(1),
        );
    };
    listener.socket().execute(&request, bind, 0)?;
    listener.socket().execute(&request, set, 0)?;
    Ok(listener)
}

pub(crate) fn decode(message: &Message<'_>) -> Result<Option<Packet>, Malformed> {
    if message.kind != message_type(NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET) {
        return Ok(None);
    }
    let (family, group, attributes) = message.body()?;
    Packet::decode(Family::from_number(family), group, attributes).map(Some)
}
