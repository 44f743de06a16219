//! A resolver with policies and a writer made up for tests, and clients.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use sortie_api::policy::PolicyName;
use sortie_api::workload::{Families, WorkloadId};
use sortie_dns::{
    Answered, Change, DnsName, Former, Inside, Interest, Learn, Learning, Metrics, Names,
    NotLearned, Settings, Wanted, serve,
};
use sortie_plan::redirect::{RESOLVER_PORT, SOCKET_MARK};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::place::Place;
use crate::server::Server;

/// How long anything may take. Only a failure waits for it.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// `secret.example` is refused, `plain.example` and `plain-garbled.example` are no policy's,
/// `v4only.example` has IPv4 only, all else is a policy's.
#[derive(Clone, Default)]
pub(crate) struct Policies {
    /// A policy for `plain.example` too.
    pub(crate) all: Arc<AtomicBool>,
}

impl Names for Policies {
    fn question(&self, _: &WorkloadId, name: &DnsName) -> Interest {
        let policy = Wanted {
            learning: Learning::Required,
            families: Families { v4: true, v6: true },
            sees_name: false,
        };
        match name.as_str() {
            "secret.example" => Interest::Refused(PolicyName("only".to_owned())),
            "plain-garbled.example" => Interest::Forward(Wanted::NOTHING),
            "plain.example" if !self.all.load(Ordering::Relaxed) => {
                Interest::Forward(Wanted::NOTHING)
            }
            "v4only.example" => Interest::Forward(Wanted {
                families: Families {
                    v4: true,
                    v6: false,
                },
                ..policy
            }),
            _ => Interest::Forward(policy),
        }
    }
}

/// Notes what it is told, and answers `shared.example` with another address.
#[derive(Clone, Default)]
pub(crate) struct Writer {
    pub(crate) learned: Arc<Mutex<BTreeSet<(String, IpAddr)>>>,
    pub(crate) away: Arc<AtomicBool>,
}

impl Writer {
    pub(crate) fn knows(&self, name: &str, address: &str) -> bool {
        let address = address.parse().expect("an address");
        let learned = self.learned.lock().expect("no panic");
        learned.contains(&(name.to_owned(), address))
    }
}

impl Learn for Writer {
    async fn learned(
        &self,
        workload: &WorkloadId,
        name: &DnsName,
        addresses: &[IpAddr],
    ) -> Result<Vec<Answered>, NotLearned> {
        assert_eq!(workload.as_str(), "docker/1");
        if self.away.load(Ordering::Relaxed) {
            return Err(NotLearned::Away("connection refused".to_owned()));
        }
        let mut learned = self.learned.lock().expect("no panic");
        learned.extend(addresses.iter().map(|it| (name.as_str().to_owned(), *it)));
        let told = |address: &IpAddr| match (name.as_str(), address) {
            ("shared.example", IpAddr::V4(_)) => {
                Answered::Replaced(Ipv4Addr::new(198, 18, 0, 7).into())
            }
            _ => Answered::Kept,
        };
        Ok(addresses.iter().map(told).collect())
    }
}

/// A resolver for one workload.
pub(crate) struct Rig {
    pub(crate) place: Place,
    pub(crate) policies: Policies,
    pub(crate) writer: Writer,
    pub(crate) metrics: Metrics,
    pub(crate) changes: Option<mpsc::Sender<Change>>,
    pub(crate) serving: Option<JoinHandle<()>>,
    pub(crate) runtime: Runtime,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let rig = Self::without_redirect();
        rig.place.redirect();
        rig
    }

    pub(crate) fn without_redirect() -> Self {
        Self::with(Settings::with_mark(SOCKET_MARK))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let place = Place::new();
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let sockets = Inside::start().expect("a thread");
        let namespace = place.namespace();
        let listeners = runtime
            .block_on(sockets.listen(&namespace, RESOLVER_PORT, Former::default()))
            .expect("listeners");
        let (changes, told) = mpsc::channel(8);
        let (policies, writer, metrics) =
            (Policies::default(), Writer::default(), Metrics::default());
        let serving = runtime.spawn(serve(
            told,
            sockets,
            policies.clone(),
            writer.clone(),
            None,
            metrics.clone(),
            Settings {
                drain: LIMIT,
                ..settings
            },
        ));
        let started = Change::Started {
            workload: WorkloadId::from("docker/1"),
            namespace,
            listeners,
        };
        changes.blocking_send(started).expect("it serves");
        Self {
            place,
            policies,
            writer,
            metrics,
            changes: Some(changes),
            serving: Some(serving),
            runtime,
        }
    }

    pub(crate) fn server(&self, address: &str) -> Arc<Server> {
        Server::start(&self.place.outside, address.parse().expect("an address"))
    }

    pub(crate) fn tell(&self, change: Change) {
        let changes = self.changes.as_ref().expect("open");
        changes.blocking_send(change).expect("it serves");
    }

    /// Asks over UDP, from a socket that hears the asked server only.
    pub(crate) fn ask(&self, server: &str, name: &str, kind: RecordType) -> Message {
        Message::from_vec(&self.ask_for_bytes(server, name, kind)).expect("a message")
    }

    pub(crate) fn ask_for_bytes(&self, server: &str, name: &str, kind: RecordType) -> Vec<u8> {
        let asked = || {
            let socket = udp(server);
            socket.connect(server).expect("a way");
            socket.send(&question(name, kind)).expect("sent");
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).expect("an answer");
            buffer[..length].to_vec()
        };
        self.place.workload.enter(asked).expect("the namespace")
    }

    pub(crate) fn ask_over_tcp(&self, server: &str, names: &[&str]) -> Vec<Message> {
        let questions: Vec<_> = names
            .iter()
            .map(|name| question(name, RecordType::A))
            .collect();
        self.say_over_tcp(server, &questions)
    }

    pub(crate) fn say_over_tcp(&self, server: &str, questions: &[Vec<u8>]) -> Vec<Message> {
        let server: SocketAddr = server.parse().expect("an address");
        let asked = || {
            let mut stream = TcpStream::connect_timeout(&server, LIMIT).expect("a connection");
            stream.set_read_timeout(Some(LIMIT)).expect("a limit");
            // All at once, as clients may.
            for question in questions {
                let length = u16::try_from(question.len()).expect("short");
                let framed = [&length.to_be_bytes(), question.as_slice()].concat();
                stream.write_all(&framed).expect("sent");
            }
            let answers = questions.iter().map(|_| {
                let mut length = [0; 2];
                stream.read_exact(&mut length).expect("an answer");
                let mut answer = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut answer).expect("an answer");
                Message::from_vec(&answer).expect("a message")
            });
            answers.collect()
        };
        self.place.workload.enter(asked).expect("the namespace")
    }

    /// Nobody can tell changes any more, and it ends.
    pub(crate) fn close(&mut self) {
        self.changes = None;
        let serving = self.serving.take().expect("it serves");
        let ended = async { tokio::time::timeout(LIMIT, serving).await };
        self.runtime
            .block_on(ended)
            .expect("in time")
            .expect("no panic");
    }
}

pub(crate) fn udp(server: &str) -> UdpSocket {
    let any = if server.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    socket
}

pub(crate) fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("a message")
}

pub(crate) fn addresses(message: &Message) -> Vec<String> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(address.0.to_string()),
        RData::AAAA(address) => Some(address.0.to_string()),
        _ => None,
    };
    message
        .answers
        .iter()
        .filter_map(|it| address(&it.data))
        .collect()
}
