//! Frames of netd's own on a device that is not: what an uplink's link is to be told.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{NetError, Result};

/// Sends an Ethernet frame by a device. The socket receives nothing.
pub fn send(ifindex: u32, frame: &[u8]) -> Result<()> {
    try_send(ifindex, frame)
        .map_err(|e| NetError::io(format!("cannot send by the device with index {ifindex}"), e))
}

fn try_send(ifindex: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: a plain call; the descriptor is owned right away.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the socket was just made and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = ifindex.cast_signed();
    // SAFETY: `frame` and `to` are valid for the lengths given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
