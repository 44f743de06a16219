use super::*;

/// An answer with these records of a question for `api.test`.
fn answer(code: u8, kind: u16, records: &[(u32, &[u8])]) -> Vec<u8> {
    let mut answer = message("api.test", kind).unwrap();
    answer[2] = 0x81;
    answer[3] = 0x80 | code;
    answer[7] = u8::try_from(records.len()).unwrap();
    for (ttl, address) in records {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, u8::try_from(address.len()).unwrap()]);
        answer.extend(*address);
    }
    answer
}

#[test]
fn addresses_hold_for_the_shortest_time_of_all_but_never_for_none() {
    let both = answer(
        0,
        kind::A,
        &[(60, &[198, 51, 100, 7]), (30, &[198, 51, 100, 8])],
    );
    let both = found(&both).unwrap();
    assert_eq!(both.lasts, Duration::from_secs(30));
    let six = answer(0, kind::AAAA, &[(0, &[0x20; 16])]);
    let all = both.and(found(&six).unwrap());
    assert_eq!(all.addresses.len(), 3);
    assert!(all.addresses[2].is_ipv6());
    assert_eq!(all.lasts, SHORTEST);
}

#[test]
fn no_such_name_is_an_answer_and_a_failure_is_none() {
    let none = found(&answer(3, kind::A, &[])).unwrap();
    assert!(none.addresses.is_empty());
    let error = found(&answer(2, kind::A, &[])).unwrap_err();
    assert!(error.to_string().contains("code 2"), "{error}");
}

#[test]
fn what_is_no_name_is_never_asked_for() {
    let long = "a".repeat(64);
    let longer = ["abcdefgh."; 30].concat() + "test";
    for name in ["", ".", "a..b", "api.test.", &long, &longer] {
        assert_eq!(message(name, kind::A), None, "{name}");
    }
    let Judged::Query(query) = judge(&message("api.test", kind::AAAA).unwrap()) else {
        panic!("it is a query");
    };
    assert_eq!((query.name.as_str(), query.kind), ("api.test", kind::AAAA));
}
