//! What a device receives: the copies a flood sends are real frames on the veth pairs of the world.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::world::World;

/// How long a frame that has to come may take. None passes or fails by being slow within it.
const PATIENCE_MS: u16 = 20_000;

/// A packet socket on one device.
pub struct Tap {
    socket: OwnedFd,
    device: String,
}

impl World {
    /// Listens on a device from now on.
    pub fn tap(&self, device: &str) -> Tap {
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
        // SAFETY: all zero is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = self.index(device).cast_signed();
        // SAFETY: `address` has the size given.
        let rc = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(rc, 0, "bind to {device}: {}", io::Error::last_os_error());
        Tap {
            socket,
            device: device.to_owned(),
        }
    }
}

impl Tap {
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

    /// The next frame the device has received; what it sends itself does not count.
    fn receive(&self) -> Option<Vec<u8>> {
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
            if from.sll_pkttype != libc::PACKET_OUTGOING {
                return Some(buffer);
            }
        }
    }
}
