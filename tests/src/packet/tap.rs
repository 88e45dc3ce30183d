//! What a device receives: the copies a flood sends are real frames on the veth pairs of the world.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::world::World;

/// How long a frame that has to come may take. None passes or fails by being slow within it.
const PATIENCE_MS: u16 = 20_000;

/// Where the kernel reports group memberships to (RFC 3810 section 5.2.14), some random time after a device
/// came up.
const MLD_REPORTS: [u8; 6] = [0x33, 0x33, 0, 0, 0, 0x16];

/// A packet socket on one device.
pub struct Tap {
    socket: OwnedFd,
    device: String,
}

impl World {
    /// Listens on a device from now on.
    pub fn tap(&self, device: &str) -> Tap {
        Tap::listen(device, self.index(device))
    }

    /// Listens on all devices from now on.
    pub fn tap_all(&self) -> Tap {
        Tap::listen("any device", 0)
    }
}

impl Tap {
    fn listen(device: &str, index: u32) -> Self {
        let protocol = libc::ETH_P_ALL as u16;
        // SAFETY: plain socket call.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                i32::from(protocol.to_be()),
            )
        };
        assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
        // SAFETY: a fresh descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let room: libc::c_int = 16 << 20;
        // SAFETY: the option's value is a c_int of this size. Without it hundreds of copies overflow.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const room).cast(),
                size_of_val(&room) as u32,
            );
        }
        // SAFETY: all zero is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = index.cast_signed();
        // SAFETY: `address` has the size given.
        let rc = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(rc, 0, "bind to {device}: {}", io::Error::last_os_error());
        Self {
            socket,
            device: device.to_owned(),
        }
    }

    /// Waits for a frame.
    #[track_caller]
    pub fn frame(&self) -> Vec<u8> {
        loop {
            if let Some(frame) = self.receive() {
                return frame;
            }
            let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let n = poll(&mut wanted, PollTimeout::from(PATIENCE_MS)).expect("poll");
            assert_eq!(n, 1, "no frame came to {}", self.device);
        }
    }

    /// Nothing (more) has come.
    #[track_caller]
    pub fn nothing(&self) {
        assert_eq!(self.receive(), None, "a frame came to {}", self.device);
    }

    /// The frames that have come, each with the ifindex of its device.
    pub fn received(&self) -> Vec<(u32, Vec<u8>)> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn receive(&self) -> Option<Vec<u8>> {
        self.next().map(|(_, frame)| frame)
    }

    /// The next frame a device has received; what it sends itself does not count.
    fn next(&self) -> Option<(u32, Vec<u8>)> {
        loop {
            let mut buffer = vec![0u8; 4096];
            // SAFETY: all zero is a valid address.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut size = size_of_val(&from) as u32;
            // SAFETY: the buffer and the address have the sizes given.
            let n = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut size,
                )
            };
            buffer.truncate(usize::try_from(n).ok()?);
            if from.sll_pkttype != libc::PACKET_OUTGOING && !buffer.starts_with(&MLD_REPORTS) {
                return Some((from.sll_ifindex.cast_unsigned(), buffer));
            }
        }
    }
}
