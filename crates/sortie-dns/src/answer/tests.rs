//! Whole answers, as a server would send them.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::svcb::{IpHint, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{CNAME, MX, NULL, SOA, TXT};
use proptest::prelude::*;

use sortie_api::workload::Families;

use super::*;

const ONE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const SIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const FAKE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 9);
const TTL: u32 = 3600;

const POLICY: Wanted = Wanted {
    learning: Learning::Required,
    families: Families { v4: true, v6: true },
    sees_name: true,
};
const ONLY_V4: Wanted = Wanted {
    families: Families {
        v4: true,
        v6: false,
    },
    ..POLICY
};

fn name(name: &str) -> Name {
    Name::from_ascii(name).expect("a name")
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), TTL, data)
}

fn a(owner: &str, address: Ipv4Addr) -> Record {
    record(owner, RData::A(A(address)))
}

fn aaaa(owner: &str, address: Ipv6Addr) -> Record {
    record(owner, RData::AAAA(AAAA(address)))
}

fn alias(owner: &str, target: &str) -> Record {
    record(owner, RData::CNAME(CNAME(name(target))))
}

fn unknown(owner: &str, code: u16, bytes: &[u8]) -> Record {
    let (code, rdata) = (RecordType::from(code), NULL::with(bytes.to_vec()));
    record(owner, RData::Unknown { code, rdata })
}

fn signature(owner: &str, of: RecordType) -> Record {
    let mut bytes = u16::from(of).to_be_bytes().to_vec();
    bytes.extend([8, 2, 0, 0, 14, 16, 9, 9, 9]);
    unknown(owner, 46, &bytes)
}

fn service(owner: &str, priority: u16, target: &str, hint: Ipv4Addr) -> Record {
    let hint = SvcParamValue::Ipv4Hint(IpHint(vec![hint.into()]));
    let params = vec![(SvcParamKey::Ipv4Hint, hint)];
    record(
        owner,
        RData::HTTPS(HTTPS(SVCB::new(priority, name(target), params))),
    )
}

fn soa(owner: &str) -> Record {
    let soa = SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, 60);
    record(owner, RData::SOA(soa))
}

fn answer(kind: RecordType, answers: Vec<Record>) -> Message {
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    message.metadata.authentic_data = true;
    message.add_query(Question::query(name("Api.Example."), kind));
    message.answers = answers;
    message
}

fn read(message: &Message) -> Answer {
    Answer::read(&message.to_vec().expect("a message")).expect("an answer")
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    read(message).addresses(POLICY)
}

fn keep(_: IpAddr) -> Answered {
    Answered::Kept
}

fn told(message: &Message, wanted: Wanted, fate: &dyn Fn(IpAddr) -> Answered) -> Option<Message> {
    match read(message).told(wanted, fate).expect("an answer") {
        Told::Unchanged => None,
        Told::Changed(bytes) => Some(Message::from_vec(&bytes).expect("a message")),
    }
}

fn changed(message: &Message, wanted: Wanted, fate: &dyn Fn(IpAddr) -> Answered) -> Message {
    told(message, wanted, fate).expect("a changed answer")
}

#[test]
fn addresses_are_those_at_the_end_of_the_aliases() {
    let message = answer(
        RecordType::A,
        vec![
            alias("cdn.example.", "edge.example."),
            alias("api.example.", "CDN.example."),
            a("edge.example.", ONE),
            a("Edge.Example.", TWO),
            a("edge.example.", ONE),
            // Nobody asked for these.
            a("cdn.example.", Ipv4Addr::new(192, 0, 2, 1)),
            a("other.example.", Ipv4Addr::new(192, 0, 2, 2)),
        ],
    );
    assert_eq!(addresses(&message), [IpAddr::from(ONE), IpAddr::from(TWO)]);
    let told = changed(&message, POLICY, &keep);
    assert_eq!(told.answers.len(), 5, "{told}");
    assert!(
        told.answers
            .iter()
            .filter(|it| is_address(it))
            .all(|it| it.name == name("edge.example."))
    );
}

#[test]
fn a_dname_leads_to_another_tree() {
    let mut target = vec![3];
    target.extend(b"net\x05other\x00");
    let message = answer(
        RecordType::A,
        vec![unknown("example.", 39, &target), a("api.net.other.", ONE)],
    );
    assert_eq!(addresses(&message), [IpAddr::from(ONE)]);
}

