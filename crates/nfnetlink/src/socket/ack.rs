//! The kernel's acknowledgement of one message, with its extended ack.

use crate::uapi::nl::{
    GENMSG_LEN, HEADER_LEN, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS,
};
use crate::wire::{Malformed, Message, align, attrs};

/// What an `NLMSG_ERROR` message says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ack {
    /// The error number; 0 when the message was applied.
    pub(crate) errno: i32,
    pub(crate) text: Option<String>,
    pub(crate) offset: Option<u32>,
}

impl Ack {
    /// Decodes an `NLMSG_ERROR` or `NLMSG_DONE` message: both begin with an error number.
    pub(crate) fn decode(message: &Message<'_>, done: bool) -> Result<Self, Malformed> {
        let short = Malformed("an acknowledgement without an error number");
        let number = message.payload.first_chunk::<4>().ok_or(short)?;
        let errno = i32::from_ne_bytes(*number).checked_neg().ok_or(short)?;
        let mut ack = Self {
            errno,
            ..Self::default()
        };
        if message.flags & NLM_F_ACK_TLVS == 0 {
            return Ok(ack);
        }
        let tlvs_at = if done { 4 } else { 4 + echoed_length(message)? };
        for attr in attrs(message.payload.get(tlvs_at..).unwrap_or(&[])) {
            let attr = attr?;
            match attr.kind {
                NLMSGERR_ATTR_MSG => ack.text = Some(attr.string()),
                NLMSGERR_ATTR_OFFS => ack.offset = Some(attr.ne32()?),
                _ => {}
            }
        }
        Ok(ack)
    }
}

/// How much of the refused message is repeated behind the error number: its header only, or all.
fn echoed_length(message: &Message<'_>) -> Result<usize, Malformed> {
    if message.flags & NLM_F_CAPPED != 0 {
        return Ok(HEADER_LEN);
    }
    let length = message
        .payload
        .get(4..8)
        .and_then(|bytes| bytes.first_chunk::<4>())
        .map(|bytes| u32::from_ne_bytes(*bytes) as usize)
        .ok_or(Malformed("an acknowledgement without its request's header"))?;
    Ok(align(
        length.clamp(HEADER_LEN, HEADER_LEN + GENMSG_LEN + (1 << 26)),
    ))
}
