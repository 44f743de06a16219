//! The system calls on a netlink socket, and all of the crate's unsafe code.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recvmsg, send as sock_send, setsockopt, socket, sockopt,
};

/// A bound `NETLINK_NETFILTER` socket with a port id of the kernel's choice.
pub(super) fn open() -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(fd)
}

/// The port id that the kernel chose.
pub(super) fn port(fd: &OwnedFd) -> io::Result<u32> {
    let address: NetlinkAddr = getsockname(fd.as_raw_fd())?;
    Ok(address.pid())
}

/// Turns a boolean `SOL_NETLINK` option on.
pub(super) fn enable(fd: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    set_netlink_option(fd, option, 1)
}

/// Joins a multicast group.
pub(super) fn join(fd: &OwnedFd, group: u32) -> io::Result<()> {
    let group = libc::c_int::try_from(group).map_err(|_| io::Error::from(Errno::EINVAL))?;
    set_netlink_option(fd, libc::NETLINK_ADD_MEMBERSHIP, group)
}

fn set_netlink_option(fd: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, a c_int that outlives the
    // call; the kernel only reads it, and the descriptor is open since it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default(),
        )
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// Makes the send buffer hold one datagram of `bytes`.
pub(super) fn grow_send_buffer(fd: &OwnedFd, bytes: usize) -> io::Result<()> {
    // The kernel doubles the figure and keeps part of it for itself.
    let size = bytes.saturating_add(4096);
    match setsockopt(fd, sockopt::SndBufForce, &size) {
        Err(Errno::EPERM) => setsockopt(fd, sockopt::SndBuf, &size)?,
        other => other?,
    }
    Ok(())
}

/// Asks for a receive buffer of `bytes`, capped by the system's limit for the unprivileged.
pub(super) fn grow_receive_buffer(fd: &OwnedFd, bytes: usize) -> io::Result<()> {
    match setsockopt(fd, sockopt::RcvBufForce, &bytes) {
        Err(Errno::EPERM) => setsockopt(fd, sockopt::RcvBuf, &bytes)?,
        other => other?,
    }
    Ok(())
}

/// Sends one datagram to the kernel.
pub(super) fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    loop {
        match sock_send(fd.as_raw_fd(), bytes, MsgFlags::empty()) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one datagram without blocking: its length, or `None` when the sender is not
/// the kernel.
pub(super) fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<NetlinkAddr>(fd.as_raw_fd(), &mut slices, None, MsgFlags::MSG_DONTWAIT) {
            Ok(message) => break (message.address, message.flags, message.bytes),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let (address, flags, length) = message;
    if flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(Errno::EMSGSIZE.into());
    }
    let from_kernel = address.is_none_or(|address| address.pid() == 0);
    Ok(from_kernel.then_some(length))
}

/// Waits until a read would not block; false when the time is over.
pub(super) fn wait_readable(fd: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now().checked_add(limit);
    loop {
        let left = deadline.map_or(limit, |end| end.saturating_duration_since(Instant::now()));
        // Rounded up, so that a short limit does not spin.
        let millis = left.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_zero() || i32::try_from(millis).is_ok() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}