#[test]
fn a_circle_of_aliases_has_no_addresses() {
    let message = answer(
        RecordType::A,
        vec![
            alias("api.example.", "b.example."),
            alias("b.example.", "api.example."),
            a("c.example.", ONE),
        ],
    );
    assert_eq!(addresses(&message), [] as [IpAddr; 0]);
}

#[test]
fn an_answer_that_nothing_changes_is_the_servers_bytes() {
    let mut message = answer(
        RecordType::A,
        vec![
            alias("api.example.", "x.example."),
            a("x.example.", ONE),
            signature("x.example.", RecordType::A),
        ],
    );
    message
        .authorities
        .push(unknown("example.", 65280, &[1, 2, 3]));
    message.additionals.push(a("ns.example.", TWO));
    assert_eq!(told(&message, POLICY, &keep), None);
}

#[test]
fn a_replaced_address_costs_signature_authentication_and_time() {
    let mut message = answer(
        RecordType::A,
        vec![
            alias("api.example.", "x.example."),
            signature("api.example.", RecordType::CNAME),
            a("x.example.", ONE),
            a("x.example.", TWO),
            signature("x.example.", RecordType::A),
        ],
    );
    message.set_edns(Edns::new());
    message
        .additionals
        .push(unknown("x.example.", 65280, &[0xc0, 0x0c, 7]));
    message.authorities.push(record(
        "example.",
        RData::MX(MX::new(1, name("mx.example."))),
    ));
    let fate = |address: IpAddr| {
        if address == ONE {
            Answered::Replaced(FAKE.into())
        } else {
            Answered::Kept
        }
    };
    let told = changed(&message, POLICY, &fate);
    assert!(!told.metadata.authentic_data);
    let mut minute = [a("x.example.", FAKE), a("x.example.", TWO)];
    for record in &mut minute {
        record.ttl = 60;
    }
    assert_eq!(told.answers[..2], message.answers[..2]);
    assert_eq!(told.answers[2..], minute);
    // All else is as it was, types that nobody knows included.
    assert_eq!(told.authorities, message.authorities);
    assert_eq!(told.additionals, message.additionals);
    assert_eq!(told.edns, message.edns);
    // Letters are as the client wrote them: it may compare them (0x20).
    assert_eq!(told.queries[0].name().to_ascii(), "Api.Example.");
}

#[test]
fn a_family_without_an_egress_address_is_nodata() {
    let mut message = answer(
        RecordType::AAAA,
        vec![
            alias("api.example.", "x.example."),
            aaaa("x.example.", SIX),
            signature("x.example.", RecordType::AAAA),
        ],
    );
    message.authorities.push(soa("example."));
    assert_eq!(read(&message).addresses(ONLY_V4), [] as [IpAddr; 0]);
    let told = changed(&message, ONLY_V4, &keep);
    assert_eq!(told.metadata.response_code, ResponseCode::NoError);
    assert_eq!(told.answers, message.answers[..1]);
    assert_eq!(told.authorities, message.authorities);
}

#[test]
fn services_of_the_host_itself_stay_and_their_hints_are_learned() {
    let own = answer(
        RecordType::HTTPS,
        vec![service("api.example.", 1, ".", ONE)],
    );
    assert_eq!(addresses(&own), [IpAddr::from(ONE)]);
    assert_eq!(told(&own, POLICY, &keep), None);

    let mut foreign = answer(
        RecordType::HTTPS,
        vec![
            service("api.example.", 0, "alias.example.", ONE),
            service("api.example.", 1, "cdn.example.", ONE),
            service("api.example.", 2, ".", TWO),
        ],
    );
    foreign.additionals.push(a("api.example.", ONE));
    assert_eq!(addresses(&foreign), [IpAddr::from(TWO), IpAddr::from(ONE)]);
    let told = changed(&foreign, POLICY, &keep);
    assert_eq!(told.answers.len(), 1);
    assert_eq!(told.additionals, foreign.additionals);
    // Without a policy nothing happens to them.
    let free = Wanted {
        learning: Learning::Unneeded,
        ..Wanted::NOTHING
    };
    assert_eq!(read(&foreign).told(free, &keep), Ok(Told::Unchanged));
}

#[test]
fn records_of_a_port_belong_to_the_host() {
    let mut message = answer(RecordType::HTTPS, Vec::new());
    message.queries[0].set_name(name("_8443._https.api.example."));
    message.answers = vec![service("_8443._https.api.example.", 1, "api.example.", ONE)];
    message.additionals = vec![a("api.example.", TWO)];
    assert_eq!(addresses(&message), [IpAddr::from(ONE), IpAddr::from(TWO)]);
    assert_eq!(told(&message, POLICY, &keep), None);
}

