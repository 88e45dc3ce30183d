//! Numbered datagrams both ways, and how many of them were lost. The senders are paced and bounded by what
//! has arrived, so that whatever is lost was lost on the way: not in a full buffer, however slow the machine is.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};

/// Datagrams on their way, of one direction: together less than the 1000 packets that wait for a CPU at most
/// (`net.core.netdev_max_backlog`).
const WINDOW: u64 = 48;
/// Between two rounds of sending and receiving: the machine is to spend its time on packets.
const ROUND: Duration = Duration::from_millis(4);
/// Room of a socket for what it has received: a thousand windows.
const BUFFER: usize = 32 << 20;
/// A sender whose window stays full for so long lets one more go: all of it may be lost.
const STUCK: Duration = Duration::from_millis(200);
/// After the end what has not come for so long will not come.
const LATE: Duration = Duration::from_secs(5);

/// One direction of a conversation.
#[derive(Default)]
struct Lane {
    sent: AtomicU64,
    /// One more than the highest number that has arrived.
    high: AtomicU64,
    done: AtomicBool,
}

/// Two sockets and the way between them.
pub struct Talk {
    name: String,
    ends: [UdpSocket; 2],
    /// Where the first sends to; the second answers whoever that turns out to be.
    to: SocketAddr,
    /// Bytes of a datagram.
    len: usize,
    /// Datagrams a second, each way.
    rate: u64,
}

/// What became of one direction.
pub struct Account {
    /// Which one.
    pub name: String,
    /// Datagrams sent.
    pub sent: u64,
    /// How many of them did not arrive.
    pub lost: u64,
    /// The first of those; shown when there is one.
    first: Option<u64>,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            sent,
            lost,
            first,
        } = self;
        write!(f, "{name}: {lost} of {sent}, the first is number {first:?}")
    }
}

/// Which numbers have come.
#[derive(Default)]
struct Seen {
    bits: Vec<u64>,
    count: u64,
}

impl Seen {
    /// Notes one; false: it had come before.
    fn note(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        self.count += u64::from(new);
        new
    }

    fn first_missing(&self, of: u64) -> Option<u64> {
        let has = |n: u64| {
            let word = self.bits.get((n / 64) as usize);
            word.is_some_and(|w| w & (1 << (n % 64)) != 0)
        };
        (0..of).find(|n| !has(*n))
    }
}

impl Talk {
    /// A conversation that `from` begins with `to`, which is how it calls the socket `with`.
    pub fn new(
        name: &str,
        from: UdpSocket,
        with: UdpSocket,
        to: SocketAddr,
        (len, rate): (usize, u64),
    ) -> Result<Self> {
        for socket in [&from, &with] {
            setsockopt(socket, sockopt::RcvBufForce, &BUFFER).context("SO_RCVBUFFORCE")?;
            setsockopt(socket, sockopt::SndBufForce, &BUFFER).context("SO_SNDBUFFORCE")?;
            socket.set_nonblocking(true)?;
        }
        Ok(Self {
            name: name.to_owned(),
            ends: [from, with],
            to,
            len,
            rate,
        })
    }
}

/// One end of a conversation.
struct End<'a> {
    socket: &'a UdpSocket,
    peer: Option<SocketAddr>,
    mine: &'a Lane,
    theirs: &'a Lane,
    len: usize,
    rate: u64,
}

