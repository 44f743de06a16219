use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use proptest::prelude::*;

use super::*;

fn asks(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(
        Name::from_ascii(name).expect("a name"),
        kind,
    ));
    message
}

fn judged(message: &Message) -> Judged {
    judge(&message.to_vec().expect("a message"))
}

fn query(message: &Message) -> Query {
    match judged(message) {
        Judged::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lookup_is_read_with_what_the_client_says_about_itself() {
    let mut message = asks("WWW.Example.", RecordType::AAAA);
    let plain = query(&message);
    assert_eq!((plain.id, plain.kind), (7, kind::AAAA));
    assert_eq!(plain.name, DnsName::from("www.example"));
    assert_eq!((plain.edns, plain.udp_limit()), (None, 512));
    assert!(plain.asks_addresses());

    let mut edns = Edns::new();
    edns.set_max_payload(1400).set_dnssec_ok(true);
    message.set_edns(edns.clone());
    let extended = query(&message);
    assert_eq!(extended.udp_limit(), 1400);
    let said = extended.edns.expect("EDNS");
    assert!(said.dnssec && !said.options);

    edns.set_max_payload(100);
    edns.options_mut()
        .insert(EdnsOption::Unknown(10, vec![1; 8]));
    assert!(edns.option(EdnsCode::Cookie).is_some());
    message.set_edns(edns);
    let cookie = query(&message);
    // RFC 6891 §6.2.3: less than 512 means 512.
    assert_eq!(cookie.udp_limit(), 512);
    assert!(cookie.edns.expect("EDNS").options);
}

#[test]
fn what_is_no_lookup_of_an_address_is_passed_on() {
    let mut update = asks("example.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(judged(&update), Judged::Opaque);

    let mut chaos = asks("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(judged(&chaos), Judged::Opaque);

    let empty = Message::new(7, MessageType::Query, OpCode::Query);
    assert_eq!(judged(&empty), Judged::Opaque);

    assert_eq!(
        judged(&asks("example.", RecordType::AXFR)),
        Judged::Transfer
    );
}

#[test]
fn what_cannot_be_read_is_answered_as_every_server_would() {
    let mut two = asks("a.example.", RecordType::A);
    two.add_query(two.queries[0].clone());
    let mut cut = asks("a.example.", RecordType::A)
        .to_vec()
        .expect("a message");
    cut.pop();
    for message in [two.to_vec().expect("a message"), cut] {
        let Judged::Malformed(answer) = judge(&message) else {
            panic!("{message:?} is read");
        };
        let answer = Message::from_vec(&answer).expect("an answer");
        assert_eq!(answer.metadata.id, 7);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert_eq!(u16::from(answer.metadata.response_code), 1);
    }
}

#[test]
fn an_answer_is_not_answered() {
    let mut message = asks("a.example.", RecordType::A);
    message.metadata.message_type = MessageType::Response;
    assert_eq!(judged(&message), Judged::Ignored);
    assert_eq!(judge(&[0; 11]), Judged::Ignored);
}

#[test]
fn an_answer_belongs_to_its_query_by_number_and_question() {
    let asked = asks("A.example.", RecordType::A);
    let query = query(&asked);
    let answer = |change: &dyn Fn(&mut Message)| {
        let mut answer = asked.clone();
        answer.metadata.message_type = MessageType::Response;
        change(&mut answer);
        query.is_answered_by(7, &answer.to_vec().expect("a message"))
    };
    assert!(answer(&|_| {}));
    // A server may write the question in lower case.
    assert!(answer(&|it| it.queries[0]
        .set_name(Name::from_ascii("a.example.").expect("a name"))
        .clear()));
    assert!(!answer(&|it| it.metadata.id = 8));
    assert!(!answer(&|it| it.metadata.message_type = MessageType::Query));
    assert!(!answer(&|it| it.queries[0]
        .set_query_type(RecordType::AAAA)
        .clear()));
    assert!(!answer(&|it| it.queries.clear()));
    assert!(answer(&|it| {
        it.queries.clear();
        it.metadata.response_code = hickory_proto::op::ResponseCode::NotImp;
    }));
}

/// So that a test can change a question in an expression.
trait Clear {
    fn clear(&self) {}
}
impl Clear for Question {}

proptest! {
    /// Whatever comes is judged, and what is answered is a message.
    #[test]
    fn any_bytes_are_judged(message in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Judged::Malformed(answer) = judge(&message) {
            prop_assert!(Message::from_vec(&answer).is_ok());
        }
    }
}