#[test]
fn glue_of_a_referral_is_the_servers_business() {
    let mut message = answer(RecordType::A, Vec::new());
    let ns = hickory_proto::rr::rdata::NS(name("ns.example."));
    message.authorities.push(record("example.", RData::NS(ns)));
    message.additionals.push(aaaa("ns.example.", SIX));
    assert_eq!(addresses(&message), [] as [IpAddr; 0]);
    assert_eq!(told(&message, ONLY_V4, &keep), None);
}

#[test]
fn more_addresses_than_can_be_learned_are_left_out() {
    let many = (0..=255).map(|last| a("api.example.", Ipv4Addr::new(203, 0, 113, last)));
    let message = answer(RecordType::A, many.collect());
    let learned = addresses(&message);
    assert_eq!(learned.len(), ADDRESSES_MAX);
    let fate = |address| {
        if learned.contains(&address) {
            Answered::Kept
        } else {
            Answered::LeftOut
        }
    };
    assert_eq!(
        changed(&message, POLICY, &fate).answers.len(),
        ADDRESSES_MAX
    );
}

#[test]
fn what_does_not_fit_is_asked_for_over_tcp() {
    let many = (0..100).map(|last| a("api.example.", Ipv4Addr::new(203, 0, 113, last)));
    let mut message = answer(RecordType::A, many.collect());
    message.set_edns(Edns::new());
    let bytes = message.to_vec().expect("a message");
    assert_eq!(fit(bytes.clone(), bytes.len()), bytes);
    let cut = fit(bytes.clone(), 512);
    assert!(cut.len() <= 512);
    let cut = Message::from_vec(&cut).expect("a message");
    assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.edns.is_some());
    assert_eq!(cut.queries, message.queries);
}

#[test]
fn what_cannot_be_read_says_so() {
    let error = Answer::read(&[0; 5]).expect_err("five bytes");
    assert!(
        error
            .to_string()
            .starts_with("the server's answer cannot be read: ")
    );
}

/// Records of every kind that is treated, and of some that are not.
fn any_record() -> impl Strategy<Value = Record> {
    let owner = prop::sample::select(vec!["api.example.", "b.example.", "c.example."]);
    (owner, any::<[u8; 4]>(), 0..8_usize).prop_map(|(owner, bytes, which)| match which {
        0 | 1 => a(owner, bytes.into()),
        2 => aaaa(owner, Ipv4Addr::from(bytes).to_ipv6_mapped()),
        3 => alias(
            owner,
            if bytes[0] > 127 {
                "b.example."
            } else {
                "c.example."
            },
        ),
        4 => service(
            owner,
            u16::from(bytes[0] % 3),
            if bytes[1] > 127 { "." } else { "b.example." },
            bytes.into(),
        ),
        5 => signature(owner, TREATED[usize::from(bytes[0]) % 4]),
        6 => record(owner, RData::TXT(TXT::new(vec!["text".to_owned()]))),
        _ => unknown(owner, 65280, &bytes),
    })
}

proptest! {
    /// No address that was not learned is told of the asked name, and what is told is told the
    /// second time as it is.
    #[test]
    fn only_what_was_learned_is_told(
        answers in prop::collection::vec(any_record(), 0..12),
        additionals in prop::collection::vec(any_record(), 0..4),
        kept in any::<u64>(),
        v4: bool,
    ) {
        let mut message = answer(RecordType::ANY, answers);
        message.additionals = additionals;
        let wanted = Wanted { families: Families { v4, v6: true }, ..POLICY };
        let learned = read(&message).addresses(wanted);
        let allowed: Vec<IpAddr> = learned
            .iter()
            .enumerate()
            .filter(|(at, _)| kept >> (at % 64) & 1 == 1)
            .map(|(_, address)| *address)
            .collect();
        let fate = |address| if allowed.contains(&address) { Answered::Kept } else { Answered::LeftOut };
        let first = match told(&message, wanted, &fate) {
            Some(changed) => changed,
            None => message,
        };
        for address in read(&first).addresses(Wanted { families: Families { v4: true, v6: true }, ..wanted }) {
            prop_assert!(allowed.contains(&address), "{address} in {first}");
        }
        prop_assert_eq!(told(&first, wanted, &fate), None);
    }

    /// Any bytes are read or not, but never end the resolver.
    #[test]
    fn any_bytes_are_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(answer) = Answer::read(&bytes) {
            let _ = answer.told(ONLY_V4, &|_| Answered::LeftOut);
        }
    }
}
