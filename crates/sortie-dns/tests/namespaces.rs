//! The resolver between a workload and its servers, each in a network namespace of its own, with the
//! redirect that the product uses. They need root.

#[path = "namespaces/place.rs"]
mod place;
#[path = "namespaces/rig.rs"]
mod rig;
#[path = "namespaces/server.rs"]
mod server;

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use sortie_api::workload::WorkloadId;
use sortie_dns::{Change, Former, Inside, Outcome, Settings};
use sortie_plan::redirect::{RESOLVER_PORT, SOCKET_MARK};

use place::{Place, inside};
use rig::{LIMIT, Rig, addresses, question, udp};
use server::{Seen, Server};

const SERVER: &str = "10.77.0.1:53";
const CLIENT: &str = "10.77.0.2";

#[test]
fn both_protocols_and_families_ask_the_server_that_the_workload_asked() {
    let rig = Rig::new();
    let v4 = rig.server(SERVER);
    let other = rig.server("10.77.0.3:53");
    let v6 = rig.server("[fd77::1]:53");

    let answer = rig.ask(SERVER, "Alias.example.", RecordType::A);
    assert_eq!(addresses(&answer), ["203.0.113.1"]);
    assert_eq!(
        (
            answer.metadata.id,
            answer.queries[0].name().to_ascii().as_str()
        ),
        (4711, "Alias.example.")
    );
    assert!(rig.writer.knows("alias.example", "203.0.113.1"));
    assert!(
        !rig.writer.knows("api.example", "203.0.113.1"),
        "an alias' target is no asked name"
    );

    let answer = rig.ask("[fd77::1]:53", "api.example.", RecordType::AAAA);
    assert_eq!(addresses(&answer), ["2001:db8::1"]);
    assert!(rig.writer.knows("api.example", "2001:db8::1"));

    let answers = rig.ask_over_tcp(SERVER, &["a.example.", "b.example.", "secret.example."]);
    assert_eq!(addresses(&answers[0]), ["203.0.113.1"]);
    assert_eq!(addresses(&answers[1]), ["203.0.113.1"]);
    assert_eq!(answers[2].metadata.response_code, ResponseCode::Refused);
    assert_eq!(
        addresses(&rig.ask_over_tcp("[fd77::1]:53", &["c.example."])[0]),
        ["203.0.113.1"]
    );

    let seen = |name: &str, from: &str, tcp| Seen {
        name: name.to_owned(),
        from: from.parse().expect("an address"),
        tcp,
    };
    assert_eq!(
        v4.seen(),
        [
            seen("Alias.example.", CLIENT, false),
            seen("a.example.", CLIENT, true),
            seen("b.example.", CLIENT, true),
        ]
    );
    assert_eq!(
        v6.seen(),
        [
            seen("api.example.", "fd77::2", false),
            seen("c.example.", "fd77::2", true)
        ]
    );
    assert_eq!(other.seen(), []);
}

#[test]
fn one_socket_may_ask_several_servers_at_once() {
    let rig = Rig::new();
    let servers = [SERVER, "10.77.0.3:53"];
    let started = servers.map(|server| rig.server(server));
    // As musl does it: from one port, and each answer must come from the server that was asked.
    let asked = || {
        let socket = udp(SERVER);
        for server in servers {
            socket
                .send_to(&question("api.example.", RecordType::A), server)
                .expect("sent");
        }
        servers.map(|_| {
            socket
                .recv_from(&mut [0; 512])
                .expect("an answer")
                .1
                .to_string()
        })
    };
    let mut answered = rig.place.workload.enter(asked).expect("the namespace");
    answered.sort();
    assert_eq!(answered, servers);
    for server in started {
        assert_eq!(server.seen().len(), 1);
        assert_eq!(server.seen()[0].from.to_string(), CLIENT);
    }
}

