//! Load processes: one in each namespace that takes part, serving all the time and running client
//! cells on command. Commands and answers are lines of JSON on the process's standard streams.
//!
//! They are processes and not threads, as two containers are: a switch between them costs an address
//! space too. An idle one is blocked in accept(2) and read(2) and costs nothing.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{self, sockopt};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::load::{self, Kind, PORT, Sample};
use super::udp::{self, Received, Sent, Sink};
use crate::lab::netns::Ns;
use crate::lab::process::Running;

/// First argument (after `bench`) of a process that is a worker.
pub const VERB: &str = "worker";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    /// Pin the process, server and client, to one CPU.
    Place { cpu: usize },
    /// Run one cell as the client.
    Run {
        kind: Kind,
        to: SocketAddr,
        millis: u64,
    },
    /// Count packets of this run from now on.
    Expect { run: u64 },
    /// Send packets of a run.
    Flood {
        to: SocketAddr,
        run: u64,
        millis: u64,
    },
    /// Say what has arrived of that many packets, when no more will.
    Drain { sent: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ready,
    Done(Sample),
    Sent(Sent),
    Received(Received),
    Failed(String),
}

/// A load process, from the outside. It ends when this value is dropped.
pub struct Worker {
    host: String,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _process: Running,
}

impl Worker {
    /// Starts one in a namespace; it serves on [`PORT`] when this returns.
    pub fn start(ns: &Ns) -> Result<Self> {
        let exe = std::env::current_exe().context("cannot find the running program")?;
        let mut command = ns.command(exe);
        command
            .args(["bench", VERB])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Running::start(&mut command)?;
        let stdin = process
            .child()
            .stdin
            .take()
            .context("a worker has no standard input")?;
        let stdout = process
            .child()
            .stdout
            .take()
            .context("a worker has no standard output")?;
        let host = ns.name().to_owned();
        let mut worker = Self {
            host,
            stdin,
            stdout: BufReader::new(stdout),
            _process: process,
        };
        worker.answer()?;
        Ok(worker)
    }

    /// Pins it to a CPU.
    pub fn place(&mut self, cpu: usize) -> Result<()> {
        self.ask(&Command::Place { cpu }).map(drop)
    }

    /// Has it count the packets of `run` that arrive from now on.
    pub fn expect(&mut self, run: u64) -> Result<()> {
        self.ask(&Command::Expect { run }).map(drop)
    }

    /// Has it send packets of `run`; `Err` when the path refuses them.
    pub fn flood(&mut self, to: SocketAddr, run: u64, length: Duration) -> Result<Sent> {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        match self.ask(&Command::Flood { to, run, millis })? {
            Answer::Sent(sent) => Ok(sent),
            other => Err(self.unexpected(&other)),
        }
    }

    /// What has arrived of `sent` packets of the run that it was told to expect.
    pub fn drained(&mut self, sent: u64) -> Result<Received> {
        match self.ask(&Command::Drain { sent })? {
            Answer::Received(received) => Ok(received),
            other => Err(self.unexpected(&other)),
        }
    }

    fn unexpected(&self, answer: &Answer) -> anyhow::Error {
        anyhow!("the load process in {} answered {answer:?}", self.host)
    }

    /// Runs a cell; `Err` when the path does not carry the load.
    pub fn run(&mut self, kind: Kind, to: SocketAddr, length: Duration) -> Result<Sample> {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        match self.ask(&Command::Run { kind, to, millis })? {
            Answer::Done(sample) => Ok(sample),
            other => Err(self.unexpected(&other)),
        }
    }

    fn ask(&mut self, command: &Command) -> Result<Answer> {
        serde_json::to_writer(&mut self.stdin, command)?;
        self.stdin.write_all(b"\n")?;
        self.stdin.flush()?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the load process in {} ended", self.host);
        }
        match serde_json::from_str(&line)? {
            Answer::Failed(why) => Err(anyhow!("{}: {why}", self.host)),
            answer => Ok(answer),
        }
    }
}

/// The life of a worker process: serve, obey, end with the standard input.
pub fn main() -> Result<()> {
    // Whatever becomes of the bench, its load must not go on.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let sink = serve_all().context("cannot serve")?;
    let mut stdout = io::stdout().lock();
    say(&mut stdout, &Answer::Ready)?;
    for line in io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Command::Place { cpu } => match place(cpu) {
                Ok(()) => Answer::Ready,
                Err(e) => Answer::Failed(format!("cannot run on CPU {cpu}: {e}")),
            },
            Command::Run { kind, to, millis } => {
                match load::run(kind, to, Duration::from_millis(millis)) {
                    Ok(sample) => Answer::Done(sample),
                    Err(e) => Answer::Failed(format!("{} to {to}: {e}", kind.name())),
                }
            }
            Command::Expect { run } => {
                sink.expect(run);
                Answer::Ready
            }
            Command::Flood { to, run, millis } => {
                match udp::flood(to, run, Duration::from_millis(millis)) {
                    Ok(sent) => Answer::Sent(sent),
                    Err(e) => Answer::Failed(format!("packets to {to}: {e}")),
                }
            }
            Command::Drain { sent } => Answer::Received(sink.drained(sent)),
        };
        say(&mut stdout, &answer)?;
    }
    Ok(())
}

fn say(stdout: &mut impl io::Write, answer: &Answer) -> Result<()> {
    serde_json::to_writer(&mut *stdout, answer)?;
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    Ok(())
}

/// TCP echo servers of each family, a UDP one and a sink of both, each with a thread of its own.
fn serve_all() -> Result<Sink> {
    for address in [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
        (Ipv6Addr::UNSPECIFIED, PORT).into(),
    ] {
        let listener = tcp_listener(address)?;
        thread::spawn(move || load::serve(&listener));
    }
    // Takes IPv4 too, as std makes it.
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
    thread::spawn(move || udp_echo(&socket));
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, udp::PORT))?;
    Ok(Sink::start(socket)?)
}

/// A listener of one family alone: std's IPv6 ones take IPv4 too and would collide.
fn tcp_listener(address: SocketAddr) -> Result<TcpListener> {
    let family = if address.is_ipv4() {
        socket::AddressFamily::Inet
    } else {
        socket::AddressFamily::Inet6
    };
    let fd = socket::socket(
        family,
        socket::SockType::Stream,
        socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    socket::bind(fd.as_raw_fd(), &socket::SockaddrStorage::from(address))?;
    socket::listen(&fd, socket::Backlog::new(128)?)?;
    Ok(TcpListener::from(fd))
}

fn udp_echo(socket: &UdpSocket) {
    let mut bytes = [0_u8; 64];
    while let Ok((n, from)) = socket.recv_from(&mut bytes) {
        let _ = socket.send_to(&bytes[..n], from);
    }
}

/// Pins every thread of this process.
fn place(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    for entry in fs::read_dir("/proc/self/task")? {
        if let Some(tid) = entry?.file_name().to_str().and_then(|t| t.parse().ok()) {
            sched_setaffinity(Pid::from_raw(tid), &cpus)?;
        }
    }
    Ok(())
}
