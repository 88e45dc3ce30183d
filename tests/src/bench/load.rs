//! The load generator: a blocking TCP echo server and the two clients of netperf, request/response
//! (RR) and connect/request/response (CRR), one byte each way.
//!
//! The server closes a CRR connection first, after one exchange, and the client waits for that: the
//! `TIME_WAIT` socket stays with the server, so the client's ephemeral ports are free again at once.
//! It is the same for every peer.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::socket::{self, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde::{Deserialize, Serialize};

/// Port of the echo server in every namespace: ten thousand ports below it can be published beside it.
pub const PORT: u16 = 15_201;
/// Longest wait for one step of a transaction; a path that is slower than this is broken.
const PATIENCE_S: i64 = 2;
/// Part of a cell that is thrown away first: the route, neighbour and flow entries get warm.
pub const WARM_UP: Duration = Duration::from_millis(50);
/// Bit of a request byte that asks the server to close after the answer.
const CLOSE: u8 = 0x80;
/// After so many failed transactions in one cell the path is given up.
const MAX_FAILURES: u32 = 3;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One-byte requests and answers over one connection, one outstanding.
    Rr,
    /// Connect, one exchange, close; one outstanding.
    Crr,
    /// Small packets one way, as many as go.
    Udp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rr, Self::Crr, Self::Udp];

    /// The name for people; those of TCP are netperf's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "TCP_RR",
            Self::Crr => "TCP_CRR",
            Self::Udp => "UDP",
        }
    }
}

/// What one cell measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Transactions that were completed, or packets that arrived.
    pub transactions: u64,
    /// Time they took, in seconds.
    pub seconds: f64,
    /// How long each took; none of one-way packets.
    pub latency: Option<Latency>,
    /// CPU time for each packet that arrived, on the CPUs of both ends, in nanoseconds; UDP only.
    pub cpu_ns: Option<f64>,
    /// Packets that were sent and did not arrive; UDP only: its sender does not wait for anybody.
    pub lost: u64,
    /// Transactions that failed (timed out, refused, wrong answer); packets with a wrong content.
    pub failures: u32,
}

/// How long transactions took, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the unit is part of the name, also in JSON"
)]
pub struct Latency {
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Longest.
    pub max_us: f64,
}

impl Sample {
    /// Transactions per second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let n = self.transactions as f64;
        if self.seconds > 0.0 {
            n / self.seconds
        } else {
            0.0
        }
    }
}

/// Serves one connection after the other until the process ends.
pub fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = match listener.accept() {
            Ok(connection) => connection,
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(e) => return Err(e),
        };
        // A client that vanished ends its own connection only.
        let _ = echo(stream);
    }
}

/// Answers each byte with the same byte, until the client or a byte with [`CLOSE`] ends it.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0_u8];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
        if byte[0] & CLOSE != 0 {
            break;
        }
    }
    Ok(())
}

/// Connects with all time-outs set, so that a dead path ends in an error and not in a hang.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => socket::AddressFamily::Inet,
        SocketAddr::V6(_) => socket::AddressFamily::Inet6,
    };
    let fd: OwnedFd = socket::socket(
        family,
        socket::SockType::Stream,
        socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let patience = TimeVal::seconds(PATIENCE_S);
    // connect(2) keeps to the send time-out.
    socket::setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    socket::setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
    socket::setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    socket::connect(fd.as_raw_fd(), &socket::SockaddrStorage::from(to))?;
    Ok(TcpStream::from(fd))
}

/// One request and its answer.
fn exchange(stream: &mut TcpStream, byte: u8) -> io::Result<()> {
    let mut answer = [0_u8];
    stream.write_all(&[byte])?;
    stream.read_exact(&mut answer)?;
    if answer[0] == byte {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "wrong answer"))
    }
}

/// Connect, exchange one byte, wait for the server's close, close.
fn connect_and_exchange(to: SocketAddr, byte: u8) -> io::Result<()> {
    let mut stream = connect(to)?;
    exchange(&mut stream, byte | CLOSE)?;
    match stream.read(&mut [0_u8])? {
        0 => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more than one answer",
        )),
    }
}

