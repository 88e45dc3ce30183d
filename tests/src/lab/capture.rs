//! Watching a device: every frame it sends and receives, through an `AF_PACKET` socket.

use std::ffi::CString;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::host::Host;
use super::wait::PATIENCE;

/// A frame seen.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The device sent it (else it received it).
    pub outgoing: bool,
    /// Length on the device; more than `bytes` holds if the frame was longer than the buffer.
    pub len: usize,
    /// Its bytes, from the Ethernet header.
    pub bytes: Vec<u8>,
}

/// What matters of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// Source port; 0 without ports.
    pub sport: u16,
    /// Destination port; 0 without ports.
    pub dport: u16,
    /// ICMP or ICMPv6 type.
    pub icmp: Option<u8>,
}

impl Packet {
    /// Whether it is an echo request.
    pub fn is_echo_request(&self) -> bool {
        self.icmp == Some(if self.src.is_ipv4() { 8 } else { 128 })
    }
}

impl Frame {
    /// The IP packet inside, if it is one.
    pub fn packet(&self) -> Option<Packet> {
        let sliced = LaxSlicedPacket::from_ethernet(&self.bytes).ok()?;
        let (src, dst, proto): (IpAddr, IpAddr, u8) = match sliced.net? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    ip.payload().ip_number.0,
                )
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    ip.payload().ip_number.0,
                )
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let (sport, dport) = match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
            Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
            _ => (0, 0),
        };
        let icmp = match &sliced.transport {
            Some(TransportSlice::Icmpv4(icmp)) => icmp.slice().first().copied(),
            Some(TransportSlice::Icmpv6(icmp)) => icmp.slice().first().copied(),
            _ => None,
        };
        Some(Packet {
            src,
            dst,
            proto,
            sport,
            dport,
            icmp,
        })
    }
}

/// A raw socket on one device: sees frames, and can send them.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
    device: String,
}

impl Host {
    /// Watches one of the host's devices from now on.
    pub fn capture(&self, device: &str) -> Result<RawSocket> {
        self.ns
            .enter(|| RawSocket::open(device))
            .with_context(|| format!("on {}", self.name))
    }
}

impl RawSocket {
    fn open(device: &str) -> Result<Self> {
        let name = CString::new(device)?;
        // SAFETY: `name` is a C string that outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            bail!("there is no device {device}");
        }
        let every = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: plain socket(2); the descriptor is checked and owned right away. Protocol 0:
        // nothing is queued before the socket is bound to its device.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error()).context("cannot open a raw socket");
            }
            OwnedFd::from_raw_fd(fd)
        };
        let buffer: libc::c_int = 32 << 20;
        // SAFETY: the option's value is a c_int of this size. A smaller buffer only loses frames.
        unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const buffer).cast(),
                size_of_val(&buffer) as libc::socklen_t,
            );
        }
        // SAFETY: sockaddr_ll is plain data for which all-zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = every;
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the address is a sockaddr_ll and its size is given.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if bound != 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot watch {device}"));
        }
        Ok(Self {
            fd,
            device: device.to_owned(),
        })
    }

    /// Sends a frame, from the Ethernet header on.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: pointer and length describe `frame`.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot send on {}", self.device));
        }
        Ok(())
    }

    /// The frames seen since the last call.
    pub fn drain(&self) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.receive()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Waits for a frame for which `which` has an answer.
    pub fn wait_for<T>(&self, what: &str, which: impl Fn(&Frame) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(frame) = self.receive()? {
                if let Some(found) = which(&frame) {
                    return Ok(found);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("waited in vain for {what} on {}", self.device);
            }
            let mut poll = libc::pollfd {
                fd: self.fd.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd, and its count is one.
            unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as libc::c_int) };
        }
    }

    fn receive(&self) -> Result<Option<Frame>> {
        let mut bytes = vec![0u8; 2048];
        // SAFETY: sockaddr_ll is plain data for which all-zero is valid.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut from_len = size_of_val(&from) as libc::socklen_t;
        // SAFETY: buffer and address are writable and their sizes are given.
        let len = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                (&raw mut from).cast(),
                &raw mut from_len,
            )
        };
        let Ok(len) = usize::try_from(len) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error).with_context(|| format!("cannot read from {}", self.device)),
            };
        };
        bytes.truncate(len);
        Ok(Some(Frame {
            outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
            len,
            bytes,
        }))
    }
}
