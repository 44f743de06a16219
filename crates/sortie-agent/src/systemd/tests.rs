use std::io::{IoSliceMut, Read, Write};
use std::os::fd::AsFd;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, recvmsg};

use super::*;

#[test]
fn what_is_said_arrives_at_both_kinds_of_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let by_path = UnixDatagram::bind(&path).unwrap();
    let name = format!("sortie-test-{}", std::process::id());
    let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
    let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
    for (address, manager) in [
        (path.to_str().unwrap().to_owned(), by_path),
        (format!("@{name}"), by_name),
    ] {
        Notify::connect(&address).unwrap().say("READY=1");
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }
}

#[test]
fn a_manager_that_is_gone_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let notify = Notify::connect(path.to_str().unwrap()).unwrap();
    drop(manager);
    notify.say("READY=1");
    assert!(Notify::connect(path.join("nowhere").to_str().unwrap()).is_err());
}

#[test]
fn a_stored_descriptor_is_a_copy_with_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let notify = Notify::connect(path.to_str().unwrap()).unwrap();
    notify.store("tables", theirs.as_fd()).unwrap();
    drop(theirs);

    let mut bytes = [0; 128];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut space = cmsg_space!([RawFd; 1]);
    let message = recvmsg::<()>(
        manager.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::empty(),
    )
    .unwrap();
    let Some(ControlMessageOwned::ScmRights(descriptors)) = message.cmsgs().unwrap().next() else {
        panic!("no descriptor came");
    };
    let length = message.bytes;
    // SAFETY: it has just been received.
    let stored = unsafe { OwnedFd::from_raw_fd(descriptors[0]) };
    assert_eq!(&bytes[..length], b"FDSTORE=1\nFDNAME=tables\nFDPOLL=0");
    notify.remove("tables").unwrap();
    let mut next = [0; 128];
    let next_length = manager.recv(&mut next).unwrap();
    assert_eq!(&next[..next_length], b"FDSTOREREMOVE=1\nFDNAME=tables");
    ours.write_all(b"x").unwrap();
    let mut read = [0; 1];
    std::fs::File::from(stored).read_exact(&mut read).unwrap();
    assert_eq!(&read, b"x");
}