impl End<'_> {
    /// Sends and receives until `stop`, then receives what is still to come; what came.
    fn run(mut self, stop: &AtomicBool) -> Result<Seen> {
        let begin = Instant::now();
        let mut last = begin;
        let mut pushed = begin;
        let mut seen = Seen::default();
        let (mut buffer, out) = (vec![0; self.len + 1], vec![0x6e; self.len]);
        loop {
            if self.receive(&mut buffer, &mut seen)? {
                last = Instant::now();
            }
            if stop.load(Ordering::Relaxed) {
                self.mine.done.store(true, Ordering::Release);
                let all = self.theirs.done.load(Ordering::Acquire)
                    && seen.count == self.theirs.sent.load(Ordering::Acquire);
                if all || last.elapsed() > LATE {
                    return Ok(seen);
                }
            } else {
                self.send(&out, begin, &mut pushed)?;
            }
            thread::sleep(ROUND);
        }
    }

    /// Whether anything came.
    fn receive(&mut self, buffer: &mut [u8], seen: &mut Seen) -> Result<bool> {
        let mut any = false;
        loop {
            let (len, from) = match self.socket.recv_from(buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(any),
                got => got.context("cannot receive")?,
            };
            let number = buffer.first_chunk().map(|n| u64::from_be_bytes(*n));
            let number = number
                .filter(|_| len == self.len)
                .with_context(|| format!("{len} bytes came from {from}"))?;
            let peer = *self.peer.get_or_insert(from);
            ensure!(
                peer == from,
                "{number} came from {from}, others from {peer}"
            );
            ensure!(seen.note(number), "{number} came twice");
            self.theirs.high.fetch_max(number + 1, Ordering::Release);
            any = true;
        }
    }

    fn send(&self, out: &[u8], begin: Instant, pushed: &mut Instant) -> Result<()> {
        let Some(peer) = self.peer else { return Ok(()) };
        let due = begin.elapsed().as_micros() as u64 * self.rate / 1_000_000;
        let mut datagram = out.to_vec();
        loop {
            let sent = self.mine.sent.load(Ordering::Relaxed);
            let open = sent.saturating_sub(self.mine.high.load(Ordering::Acquire)) < WINDOW;
            let stuck = !open && pushed.elapsed() > STUCK;
            if sent >= due || !(open || stuck) {
                return Ok(());
            }
            *pushed = Instant::now();
            if let Some(number) = datagram.first_chunk_mut() {
                *number = sent.to_be_bytes();
            }
            match self.socket.send_to(&datagram, peer) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                sent => sent.context("cannot send")?,
            };
            self.mine.sent.store(sent + 1, Ordering::Release);
        }
    }
}

/// Conversations that are under way.
pub struct Running<'scope>(Vec<ScopedJoinHandle<'scope, Result<[Account; 2]>>>);

/// Begins conversations, which go on until `stop`.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    talks: Vec<Talk>,
    stop: &'scope AtomicBool,
) -> Running<'scope> {
    let talk = |talk: Talk| scope.spawn(move || talk.run(stop));
    Running(talks.into_iter().map(talk).collect())
}

impl Running<'_> {
    /// Waits for their end; each direction's account.
    pub fn join(self) -> Result<Vec<Account>> {
        let mut all = Vec::new();
        for talk in self.0 {
            match talk.join() {
                Ok(accounts) => all.extend(accounts?),
                Err(_) => bail!("a conversation panicked"),
            }
        }
        Ok(all)
    }
}

impl Talk {
    fn run(self, stop: &AtomicBool) -> Result<[Account; 2]> {
        let lanes: [Lane; 2] = Default::default();
        let [there, back] = &lanes;
        let [from, with] = &self.ends;
        let end = |socket, peer, mine, theirs| End {
            socket,
            peer,
            mine,
            theirs,
            len: self.len,
            rate: self.rate,
        };
        let (answered, arrived) = thread::scope(|scope| {
            let first = scope.spawn(|| end(from, Some(self.to), there, back).run(stop));
            let second = end(with, None, back, there).run(stop);
            (first.join(), second)
        });
        let answered = answered.map_err(|_| anyhow::anyhow!("an end panicked"))?;
        let account = |name: &str, lane: &Lane, seen: Result<Seen>| -> Result<Account> {
            let name = format!("{} {name}", self.name);
            let seen = seen.with_context(|| name.clone())?;
            let sent = lane.sent.load(Ordering::Acquire);
            Ok(Account {
                lost: sent - seen.count,
                first: seen.first_missing(sent),
                name,
                sent,
            })
        };
        Ok([
            account("there", there, arrived)?,
            account("back", back, answered)?,
        ])
    }
}
