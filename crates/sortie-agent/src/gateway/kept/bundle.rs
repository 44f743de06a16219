//! Several sockets as one descriptor: a datagram socket in whose queue they lie (unix(7),
//! `SCM_RIGHTS`). They stay open for as long as it is, whoever holds it.
//!
//! The manager passes the names of what it keeps as one variable, of which the kernel takes 128 KiB
//! (execve(2)): with each socket by itself, a host with many processors would come to its end at some
//! hundred workloads, and the gateway could not be started at all.

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Descriptors in one message (`SCM_MAX_FD`, `include/net/scm.h`).
pub(in crate::gateway) const MOST: usize = 253;

/// Puts copies of at most [`MOST`] sockets into one descriptor.
pub(super) fn tie(sockets: &[impl AsFd]) -> io::Result<OwnedFd> {
    let (into, bundle) = UnixDatagram::pair()?;
    send(&into, sockets)?;
    Ok(bundle.into())
}

/// Copies of the sockets in it. They stay in it too: whoever comes after this process finds them.
pub(super) fn untie(bundle: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    receive(bundle, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)
}

/// Sends at most [`MOST`] descriptors as a message.
pub(in crate::gateway) fn send(to: &impl AsRawFd, descriptors: &[impl AsFd]) -> io::Result<()> {
    let descriptors = descriptors.iter().map(|it| it.as_fd().as_raw_fd());
    let descriptors: Vec<RawFd> = descriptors.collect();
    sendmsg::<()>(
        to.as_raw_fd(),
        &[IoSlice::new(b"sockets")],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

/// The descriptors of the next message; of a stream's end none.
pub(in crate::gateway) fn receive(
    from: &impl AsRawFd,
    flags: MsgFlags,
) -> io::Result<Vec<OwnedFd>> {
    let mut bytes = [0; 16];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut space = cmsg_space!([RawFd; MOST]);
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel has just made them for this message.
            let owned = |descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) };
            received.extend(descriptors.into_iter().map(owned));
        }
    }
    Ok(received)
}
