use super::*;
use crate::uapi::nl::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ERROR};
use crate::wire::Message;

fn refused(payload: &[u8], flags: u16) -> Ack {
    let message = Message {
        kind: NLMSG_ERROR,
        flags,
        seq: 1,
        port: 0,
        payload,
    };
    Ack::decode(&message, false).unwrap()
}

#[test]
fn an_extended_ack_gives_text_and_offset() {
    let mut payload = (-libc::EEXIST).to_ne_bytes().to_vec();
    payload.extend([0; 16]);
    payload.extend([7, 0, 1, 0, b'h', b'i', 0, 0]);
    payload.extend([8, 0, 2, 0]);
    payload.extend(36_u32.to_ne_bytes());
    let ack = refused(&payload, NLM_F_CAPPED | NLM_F_ACK_TLVS);
    assert_eq!(ack.errno, libc::EEXIST);
    assert_eq!(ack.text.as_deref(), Some("hi"));
    assert_eq!(ack.offset, Some(36));
}

#[test]
fn an_uncapped_ack_skips_the_repeated_request() {
    let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
    payload.extend(24_u32.to_ne_bytes());
    payload.extend([0; 20]);
    payload.extend([7, 0, 1, 0, b'h', b'i', 0, 0]);
    let ack = refused(&payload, NLM_F_ACK_TLVS);
    assert_eq!(ack.text.as_deref(), Some("hi"));
}

#[test]
fn the_types_can_be_sent_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<Socket>();
    sendable::<crate::Batch>();
    sendable::<crate::Error>();
}
