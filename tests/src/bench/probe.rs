//! The first packets of a new endpoint: a UDP exchange in each IP version, as soon as it can happen.
//!
//! The sockets are made in the namespace before it is attached, so that only the network is timed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use super::load::PORT;
use crate::lab::netns::Ns;

/// Unanswered requests are repeated at this interval ...
const REPEAT: Duration = Duration::from_micros(500);
/// ... for this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sockets inside a namespace, one for each address that is to answer.
pub struct Probe(Vec<(UdpSocket, SocketAddr)>);

impl Probe {
    /// Makes the sockets.
    pub fn new(ns: &Ns, servers: &[IpAddr]) -> Result<Self> {
        ns.enter(|| {
            let sockets = servers.iter().map(|server| {
                let any: IpAddr = match server {
                    IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                Ok((UdpSocket::bind((any, 0))?, SocketAddr::new(*server, PORT)))
            });
            Ok(Self(sockets.collect::<io::Result<_>>()?))
        })
    }

    /// Returns when every server has answered.
    pub fn exchange(&self) -> Result<()> {
        for (socket, server) in &self.0 {
            answer(socket, *server)?;
        }
        Ok(())
    }
}

fn answer(socket: &UdpSocket, server: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // No route yet, or an address that may not be used yet, is as good as no answer.
        let sent = socket.send_to(b"?", server);
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if nix::poll::ppoll(&mut ready, Some(TimeSpec::from_duration(REPEAT)), None)? > 0
            && socket.recv_from(&mut [0_u8; 8]).is_ok()
        {
            return Ok(());
        }
        if Instant::now() > deadline {
            let why = sent.err().map(|e| format!(" ({e})")).unwrap_or_default();
            bail!(
                "{server} gave a new endpoint no answer within {} s{why}",
                PATIENCE.as_secs()
            );
        }
    }
}