/// Runs one cell as the client: `kind` against `to` for `length`.
///
/// An error means the path carries nothing at all; single failed transactions are counted.
pub fn run(kind: Kind, to: SocketAddr, length: Duration) -> io::Result<Sample> {
    let mut cell = Cell::new();
    match kind {
        Kind::Rr => {
            let mut stream = connect(to)?;
            cell.repeat(WARM_UP, |n| exchange(&mut stream, n))?;
            cell = Cell::new();
            cell.repeat(length, |n| exchange(&mut stream, n))?;
        }
        Kind::Crr => {
            cell.repeat(WARM_UP, |n| connect_and_exchange(to, n))?;
            cell = Cell::new();
            cell.repeat(length, |n| connect_and_exchange(to, n))?;
        }
        Kind::Udp => {
            let why = "packets one way take two ends: see udp.rs";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    }
    Ok(cell.sample())
}

/// Latencies in nanoseconds and failures of one cell.
struct Cell {
    latencies: Histogram<u64>,
    elapsed: Duration,
    failures: u32,
}

impl Cell {
    fn new() -> Self {
        // Three digits: steps of 8 ns at 16 us.
        let latencies = Histogram::new_with_bounds(1, 10_000_000_000, 3);
        #[expect(clippy::expect_used, reason = "constant bounds that the type accepts")]
        let latencies = latencies.expect("histogram bounds are valid");
        Self {
            latencies,
            elapsed: Duration::ZERO,
            failures: 0,
        }
    }

    /// Repeats `transaction` (called with a running number of 7 bits) for `length`.
    fn repeat<F>(&mut self, length: Duration, mut transaction: F) -> io::Result<()>
    where
        F: FnMut(u8) -> io::Result<()>,
    {
        let start = Instant::now();
        let mut before = start;
        let mut number = 0_u8;
        while before - start < length {
            let result = transaction(number);
            let now = Instant::now();
            number = (number + 1) & !CLOSE;
            match result {
                Ok(()) => {
                    let ns = u64::try_from((now - before).as_nanos()).unwrap_or(u64::MAX);
                    self.latencies.saturating_record(ns);
                }
                Err(e) => {
                    self.failures += 1;
                    if self.failures >= MAX_FAILURES {
                        return Err(e);
                    }
                }
            }
            before = now;
        }
        self.elapsed = before - start;
        Ok(())
    }

    fn sample(&self) -> Sample {
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one cell")]
        let us = |ns: u64| ns as f64 / 1000.0;
        Sample {
            transactions: self.latencies.len(),
            seconds: self.elapsed.as_secs_f64(),
            latency: Some(Latency {
                p50_us: us(self.latencies.value_at_quantile(0.50)),
                p99_us: us(self.latencies.value_at_quantile(0.99)),
                max_us: us(self.latencies.max()),
            }),
            cpu_ns: None,
            lost: 0,
            failures: self.failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&listener));
        address
    }

    #[test]
    fn both_clients_complete_transactions_against_the_server() {
        let to = server();
        for kind in [Kind::Rr, Kind::Crr] {
            let sample = run(kind, to, Duration::from_millis(30)).unwrap();
            assert!(sample.transactions > 10, "{kind:?}: {sample:?}");
            assert_eq!(sample.failures, 0);
            let latency = sample.latency.unwrap();
            assert!(0.0 < latency.p50_us && latency.p50_us <= latency.p99_us);
            assert!(latency.p99_us <= latency.max_us && sample.rate() > 0.0);
        }
    }

    #[test]
    fn the_server_closes_a_crr_connection_first() {
        let mut stream = connect(server()).unwrap();
        exchange(&mut stream, 1 | CLOSE).unwrap();
        assert_eq!(stream.read(&mut [0_u8]).unwrap(), 0);
    }

    #[test]
    fn a_dead_path_is_an_error_and_not_a_figure() {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(run(Kind::Rr, free, Duration::from_millis(30)).is_err());
        assert!(run(Kind::Crr, free, Duration::from_millis(30)).is_err());
    }

    #[test]
    fn wrong_answers_are_failures() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut byte = [0_u8];
                while stream.read(&mut byte).unwrap_or(0) == 1 {
                    let _ = stream.write_all(&[!byte[0]]);
                }
            }
        });
        assert!(run(Kind::Rr, to, Duration::from_millis(30)).is_err());
    }
}
