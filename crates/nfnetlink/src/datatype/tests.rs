use super::*;

#[test]
fn a_concatenation_folds_ids_and_pads_lengths() {
    let key = Type::from([DataType::IFINDEX, DataType::ETHER_ADDR, DataType::IPV4_ADDR]);
    assert_eq!(key.id, 20 << 12 | 9 << 6 | 7);
    assert_eq!(key.len, 4 + 8 + 4);
    assert_eq!(key.parts(), Some(vec![4, 6, 4]));
    assert!(key.is_concat());
}

#[test]
fn a_single_type_is_not_padded() {
    let key = Type::from(DataType::ETHER_ADDR);
    assert_eq!((key.id, key.len), (9, 6));
    assert_eq!(Type::from_raw(9, 6), key);
}
