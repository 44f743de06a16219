use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::*;

/// Who comes back to it finds the same again, and a connection that came while nobody listened.
#[test]
fn what_is_tied_stays_open_and_can_be_taken_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_at = other.local_addr().unwrap();
    let bundle = tie(&[listener.as_fd(), other.as_fd()]).unwrap();
    drop((listener, other));
    let client = TcpStream::connect(at).unwrap();
    for _ in 0..2 {
        let sockets = untie(&bundle).unwrap().into_iter();
        let found: Vec<_> = sockets
            .map(|socket| TcpListener::from(socket).local_addr().unwrap())
            .collect();
        assert_eq!(found, [at, other_at]);
    }
    let listener = TcpListener::from(untie(&bundle).unwrap().swap_remove(0));
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    drop((listener, bundle));
    assert!(TcpStream::connect(at).is_err(), "the last copy is closed");
}

#[test]
fn as_many_as_a_message_holds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let copies = vec![listener.as_fd(); MOST];
    assert_eq!(untie(&tie(&copies).unwrap()).unwrap().len(), MOST);
    let more = vec![listener.as_fd(); MOST + 1];
    assert!(tie(&more).is_err());
}

#[test]
fn what_is_no_bundle_is_an_error() {
    let (socket, _other) = UnixDatagram::pair().unwrap();
    assert!(untie(&socket.into()).is_err(), "nothing is in it");
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(untie(&file.into()).is_err(), "no socket");
}
