//! What a device receives: the copies a flood sends are real frames on the veth pairs of the world.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

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
        let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let n = poll(&mut wanted, PollTimeout::from(PATIENCE_MS)).expect("poll");
        assert_eq!(n, 1, "no frame came to {}", self.device);
        self.receive().expect("a frame is there")
    }

    /// Nothing (more) has come.
    #[track_caller]
    pub fn nothing(&self) {
        assert_eq!(self.receive(), None, "a frame came to {}", self.device);
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0u8; 4096];
        // SAFETY: the buffer has the size given.
        let n = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
            )
        };
        let n = usize::try_from(n).ok()?;
        buffer.truncate(n);
        Some(buffer)
    }
}
