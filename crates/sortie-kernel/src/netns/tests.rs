use std::net::TcpListener;

use super::*;
use crate::testing::sh;

#[test]
fn code_runs_inside_and_the_caller_stays_outside() {
    let before = Namespace::current().unwrap().identity();
    let namespace = Namespace::anonymous().unwrap();
    assert_ne!(namespace.identity(), before);
    let inside = namespace
        .enter(|| Namespace::current().unwrap().identity())
        .unwrap();
    assert_eq!(inside, namespace.identity());
    assert_eq!(Namespace::current().unwrap().identity(), before);
}

#[test]
fn a_socket_opened_inside_stays_there() {
    let namespace = Namespace::anonymous().unwrap();
    let listener = namespace
        .enter(|| {
            sh("ip link set lo up");
            TcpListener::bind("127.0.0.1:0").unwrap()
        })
        .unwrap();
    let of_socket = Namespace::of_socket(listener.as_fd()).unwrap();
    assert_eq!(of_socket.identity(), namespace.identity());
    let address = listener.local_addr().unwrap();
    namespace
        .enter(|| std::net::TcpStream::connect(address).unwrap())
        .unwrap();
}

#[test]
fn the_namespace_of_a_process_is_ours() {
    let own = Namespace::of_pid(std::process::id()).unwrap();
    assert_eq!(own.identity(), Namespace::current().unwrap().identity());
}

#[test]
fn a_missing_namespace_is_named() {
    let error = Namespace::of_path(Path::new("/run/netns/there-is-no-such")).unwrap_err();
    assert!(
        error.to_string().contains("/run/netns/there-is-no-such"),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "inside")]
fn a_panic_inside_goes_on_outside() {
    let namespace = Namespace::anonymous().unwrap();
    let _ = namespace.enter(|| panic!("inside"));
}
