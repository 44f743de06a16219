//! The expressions mean exactly the ports they are for.

use super::numbers;

/// Understands what [`numbers`] writes: digits, `[a-b]`, and `|`.
fn matches(expression: &str, number: u32) -> bool {
    let text = number.to_string();
    expression.split('|').any(|part| {
        let mut part = part.bytes();
        let digits = text.bytes().all(|digit| match part.next() {
            Some(b'[') => {
                let range: Vec<u8> = part.by_ref().take(4).collect();
                (range[0]..=range[2]).contains(&digit)
            }
            literal => literal == Some(digit),
        });
        digits && part.next().is_none()
    })
}

#[test]
fn numbers_of_a_range_and_no_others() {
    for (first, last) in [
        (1, 65535),
        (1, 1),
        (80, 80),
        (8, 12),
        (99, 101),
        (443, 8443),
        (1000, 1999),
        (1024, 65535),
        (65535, 65535),
    ] {
        let expression = numbers((first, last));
        for number in 0..70_000 {
            let wanted = (u32::from(first)..=u32::from(last)).contains(&number);
            let is = matches(&expression, number);
            assert_eq!(is, wanted, "{number} in {first}-{last}: {expression}");
        }
    }
}

#[test]
fn a_thousand_is_short() {
    assert_eq!(numbers((1000, 1999)), "1[0-9][0-9][0-9]");
    assert_eq!(numbers((443, 444)), "44[3-4]");
}
