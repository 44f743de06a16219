use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::question::{Judged, judge};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);

fn workload() -> WorkloadId {
    WorkloadId::from("docker/1")
}

fn asks(name: &str) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(name).expect("a name");
    message.add_query(Question::query(name, RecordType::A));
    message
}

fn query(message: &Message) -> Query {
    match judge(&message.to_vec().expect("a message")) {
        Judged::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

fn record(ttl: u32, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii("api.example.").expect("a name"), ttl, data)
}

fn a(ttl: u32) -> Record {
    record(ttl, RData::A(A(Ipv4Addr::new(203, 0, 113, 1))))
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let (name, mail) = (Name::root(), Name::root());
    record(ttl, RData::SOA(SOA::new(name, mail, 1, 2, 3, 4, minimum)))
}

fn answered(change: impl FnOnce(&mut Message)) -> Message {
    let mut message = asks("api.example.");
    message.metadata.message_type = MessageType::Response;
    change(&mut message);
    message
}

/// Whether an answer is still there after some seconds.
fn lasts(answer: &Message, seconds: u64) -> bool {
    let (mut cache, now, asked) = (Cache::new(4), Instant::now(), query(&asks("api.example.")));
    let bytes = answer.to_vec().expect("a message");
    cache.keep(&workload(), SERVER, &asked, &bytes, now);
    let later = now + Duration::from_secs(seconds);
    cache.get(&workload(), SERVER, &asked, later).is_some()
}

#[test]
fn an_answer_comes_back_as_it_was_asked_with_what_is_left_of_its_time() {
    let (mut cache, now) = (Cache::new(4), Instant::now());
    let mut message = answered(|it| it.answers = vec![a(60), a(50)]);
    message.set_edns(Edns::new());
    let bytes = message.to_vec().expect("a message");
    cache.keep(
        &workload(),
        SERVER,
        &query(&asks("api.example.")),
        &bytes,
        now,
    );
    let mut again = asks("API.eXample.");
    again.metadata.id = 99;
    let again = query(&again);
    let later = now + Duration::from_secs(20);
    let known = cache
        .get(&workload(), SERVER, &again, later)
        .expect("an answer");
    let known = Message::from_vec(&known).expect("a message");
    assert_eq!(known.metadata.id, 99);
    assert_eq!(known.queries[0].name().to_ascii(), "API.eXample.");
    assert_eq!(
        known.answers.iter().map(|it| it.ttl).collect::<Vec<_>>(),
        [40, 30]
    );
    // EDNS has flags where others have a TTL.
    assert_eq!(known.edns, message.edns);
}

#[test]
fn another_workload_server_question_or_bit_has_another_answer() {
    let (mut cache, now) = (Cache::new(4), Instant::now());
    let bytes = answered(|it| it.answers = vec![a(60)])
        .to_vec()
        .expect("a message");
    let asked = asks("api.example.");
    cache.keep(&workload(), SERVER, &query(&asked), &bytes, now);
    let known = |workload: &str, server, message: &Message| {
        cache
            .get(&WorkloadId::from(workload), server, &query(message), now)
            .is_some()
    };
    assert!(known("docker/1", SERVER, &asked));
    assert!(!known("docker/2", SERVER, &asked));
    assert!(!known(
        "docker/1",
        SocketAddr::new(SERVER.ip(), 5353),
        &asked
    ));
    assert!(!known("docker/1", SERVER, &asks("b.example.")));
    let mut other = asked.clone();
    other.metadata.checking_disabled = true;
    assert!(!known("docker/1", SERVER, &other));
    let mut other = asked.clone();
    other.set_edns(Edns::new());
    assert!(!known("docker/1", SERVER, &other));
    cache.forget(&workload());
    assert!(
        cache
            .get(&workload(), SERVER, &query(&asked), now)
            .is_none()
    );
    assert!(cache.answers.is_empty() && cache.ends.is_empty());
}

#[test]
fn answers_last_as_long_as_their_shortest_ttl() {
    let two = answered(|it| it.answers = vec![a(60), a(10)]);
    assert!(lasts(&two, 9) && !lasts(&two, 10));
    let day = answered(|it| it.answers = vec![a(86_400)]);
    assert!(lasts(&day, 299) && !lasts(&day, 300));
    assert!(!lasts(&answered(|it| it.answers = vec![a(0)]), 0));
    assert!(!lasts(&answered(|it| it.answers = vec![a(1 << 31)]), 0));
}

#[test]
fn no_such_name_lasts_as_long_as_its_zone_says() {
    let none = answered(|it| {
        it.metadata.response_code = ResponseCode::NXDomain;
        it.authorities = vec![soa(60, 20)];
    });
    assert!(lasts(&none, 19) && !lasts(&none, 20));
    assert!(!lasts(
        &answered(|it| it.authorities = vec![soa(10, 20)]),
        10
    ));
    assert!(!lasts(&answered(|_| {}), 0), "nobody says how long");
}

#[test]
fn what_is_not_for_everybody_or_not_whole_is_not_kept() {
    let good = answered(|it| it.answers = vec![a(60)]);
    assert!(lasts(&good, 0));
    let mut cut = good.clone();
    cut.metadata.truncation = true;
    assert!(!lasts(&cut, 0));
    let mut failed = good.clone();
    failed.metadata.response_code = ResponseCode::ServFail;
    assert!(!lasts(&failed, 0));

    let (mut cache, now) = (Cache::new(4), Instant::now());
    let bytes = good.to_vec().expect("a message");
    let mut subnet = asks("api.example.");
    let mut edns = Edns::new();
    edns.options_mut()
        .insert(EdnsOption::Unknown(8, vec![0; 7]));
    subnet.set_edns(edns);
    cache.keep(&workload(), SERVER, &query(&subnet), &bytes, now);
    let docker: SocketAddr = "127.0.0.11:53".parse().expect("an address");
    cache.keep(
        &workload(),
        docker,
        &query(&asks("api.example.")),
        &bytes,
        now,
    );
    assert!(cache.answers.is_empty());
}

#[test]
fn there_are_never_more_than_there_is_room_for() {
    let (mut cache, now) = (Cache::new(2), Instant::now());
    for (name, ttl) in [
        ("a.example.", 60),
        ("b.example.", 20),
        ("c.example.", 40),
        ("a.example.", 50),
    ] {
        let asked = asks(name);
        let mut answer = asked.clone();
        answer.answers = vec![a(ttl)];
        let bytes = answer.to_vec().expect("a message");
        cache.keep(&workload(), SERVER, &query(&asked), &bytes, now);
        assert_eq!(cache.answers.len(), cache.ends.len());
    }
    let known = |name| {
        cache
            .get(&workload(), SERVER, &query(&asks(name)), now)
            .is_some()
    };
    assert!(known("a.example.") && !known("b.example.") && known("c.example."));
}
