//! Sockets of the node.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

/// A TCP socket of the node in the middle of connecting: to the kernel, a connection.
pub fn tcp_socket(local: (IpAddr, u16), remote: (IpAddr, u16)) -> OwnedFd {
    let family = if local.0.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None).expect("a socket");
    let address = |a: (IpAddr, u16)| SockaddrStorage::from(SocketAddr::from(a));
    bind(fd.as_raw_fd(), &address(local)).expect("the address is the node's");
    // The outside of a world never answers.
    let connecting = connect(fd.as_raw_fd(), &address(remote));
    assert_eq!(connecting, Err(Errno::EINPROGRESS));
    fd
}
