//! A small server with authority over everything, that notes who asked.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use sortie_kernel::netns::Namespace;

/// How a question came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// As it was written.
    pub(crate) name: String,
    /// The source that this side saw.
    pub(crate) from: IpAddr,
    pub(crate) tcp: bool,
}

#[derive(Default)]
pub(crate) struct Server {
    seen: Mutex<Vec<Seen>>,
    /// Whether `slow.example` may be answered.
    open: Mutex<bool>,
    opened: Condvar,
    /// The last byte of `moves.example`'s address.
    last: Mutex<u8>,
}

impl Server {
    /// At an address of a namespace, over UDP and TCP.
    pub(crate) fn start(namespace: &Namespace, address: SocketAddr) -> Arc<Self> {
        let server = Arc::new(Self::default());
        let sockets = || {
            Some((
                UdpSocket::bind(address).ok()?,
                TcpListener::bind(address).ok()?,
            ))
        };
        let (udp, tcp) = namespace
            .enter(sockets)
            .expect("the namespace")
            .expect("port 53");
        let of_udp = Arc::clone(&server);
        thread::spawn(move || of_udp.datagrams(&udp));
        let of_tcp = Arc::clone(&server);
        thread::spawn(move || of_tcp.connections(&tcp));
        server
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    pub(crate) fn move_to(&self, last: u8) {
        *self.last.lock().expect("no panic") = last;
    }

    pub(crate) fn answer_slow(&self) {
        *self.open.lock().expect("no panic") = true;
        self.opened.notify_all();
    }

    fn datagrams(self: Arc<Self>, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let (server, question) = (Arc::clone(&self), buffer[..length].to_vec());
            let socket = socket.try_clone().expect("a descriptor");
            thread::spawn(move || {
                let answer = server.answer(&question, client, false);
                // A test that has ended does not wait for it.
                let _ = socket.send_to(&answer, client);
            });
        }
    }

    fn connections(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((mut stream, client)) = listener.accept() {
            let server = Arc::clone(&self);
            thread::spawn(move || {
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut question = vec![0; u16::from_be_bytes(length).into()];
                    if stream.read_exact(&mut question).is_err() {
                        return;
                    }
                    let answer = server.answer(&question, client, true);
                    let length = u16::try_from(answer.len()).expect("a message");
                    let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
                    let last = question.windows(5).any(|part| part == b"\x04last");
                    if stream.write_all(&framed).is_err() || last {
                        return;
                    }
                }
            });
        }
    }

    fn answer(&self, question: &[u8], client: SocketAddr, tcp: bool) -> Vec<u8> {
        let mut message = Message::from_vec(question).expect("a question");
        let query = message.queries[0].clone();
        let name = query.name().to_ascii();
        let from = client.ip().to_canonical();
        let seen = Seen {
            name: name.clone(),
            from,
            tcp,
        };
        self.seen.lock().expect("no panic").push(seen);
        if name == "slow.example." {
            let closed = self.open.lock().expect("no panic");
            drop(
                self.opened
                    .wait_while(closed, |open| !*open)
                    .expect("no panic"),
            );
        }
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        message.answers = self.records(query.name(), query.query_type());
        if message.answers.is_empty() {
            let root = Name::root();
            let soa = SOA::new(root.clone(), root.clone(), 1, 60, 60, 60, 60);
            message
                .authorities
                .push(Record::from_rdata(root, 60, RData::SOA(soa)));
        }
        let mut bytes = message.to_vec().expect("a message");
        if name.ends_with("garbled.example.") {
            // One answer more than there is.
            bytes[7] += 1;
        }
        if !tcp && bytes.len() > 512 {
            return message.truncate().to_vec().expect("a message");
        }
        bytes
    }

    fn records(&self, name: &Name, kind: RecordType) -> Vec<Record> {
        let record = |data| Record::from_rdata(name.clone(), 300, data);
        let v4 = |last| record(RData::A(A(Ipv4Addr::new(203, 0, 113, last))));
        let v6 = || {
            record(RData::AAAA(AAAA(Ipv6Addr::new(
                0x2001, 0xdb8, 0, 0, 0, 0, 0, 1,
            ))))
        };
        match (name.to_lowercase().to_ascii().as_str(), kind) {
            ("alias.example.", RecordType::A | RecordType::AAAA) => {
                let target = Name::from_ascii("api.example.").expect("a name");
                let mut answers = vec![record(RData::CNAME(CNAME(target.clone())))];
                answers.extend(self.records(&target, kind));
                answers
            }
            ("big.example.", RecordType::A) => (0..100).map(v4).collect(),
            ("moves.example.", RecordType::A) => vec![v4(*self.last.lock().expect("no panic"))],
            ("v4.example.", RecordType::A) => vec![v4(1)],
            ("v4.example.", _) => Vec::new(),
            (name, RecordType::A) if name.ends_with(".example.") => vec![v4(1)],
            (name, RecordType::AAAA) if name.ends_with(".example.") => vec![v6()],
            _ => Vec::new(),
        }
    }
}
