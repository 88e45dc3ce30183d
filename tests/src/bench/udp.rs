//! Small UDP packets one way: a sender that does nothing else, and a sink that counts what arrives.
//!
//! Both take many packets with one system call (sendmmsg(2), recvmmsg(2)), so that the network and
//! not the tool is what limits them. The sink must not be woken by each packet, which costs more than
//! the packet does: when it has taken all there is it pauses, and it runs under `SCHED_BATCH`, so that
//! on one CPU its turn comes when the sender's time slice ends. Its buffer holds what comes meanwhile.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::load::Sample;

/// Port of the sink in every namespace.
pub const PORT: u16 = super::load::PORT + 1;
/// Bytes of a payload: over IPv4 it makes the shortest Ethernet frame there is.
const PAYLOAD: usize = 18;
/// What a payload ends with; it begins with the number of its run.
const TAG: [u8; 10] = *b"netd-bench";
/// Packets of one system call.
const BURST: usize = 64;
/// Bytes the sink's buffer may take (the kernel doubles it): more than a time slice's packets.
const BUFFER: usize = 32 << 20;
/// What the sink leaves to gather before it looks again.
const PAUSE: Duration = Duration::from_micros(200);
/// When nothing has come for so long, nothing will come any more.
const QUIET: Duration = Duration::from_millis(100);
/// After so many refused bursts the path is given up.
const MAX_FAILURES: u32 = 3;

/// What a sender did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Packets the kernel took.
    pub packets: u64,
    /// When it began, on the clock all processes share (`CLOCK_MONOTONIC`), in nanoseconds.
    pub start_ns: u64,
}

/// What a sink got of one run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Received {
    /// Packets of the run.
    pub packets: u64,
    /// Packets that are nobody's: another length or another content.
    pub wrong: u32,
    /// When the last one was taken, on the clock of [`Sent::start_ns`].
    pub last_ns: u64,
}

fn now_ns() -> io::Result<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

fn payload(run: u64) -> [u8; PAYLOAD] {
    let mut bytes = [0; PAYLOAD];
    bytes[..8].copy_from_slice(&run.to_le_bytes());
    bytes[8..].copy_from_slice(&TAG);
    bytes
}

/// The number of the run a payload belongs to; `None`: it is none of ours.
fn run_of(bytes: &[u8]) -> Option<u64> {
    let (run, tag) = bytes.split_first_chunk::<8>()?;
    (tag == TAG).then(|| u64::from_le_bytes(*run))
}

/// Buffers of a burst, and the headers that point to them.
struct Burst {
    // Never resized: `vectors` points into it, and `headers` into `vectors`.
    buffers: Vec<[u8; PAYLOAD + 1]>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Burst {
    /// Each buffer filled with `fill`, `length` bytes of it in use.
    fn new(fill: &[u8], length: usize) -> Self {
        let mut buffer = [0; PAYLOAD + 1];
        buffer[..fill.len()].copy_from_slice(fill);
        let mut buffers = vec![buffer; BURST];
        let mut vectors: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|b| libc::iovec {
                iov_base: b.as_mut_ptr().cast(),
                iov_len: length.min(b.len()),
            })
            .collect();
        let headers = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: a header is plain data; all zero is one without address and control data.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self {
            buffers,
            vectors,
            headers,
        }
    }

    fn count(&self) -> libc::c_uint {
        self.vectors.len() as libc::c_uint
    }