#[test]
fn dockers_own_resolver_answers_behind_its_own_redirect() {
    let rig = Rig::without_redirect();
    rig.place.dockers_redirect(41_000);
    rig.place.redirect();
    let docker = Server::start(
        &rig.place.workload,
        "127.0.0.11:41000".parse().expect("an address"),
    );

    assert_eq!(
        addresses(&rig.ask("127.0.0.11:53", "api.example.", RecordType::A)),
        ["203.0.113.1"]
    );
    assert_eq!(
        addresses(&rig.ask_over_tcp("127.0.0.11:53", &["tcp.example."])[0]),
        ["203.0.113.1"]
    );
    assert!(
        rig.writer.knows("api.example", "203.0.113.1")
            && rig.writer.knows("tcp.example", "203.0.113.1")
    );
    let names: Vec<_> = docker
        .seen()
        .into_iter()
        .map(|it| (it.name, it.tcp))
        .collect();
    assert_eq!(
        names,
        [
            ("api.example.".to_owned(), false),
            ("tcp.example.".to_owned(), true)
        ]
    );

    // What it says of containers is old when one has been made anew: nothing of it is kept.
    for last in [5, 6] {
        docker.move_to(last);
        let answer = rig.ask("127.0.0.11:53", "moves.example.", RecordType::A);
        assert_eq!(addresses(&answer), [format!("203.0.113.{last}")]);
    }
}

#[test]
fn real_clients_find_names_as_without_us() {
    let rig = Rig::without_redirect();
    rig.place.dockers_redirect(41_000);
    rig.place.redirect();
    let docker = Server::start(
        &rig.place.workload,
        "127.0.0.11:41000".parse().expect("an address"),
    );
    let server = rig.server(SERVER);

    // glibc, with a search list and Docker's resolver.
    let resolv_conf = "search example\\noptions ndots:1\\nnameserver 127.0.0.11\\n";
    let found = rig.place.program(resolv_conf, "getent ahosts api");
    assert!(
        found.contains("203.0.113.1") && found.contains("2001:db8::1"),
        "{found}"
    );
    assert!(
        rig.writer.knows("api.example", "203.0.113.1")
            && rig.writer.knows("api.example", "2001:db8::1")
    );
    assert!(docker.seen().iter().all(|it| it.name == "api.example."));
    // The same over TCP.
    let resolv_conf = "options use-vc\\nnameserver 127.0.0.11\\n";
    let found = rig.place.program(resolv_conf, "getent ahostsv4 vc.example");
    assert!(found.contains("203.0.113.1"), "{found}");
    assert!(docker.seen().iter().any(|it| it.tcp));

    // busybox asks the first server, and checks who answers.
    let found = rig
        .place
        .program("nameserver 10.77.0.1\\n", "busybox nslookup alias.example");
    assert!(
        found.contains("203.0.113.1") && found.contains("2001:db8::1"),
        "{found}"
    );
    assert!(server.seen().iter().all(|it| it.from.to_string() == CLIENT));
}

#[test]
fn a_name_without_its_addresses_in_the_kernel_is_not_answered() {
    let rig = Rig::new();
    let server = rig.server(SERVER);
    let ask = |name| rig.ask(SERVER, name, RecordType::A);
    server.move_to(1);
    assert_eq!(addresses(&ask("moves.example.")), ["203.0.113.1"]);

    rig.writer.away.store(true, Ordering::Relaxed);
    // Learned already.
    assert_eq!(addresses(&ask("moves.example.")), ["203.0.113.1"]);
    // New, and nobody is there to learn it.
    let failed = ask("new.example.");
    assert_eq!(
        (failed.metadata.response_code, failed.answers.len()),
        (ResponseCode::ServFail, 0)
    );
    // No policy's: as without us.
    assert_eq!(addresses(&ask("plain.example.")), ["203.0.113.1"]);
    assert_eq!(
        ask("secret.example.").metadata.response_code,
        ResponseCode::Refused
    );
    assert!(server.seen().iter().all(|it| it.name != "secret.example."));

    rig.writer.away.store(false, Ordering::Relaxed);
    assert_eq!(addresses(&ask("new.example.")), ["203.0.113.1"]);
    assert_eq!(rig.metrics.queries(Outcome::NotLearned), 1);
    assert_eq!(rig.metrics.queries(Outcome::Refused), 1);
    // The server was asked once for what the agent was asked for twice.
    assert_eq!(
        server
            .seen()
            .iter()
            .filter(|it| it.name == "new.example.")
            .count(),
        1
    );
    assert_eq!(rig.metrics.cached(), 2);
}

