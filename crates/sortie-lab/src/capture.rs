//! The frame reader: every frame that crosses an uplink, read with `AF_PACKET` (packet(7)).
//!
//! It listens at the internet's end of the uplink, so that what it reads has truly left the host,
//! whatever hooks the host has at its own end.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockType, recvmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::error::{Doing, LabError, Result};
use crate::frame::{Headers, Packet};
use crate::netns::Netns;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It left the host.
    Out,
    /// It came to the host.
    In,
}

/// A frame that crossed an uplink.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When it crossed, by the kernel's clock; however late it is read.
    pub at: SystemTime,
    /// Which way it went.
    pub direction: Direction,
    /// Its length on the wire in bytes; a segment that the sender left to offloading counts whole.
    pub length: usize,
    /// Its headers. A VLAN tag is seen when it is in the frame, not when the kernel holds it aside.
    pub headers: Headers,
}

impl Frame {
    /// The IP packet that left the host in this frame, if it is one.
    pub fn left(&self) -> Option<&Packet> {
        self.headers
            .packet()
            .filter(|_| self.direction == Direction::Out)
    }

    /// Whether it left the host for this address.
    pub fn left_for(&self, destination: IpAddr) -> bool {
        self.left()
            .is_some_and(|packet| packet.destination == destination)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.direction {
            Direction::Out => "out",
            Direction::In => "in ",
        };
        write!(f, "{arrow} {} ({} bytes)", self.headers, self.length)
    }
}

/// Reads the frames of one uplink from the moment it exists.
#[derive(Clone)]
pub struct Capture {
    uplink: Arc<str>,
    state: Arc<Mutex<State>>,
}

struct State {
    socket: Arc<OwnedFd>,
    frames: Vec<Frame>,
    lost: u64,
}

/// Room for a burst while the reader does not run, in bytes; a small frame takes about 1 KiB of it.
const RECEIVE_BUFFER: usize = 128 << 20;

/// Enough for every header that is read.
const SNAPSHOT_LENGTH: usize = 256;

/// `ETH_P_ALL` of `linux/if_ether.h`.
const EVERY_PROTOCOL: u16 = 3;

/// How often the reading thread looks whether it is still wanted, in milliseconds.
const LOOK: u16 = 200;

impl Capture {
    /// Starts to read the interface `device` of `netns`, the internet's end of `uplink`.
    pub(crate) fn start(netns: &Netns, device: &str, uplink: &str) -> Result<Self> {
        let socket = Arc::new(netns.run(|| open(device).doing("read frames of", device))??);
        let state = Arc::new(Mutex::new(State {
            socket: Arc::clone(&socket),
            frames: Vec::new(),
            lost: 0,
        }));
        let reader = Arc::downgrade(&state);
        std::thread::Builder::new()
            .name(format!("frames-{device}"))
            .spawn(move || read_until_unwanted(&socket, &reader))
            .doing("start the frame reader of", uplink)?;
        Ok(Self {
            uplink: uplink.into(),
            state,
        })
    }

    /// How many frames have been read: a place to look from later, with [`Capture::since`].
    ///
    /// # Errors
    /// [`LabError::FramesLost`].
    pub fn position(&self) -> Result<usize> {
        Ok(self.read()?.frames.len())
    }

    /// All frames read from a position on, up to those that crossed before this call.
    ///
    /// # Errors
    /// [`LabError::FramesLost`].
    pub fn since(&self, position: usize) -> Result<Vec<Frame>> {
        Ok(self
            .read()?
            .frames
            .get(position..)
            .unwrap_or_default()
            .to_vec())
    }

    /// All frames read so far, which are then forgotten: for tests that send without end.
    ///
    /// # Errors
    /// [`LabError::FramesLost`].
    pub fn take(&self) -> Result<Vec<Frame>> {
        Ok(std::mem::take(&mut self.read()?.frames))
    }

    fn read(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = lock(&self.state);
        state.drain().doing("read frames of", &self.uplink)?;
        match state.lost {
            0 => Ok(state),
            lost => Err(LabError::FramesLost {
                uplink: self.uplink.to_string(),
                lost,
            }),
        }
    }
}

impl State {
    fn drain(&mut self) -> io::Result<()> {
        while let Some(Received {
            at,
            direction,
            length,
            headers,
        }) = receive(&self.socket)?
        {
            // What is shorter than an Ethernet header has no source to be wrong.
            self.frames.extend(headers.map(|headers| Frame {
                at,
                direction,
                length,
                headers,
            }));
        }
        self.lost += lost(&self.socket)?;
        Ok(())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_until_unwanted(socket: &OwnedFd, state: &Weak<Mutex<State>>) {
    loop {
        let mut wanted = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        // An error here shows again, and is told, when the frames are asked for.
        let _ = poll(&mut wanted, PollTimeout::from(LOOK));
        let Some(state) = state.upgrade() else { return };
        let _ = lock(&state).drain();
    }
}

/// The size of a structure that is handed to the kernel.
fn length_of<T>(structure: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(structure)).unwrap_or(0)
}

/// A packet socket on a device of the thread's namespace; protocol 0 sends only.
fn bound(device: &str, protocol: u16) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Protocol 0 receives nothing yet: bind() chooses interface and protocol at once.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    // SAFETY: sockaddr_ll is plain data, for which all zeros are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = AddressFamily::Packet as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = if_nametoindex(device)?.cast_signed();
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            length_of(&address),
        )
    };
    if bound == 0 {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn open(device: &str) -> io::Result<OwnedFd> {
    let socket = bound(device, EVERY_PROTOCOL)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(socket)
}

/// A socket that sends whole Ethernet frames on a device of the thread's namespace. One is for many
/// frames: the kernel takes tens of milliseconds to close it (`synchronize_net` in
/// net/packet/af_packet.c).
pub(crate) fn sending(device: &str) -> io::Result<OwnedFd> {
    bound(device, 0)
}

/// One frame as the socket gave it.
struct Received {
    at: SystemTime,
    direction: Direction,
    length: usize,
    headers: Option<Headers>,
}

/// Reads one frame: `None` when there is none now.
fn receive(socket: &OwnedFd) -> io::Result<Option<Received>> {
    let mut buffer = [0_u8; SNAPSHOT_LENGTH];
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg::<LinkAddr>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_TRUNC,
    );
    let message = match received {
        Ok(message) => message,
        // A link that goes down is not an error of the reader: it will come up again.
        Err(nix::Error::EAGAIN | nix::Error::ENETDOWN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(at) => {
            Some(SystemTime::UNIX_EPOCH + Duration::from(at))
        }
        _ => None,
    });
    let outgoing = message
        .address
        .is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
    let length = message.bytes;
    Ok(Some(Received {
        at: stamp.unwrap_or_else(SystemTime::now),
        direction: if outgoing {
            Direction::In
        } else {
            Direction::Out
        },
        length,
        headers: Headers::parse(&buffer[..length.min(SNAPSHOT_LENGTH)]),
    }))
}

/// Frames that the kernel dropped since the last call, for want of room (`PACKET_STATISTICS`).
fn lost(socket: &OwnedFd) -> io::Result<u64> {
    /// `struct tpacket_stats` of `linux/if_packet.h`.
    #[repr(C)]
    #[derive(Default)]
    struct Statistics {
        packets: u32,
        drops: u32,
    }
    let mut statistics = Statistics::default();
    let mut length = length_of(&statistics);
    // SAFETY: the pointer and the length describe `statistics`, which the kernel fills.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    if answer == 0 {
        Ok(u64::from(statistics.drops))
    } else {
        Err(io::Error::last_os_error())
    }
}
