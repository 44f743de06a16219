use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::testing::in_namespace;

/// The test's own cgroup, as the file system knows it.
fn own() -> CgroupId {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts.lines().filter(|line| line.contains(" cgroup2 "));
    let mount = mounts.next().unwrap().split(' ').nth(1).unwrap();
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    let folder = fs::metadata(format!("{mount}{}", path.unwrap())).unwrap();
    CgroupId(folder.ino())
}

fn tuple(protocol: u8, from: SocketAddr, to: SocketAddr) -> Tuple {
    Tuple::ports(protocol, (from.ip(), from.port()), (to.ip(), to.port()))
}

#[test]
fn a_sockets_cgroup_while_it_is_there() {
    in_namespace(|| {
        let mut senders = Senders::open().unwrap();
        let mut cgroup = |tuple: &Tuple| senders.cgroup(tuple).unwrap();
        for loopback in ["127.0.0.1", "::1"] {
            let loopback: IpAddr = loopback.parse().unwrap();
            let listener = TcpListener::bind((loopback, 0)).unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (from, to) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            assert_eq!(cgroup(&tuple(6, from, to)), Some(own()));
            assert_eq!(cgroup(&tuple(17, from, to)), None);

            let socket = UdpSocket::bind((loopback, 0)).unwrap();
            socket.connect((loopback, 9)).unwrap();
            let (from, to) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
            let sent = tuple(17, from, to);
            assert_eq!(cgroup(&sent), Some(own()));
            drop(socket);
            assert_eq!(cgroup(&sent), None);
            assert_eq!(
                cgroup(&Tuple {
                    protocol: 132,
                    ..sent
                }),
                None
            );
        }
    });
}