#[test]
fn addresses_are_replaced_and_families_left_out() {
    let rig = Rig::new();
    let _server = rig.server(SERVER);
    assert_eq!(
        addresses(&rig.ask(SERVER, "shared.example.", RecordType::A)),
        ["198.18.0.7"]
    );
    assert!(rig.writer.knows("shared.example", "203.0.113.1"));
    let nodata = rig.ask(SERVER, "v4only.example.", RecordType::AAAA);
    assert_eq!(
        (nodata.metadata.response_code, nodata.answers.len()),
        (ResponseCode::NoError, 0)
    );
    assert!(!rig.writer.knows("v4only.example", "2001:db8::1"));
    assert_eq!(
        addresses(&rig.ask(SERVER, "v4only.example.", RecordType::A)),
        ["203.0.113.1"]
    );
}

#[test]
fn what_cannot_be_read_is_answered_only_where_no_policy_names_it() {
    let rig = Rig::new();
    let _server = rig.server(SERVER);
    let failed = rig.ask(SERVER, "garbled.example.", RecordType::A);
    assert_eq!(
        (failed.metadata.response_code, failed.answers.len()),
        (ResponseCode::ServFail, 0)
    );
    assert_eq!(rig.metrics.queries(Outcome::BadAnswer), 1);
    let passed = rig.ask_for_bytes(SERVER, "plain-garbled.example.", RecordType::A);
    assert_eq!(passed.get(6..8), Some(&[0, 2][..]));
}

#[test]
fn what_is_too_large_for_udp_comes_over_tcp() {
    let rig = Rig::new();
    let _server = rig.server(SERVER);
    let cut = rig.ask(SERVER, "big.example.", RecordType::A);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = &rig.ask_over_tcp(SERVER, &["big.example."])[0];
    assert_eq!(addresses(whole).len(), 100);
    assert!(rig.writer.knows("big.example", "203.0.113.99"));
    // What is known from TCP is still cut for UDP.
    let cut = rig.ask(SERVER, "big.example.", RecordType::A);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(rig.metrics.cached(), 1);
}

#[test]
fn what_is_no_lookup_of_an_address_passes_through() {
    let rig = Rig::new();
    let server = rig.server(SERVER);
    let text = rig.ask(SERVER, "secret-not.example.", RecordType::TXT);
    assert_eq!((text.answers.len(), text.authorities.len()), (0, 1));
    // A transfer, and what follows it on the connection, is the client's and the server's alone.
    let questions = [
        question("example.", RecordType::AXFR),
        question("secret.example.", RecordType::A),
    ];
    let answers = rig.say_over_tcp(SERVER, &questions);
    assert_eq!(answers[0].authorities.len(), 1);
    assert_eq!(addresses(&answers[1]), ["203.0.113.1"]);
    assert!(!rig.writer.knows("secret.example", "203.0.113.1"));
    assert!(server.seen().iter().all(|it| it.from.to_string() == CLIENT));
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    let rig = Rig::new();
    let answer = rig.ask(SERVER, "api.example.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let answer = &rig.ask_over_tcp(SERVER, &["api.example."])[0];
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(rig.metrics.queries(Outcome::Unreachable), 2);
}

#[test]
fn who_calls_the_resolver_itself_asks_nobody() {
    let rig = Rig::new();
    let _server = rig.server(SERVER);
    let asked = || {
        let socket = udp(SERVER);
        let question = question("api.example.", RecordType::A);
        socket
            .send_to(&question, ("127.0.0.1", RESOLVER_PORT))
            .expect("sent");
        let mut stream = TcpStream::connect(("127.0.0.1", RESOLVER_PORT)).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        // Closed without a word.
        stream.read(&mut [0; 8]).unwrap_or_default()
    };
    assert_eq!(rig.place.workload.enter(asked).expect("the namespace"), 0);
    // Datagrams are taken in their order: this one comes after it.
    assert_eq!(
        addresses(&rig.ask(SERVER, "api.example.", RecordType::A)),
        ["203.0.113.1"]
    );
    let mut rig = rig;
    rig.close();
    assert_eq!(rig.metrics.queries(Outcome::Malformed), 2);
}

#[test]
fn a_new_policy_reaches_names_that_were_looked_up_before() {
    let mut rig = Rig::new();
    let _server = rig.server(SERVER);
    rig.ask(SERVER, "plain.example.", RecordType::A);
    assert!(!rig.writer.knows("plain.example", "203.0.113.1"));
    rig.policies.all.store(true, Ordering::Relaxed);
    rig.tell(Change::PoliciesChanged);
    // What was begun is done before it ends.
    rig.close();
    assert!(rig.writer.knows("plain.example", "203.0.113.1"));
}

#[test]
fn lookups_are_answered_while_it_closes() {
    let mut rig = Rig::new();
    let server = rig.server(SERVER);
    let workload = rig.place.workload.clone();
    let asked = std::thread::spawn(move || {
        let asked = || {
            let socket = udp(SERVER);
            socket.connect(SERVER).expect("a way");
            socket
                .send(&question("slow.example.", RecordType::A))
                .expect("sent");
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).expect("an answer");
            buffer[..length].to_vec()
        };
        workload.enter(asked).expect("the namespace")
    });
    sortie_lab::eventually_true(LIMIT, "the server is asked", || !server.seen().is_empty())
        .expect("asked");
    let later = std::thread::spawn({
        let server = Arc::clone(&server);
        move || server.answer_slow()
    });
    rig.close();
    later.join().expect("no panic");
    let answer = Message::from_vec(&asked.join().expect("an answer")).expect("a message");
    assert_eq!(addresses(&answer), ["203.0.113.1"]);
}

