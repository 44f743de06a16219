use super::*;

#[test]
fn equal_values_are_one() {
    let mut interned = Interned::default();
    let first = interned.share("a".to_owned());
    assert!(Arc::ptr_eq(&first, &interned.share("a".to_owned())));
    assert!(!Arc::ptr_eq(&first, &interned.share("b".to_owned())));
}

#[test]
fn what_nobody_holds_goes() {
    let mut interned = Interned::default();
    let held = interned.share(0);
    for value in 1..10 * FIRST_SWEEP {
        interned.share(value);
    }
    assert!(interned.known.len() <= FIRST_SWEEP);
    assert!(Arc::ptr_eq(&held, &interned.share(0)));
}