    /// Sends all; says how many the kernel took.
    fn send(&mut self, socket: RawFd) -> io::Result<usize> {
        let count = self.count();
        // SAFETY: `count` headers, each pointing to one vector, each to a buffer that lives as long.
        let sent = unsafe { libc::sendmmsg(socket, self.headers.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Waits for one packet and takes those that are there with it; says how many.
    fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        let (count, flags) = (self.count(), libc::MSG_WAITFORONE);
        let no_limit = std::ptr::null_mut();
        // SAFETY: as in `send`; nothing else refers to the buffers while the kernel writes to them.
        let got =
            unsafe { libc::recvmmsg(socket, self.headers.as_mut_ptr(), count, flags, no_limit) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// The first `count` packets received.
    fn packets(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let both = self.headers.iter().zip(&self.buffers).take(count);
        both.map(|(h, b)| b.get(..h.msg_len as usize).unwrap_or_default())
    }
}

/// Sends packets of `run` as fast as it can for `length`.
///
/// An error means that the kernel takes none; what becomes of the others shows where they should arrive.
pub fn flood(to: SocketAddr, run: u64, length: Duration) -> io::Result<Sent> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let mut burst = Burst::new(&payload(run), PAYLOAD);
    let start_ns = now_ns()?;
    let start = Instant::now();
    let (mut packets, mut failures) = (0, 0);
    while start.elapsed() < length {
        match burst.send(socket.as_raw_fd()) {
            Ok(sent) => packets += sent as u64,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                failures += 1;
                if failures >= MAX_FAILURES {
                    return Err(e);
                }
            }
        }
    }
    Ok(Sent { packets, start_ns })
}

/// What a run amounts to, for which the CPUs of both ends were at `work` for so long.
///
/// An error means that the path carries nothing, or more than was sent.
pub fn sample(sent: Sent, received: Received, work: Duration) -> Result<Sample> {
    ensure!(
        (1..=sent.packets).contains(&received.packets),
        "{} packets arrived of {} that were sent",
        received.packets,
        sent.packets
    );
    #[expect(clippy::cast_precision_loss, reason = "packets of one cell")]
    let packets = received.packets as f64;
    let took = Duration::from_nanos(received.last_ns.saturating_sub(sent.start_ns));
    Ok(Sample {
        transactions: received.packets,
        seconds: took.as_secs_f64(),
        latency: None,
        cpu_ns: Some(work.as_secs_f64() * 1e9 / packets),
        lost: sent.packets - received.packets,
        failures: received.wrong,
    })
}

/// Counts what arrives, on a thread of its own.
#[derive(Clone)]
pub struct Sink(Arc<Mutex<Count>>);

struct Count {
    run: u64,
    received: Received,
    at: Instant,
}

impl Sink {
    /// Counts the packets that a socket gets, until the process ends.
    pub fn start(socket: UdpSocket) -> io::Result<Self> {
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        Ok(Self::on(socket))
    }

    /// The same with the buffer the socket has.
    fn on(socket: UdpSocket) -> Self {
        let sink = Self(Arc::new(Mutex::new(Count {
            run: 0,
            received: Received::default(),
            at: Instant::now(),
        })));
        let own = sink.clone();
        thread::spawn(move || own.count(&socket));
        sink
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, socket: &UdpSocket) -> io::Result<()> {
        let batch = libc::sched_param { sched_priority: 0 };
        // SAFETY: of this thread, with a parameter that lives until the call returns. Where it is
        // refused the sink runs like any other thread.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const batch) };
        // One byte more than a packet of ours has: a longer one is not taken for one.
        let mut burst = Burst::new(&[], PAYLOAD + 1);
        loop {
            let got = match burst.receive(socket.as_raw_fd()) {
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let last_ns = now_ns()?;
            let mut count = self.lock();
            for packet in burst.packets(got) {
                match run_of(packet) {
                    Some(run) if run == count.run => count.received.packets += 1,
                    // Late, of another run.
                    Some(_) => continue,
                    None => count.received.wrong += 1,
                }
                count.received.last_ns = last_ns;
            }
            count.at = Instant::now();
            drop(count);
            if got < BURST {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Counts packets of `run` from now on.
    pub fn expect(&self, run: u64) {
        let mut count = self.lock();
        count.run = run;
        count.received = Received::default();
        count.at = Instant::now();
    }

    /// What has come of a run of `sent` packets, once all are there or no more come.
    pub fn drained(&self, sent: u64) -> Received {
        let asked = Instant::now();
        loop {
            let count = self.lock();
            let quiet = count.at.max(asked).elapsed() > QUIET;
            if count.received.packets >= sent || quiet {
                return count.received;
            }
            drop(count);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink() -> (Sink, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        // Host tests have no right to a larger buffer.
        (Sink::on(socket), to)
    }

    #[test]
    fn what_is_sent_is_counted_and_no_more() {
        let (sink, to) = sink();
        sink.expect(7);
        let sent = flood(to, 7, Duration::from_millis(5)).unwrap();
        let got = sink.drained(sent.packets);
        assert!(
            0 < got.packets && got.packets <= sent.packets,
            "{got:?} of {sent:?}"
        );
        assert_eq!(got.wrong, 0);
        assert!(got.last_ns > sent.start_ns);
    }

    #[test]
    fn packets_of_another_run_do_not_count_and_foreign_ones_are_wrong() {
        let (sink, to) = sink();
        sink.expect(2);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut longer = payload(2).to_vec();
        longer.push(0);
        for bytes in [
            &payload(1)[..],
            &payload(2)[..17],
            &longer,
            b"x",
            &payload(2),
        ] {
            socket.send_to(bytes, to).unwrap();
        }
        let got = sink.drained(1);
        assert_eq!((got.packets, got.wrong), (1, 3));
    }

    #[test]
    fn a_run_of_which_nothing_comes_ends() {
        let (sink, _) = sink();
        sink.expect(1);
        assert_eq!(sink.drained(10).packets, 0);
    }

    #[test]
    fn a_path_that_carries_nothing_or_more_than_was_sent_is_an_error_and_not_a_figure() {
        let sent = Sent {
            packets: 10,
            start_ns: 1_000_000_000,
        };
        let of = |packets| {
            let received = Received {
                packets,
                wrong: 0,
                last_ns: 3_000_000_000,
            };
            sample(sent, received, Duration::from_micros(16))
        };
        assert!(of(0).is_err() && of(11).is_err());
        let eight = of(8).unwrap();
        assert_eq!((eight.transactions, eight.lost), (8, 2));
        assert!((eight.rate() - 4.0).abs() < 1e-9);
        assert!((eight.cpu_ns.unwrap() - 2000.0).abs() < 1e-9);
    }
}
