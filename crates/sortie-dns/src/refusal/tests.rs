use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};

use crate::question::{Judged, Query, judge};
use crate::refusal::Code;

fn query(edns: bool) -> Query {
    let mut message = Message::new(9, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = true;
    let name = Name::from_ascii("WwW.example.").expect("a name");
    message.add_query(Question::query(name, RecordType::A));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        message.set_edns(edns);
    }
    match judge(&message.to_vec().expect("a message")) {
        Judged::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_repeats_the_question_as_it_was_asked() {
    let answer = query(false).refuse(Code::NotOneOfThese, Some("not told without EDNS"));
    let answer = Message::from_vec(&answer).expect("a message");
    assert_eq!(
        (answer.metadata.id, answer.metadata.response_code),
        (9, ResponseCode::Refused)
    );
    assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
    assert!(answer.metadata.checking_disabled && !answer.metadata.authentic_data);
    assert_eq!(answer.queries[0].name().to_ascii(), "WwW.example.");
    assert_eq!(answer.edns, None);
}

#[test]
fn it_says_why_to_those_who_can_read_it() {
    let told = |why: &str| {
        let answer = query(true).refuse(Code::NotLearned, Some(why));
        assert!(answer.len() <= 512);
        let answer = Message::from_vec(&answer).expect("a message");
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        let edns = answer.edns.expect("EDNS");
        assert!(edns.flags().dnssec_ok);
        match edns.option(15.into()) {
            Some(EdnsOption::Unknown(15, option)) => option.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told("the agent is away"), b"\0\0the agent is away");
    // Longer texts are cut where a character ends.
    assert_eq!(told(&"é".repeat(500)).len(), 2 + 160);
}