#[test]
fn more_lookups_at_once_than_allowed_are_left_to_their_client() {
    let rig = Rig::with(Settings {
        lookups_of_one: 1,
        ..Settings::with_mark(SOCKET_MARK)
    });
    rig.place.redirect();
    let server = rig.server(SERVER);
    let sends = || {
        let socket = udp(SERVER);
        socket.connect(SERVER).expect("a way");
        let sent = socket.send(&question("slow.example.", RecordType::A));
        sent.expect("sent");
        socket
    };
    let first = rig.place.workload.enter(sends).expect("the namespace");
    sortie_lab::eventually_true(LIMIT, "the server is asked", || !server.seen().is_empty())
        .expect("asked");
    let _second = rig.place.workload.enter(sends).expect("the namespace");
    sortie_lab::eventually_true(LIMIT, "one is too many", || {
        rig.metrics.queries(Outcome::Overload) == 1
    })
    .expect("counted");
    server.answer_slow();
    first.recv(&mut [0; 512]).expect("an answer");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_server_may_close_its_connections() {
    let rig = Rig::new();
    let _server = rig.server(SERVER);
    let answers = rig.ask_over_tcp(SERVER, &["last.example.", "last.example.", "a.example."]);
    for answer in answers {
        assert_eq!(addresses(&answer), ["203.0.113.1"]);
    }
}

#[test]
fn an_ended_workload_has_no_resolver() {
    let rig = Rig::new();
    let _server = rig.server(SERVER);
    rig.ask(SERVER, "api.example.", RecordType::A);
    rig.tell(Change::Ended(WorkloadId::from("docker/1")));
    let refused = || {
        let socket = udp(SERVER);
        // A lookup that is under way when the workload ends has no answer.
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a limit");
        socket.connect(SERVER).expect("a way");
        let sent = socket.send(&question("api.example.", RecordType::A));
        // The redirect leads to nobody.
        sent.and_then(|_| socket.recv(&mut [0; 512]))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    sortie_lab::eventually_true(LIMIT, "the sockets are closed", || {
        rig.place.workload.enter(refused).expect("the namespace")
    })
    .expect("closed");
}

#[test]
fn a_namespace_without_ipv6_has_one_resolver_too() {
    let place = Place::new();
    inside(
        &place.workload,
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let sockets = Inside::start().expect("a thread");
    let listen = |former| {
        let namespace = place.namespace();
        runtime.block_on(sockets.listen(&namespace, RESOLVER_PORT, former))
    };
    let first = listen(Former::default()).expect("listeners");
    let second = listen(Former::default()).expect_err("the port is taken");
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    let sockets = first.sockets().map(|socket| socket.try_clone_to_owned());
    let sockets = sockets.collect::<Result<Vec<_>, _>>().expect("copies");
    drop(first);
    let again = listen(Former::from(sockets)).expect("those of before");
    assert_eq!(again.sockets().count(), 4);
    drop(again);
    listen(Former::default()).expect("listeners");
}
