use super::*;
use crate::uapi::nft::NFT_MSG_NEWSETELEM;
use crate::{Element, Table};

fn batch_of(elements: u32) -> Batch {
    let mut batch = Batch::new();
    batch.add_table(&Table::new(Family::Inet, "t"));
    let keys = (0..elements).map(Element::new);
    batch.add_elements(Family::Inet, "t", "s", keys);
    batch
}

#[test]
fn many_elements_are_one_operation_of_many_messages() {
    let batch = batch_of(2_000);
    assert_eq!(batch.len(), 2);
    assert_eq!(batch.operations()[1], "add element inet t s");
    let datagram = batch.datagram(7);
    assert!(!datagram.overflow());
    let all: Vec<_> = messages(datagram.as_slice())
        .collect::<Result<_, _>>()
        .unwrap();
    // Begin, table, three chunks, end; numbered in a row, the last operation acknowledged.
    let seqs: Vec<_> = all.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [7, 8, 9, 10, 11, 12]);
    let acks: Vec<_> = all.iter().map(|m| m.flags & NLM_F_ACK != 0).collect();
    assert_eq!(acks, [false, false, false, false, true, false]);
    assert_eq!(
        all[2].kind,
        message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWSETELEM)
    );
}

#[test]
fn deleting_no_elements_does_not_flush_the_set() {
    let mut batch = Batch::new();
    batch.delete_elements(Family::Inet, "t", "s", []);
    assert!(batch.is_empty());
}

#[test]
fn an_offset_names_the_element() {
    let batch = batch_of(1_000);
    // The second chunk's fourth element: header, two strings, the list's header, 3 elements.
    let element = 4 + 4 + 4 + 4;
    let offset = 20 + 8 + 8 + 4 + 3 * element + 8;
    let ack = Ack {
        errno: libc::EEXIST,
        text: None,
        offset: Some(offset),
    };
    let refusal = batch.refusal(3, ack);
    assert_eq!(refusal.index, Some(1));
    assert_eq!(refusal.element, Some(803));
    assert_eq!(
        refusal.to_string(),
        "add element inet t s (its element 803) (operation 1 of the batch): \
         File exists (os error 17)"
    );
}
