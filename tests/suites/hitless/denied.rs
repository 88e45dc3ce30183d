//! What must not pass, sent all the time: whoever it is for counts what comes all the same.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Between two datagrams.
const PAUSE: Duration = Duration::from_millis(1);

/// Sends datagrams that are denied until `stop`, and counts them.
pub fn send(from: &UdpSocket, to: SocketAddr, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        match from.send_to(b"denied", to) {
            // Whoever drops it may say so.
            Err(e)
                if e.kind() == ErrorKind::HostUnreachable
                    || e.kind() == ErrorKind::ConnectionRefused => {}
            done => drop(done.context("a denied datagram")?),
        }
        sent.fetch_add(1, Ordering::Release);
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// How many of them have come.
pub fn leaked(at: &UdpSocket) -> Result<u64> {
    at.set_nonblocking(true)?;
    let mut count = 0;
    let mut buffer = [0; 64];
    while at.recv_from(&mut buffer).is_ok() {
        count += 1;
    }
    Ok(count)
}
