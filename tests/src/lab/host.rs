//! A host of the lab: a namespace with a device and addresses, and the commands and sockets in it.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use super::netns::Ns;
use super::process::{self, Output};
use super::wait::PATIENCE;

/// A namespace that plays a machine or a container.
#[derive(Clone, Debug)]
pub struct Host {
    /// What the lab calls it.
    pub name: String,
    /// Its namespace.
    pub ns: Ns,
    /// Its device towards the others.
    pub device: String,
    /// The cgroup its commands run in.
    pub cgroup: Option<PathBuf>,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Host {
    /// A host with the addresses given, which are set by the caller.
    pub fn new(name: &str, ns: Ns, device: &str, addresses: &[IpAddr]) -> Self {
        let v4 = addresses.iter().find_map(|a| match a {
            IpAddr::V4(a) => Some(*a),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().find_map(|a| match a {
            IpAddr::V6(a) => Some(*a),
            IpAddr::V4(_) => None,
        });
        Self {
            name: name.to_owned(),
            ns,
            device: device.to_owned(),
            cgroup: None,
            v4,
            v6,
        }
    }

    /// Its IPv4 address.
    ///
    /// # Panics
    /// If it has none: the scenario is wrong.
    #[expect(
        clippy::expect_used,
        reason = "a scenario that asks for what it did not build is a bug in the test"
    )]
    pub fn v4(&self) -> IpAddr {
        self.v4.expect("the host has no IPv4 address").into()
    }

    /// Its IPv6 address.
    ///
    /// # Panics
    /// If it has none: the scenario is wrong.
    #[expect(
        clippy::expect_used,
        reason = "a scenario that asks for what it did not build is a bug in the test"
    )]
    pub fn v6(&self) -> IpAddr {
        self.v6.expect("the host has no IPv6 address").into()
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.v4
            .map(IpAddr::from)
            .into_iter()
            .chain(self.v6.map(IpAddr::from))
            .collect()
    }

    /// A command that will run on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.ns.command(program);
        let procs = self.cgroup.as_ref().and_then(|dir| {
            OpenOptions::new()
                .write(true)
                .open(dir.join("cgroup.procs"))
                .ok()
        });
        if let Some(procs) = procs {
            // SAFETY: only write(2) is called between fork and exec: async-signal-safe.
            unsafe {
                command.pre_exec(move || {
                    if libc::write(procs.as_raw_fd(), b"0".as_ptr().cast(), 1) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                    Ok(())
                });
            }
        }
        command
    }

    /// Runs a command on this host to its end.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<Output> {
        process::run(self.command(program).args(args))
    }

    /// Runs a command on this host that must succeed; its standard output.
    pub fn ok(&self, program: &str, args: &[&str]) -> Result<String> {
        self.run(program, args)?
            .success()
            .with_context(|| format!("on {}", self.name))
    }

    /// Runs several `ip` commands.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.ns.ip(lines)
    }

    /// Names of its devices, loopback excepted.
    pub fn devices(&self) -> Result<Vec<String>> {
        let list = self.ok("ip", &["-o", "link", "show"])?;
        let names = list
            .lines()
            .filter_map(|l| l.split(": ").nth(1)?.split('@').next());
        Ok(names.filter(|n| *n != "lo").map(str::to_owned).collect())
    }

    /// A TCP listener of this process, on this host.
    pub fn tcp_listen(&self, addr: impl Into<IpAddr>, port: u16) -> Result<TcpListener> {
        let addr = SocketAddr::new(addr.into(), port);
        self.ns.enter(|| {
            bound(|| TcpListener::bind(addr)).with_context(|| self.at("listen on TCP", addr))
        })
    }

    /// A TCP connection of this process, from this host.
    pub fn tcp_connect(&self, to: SocketAddr) -> Result<TcpStream> {
        self.ns.enter(|| {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)
                .with_context(|| self.at("connect to", to))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        })
    }

    /// The same from a source port of one's own choice.
    pub fn tcp_connect_from(&self, port: u16, to: SocketAddr) -> Result<TcpStream> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        self.tcp_connect_at(SocketAddr::new(any, port), to)
    }

    /// The same from a source address and port of one's own choice.
    pub fn tcp_connect_at(&self, from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
        let stream = self.tcp_bound(from, SockFlag::empty())?;
        // Bounds connect(2) as well.
        stream.set_write_timeout(Some(PATIENCE))?;
        connect(stream.as_raw_fd(), &SockaddrStorage::from(to))
            .with_context(|| self.at("connect to", to))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Begins to connect and does not wait for what comes of it: [`Calling::outcome`] does.
    pub fn tcp_call(&self, from: SocketAddr, to: SocketAddr) -> Result<Calling> {
        let stream = self.tcp_bound(from, SockFlag::SOCK_NONBLOCK)?;
        match connect(stream.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(Calling(stream)),
            Err(e) => Err(e).with_context(|| self.at("connect to", to)),
        }
    }

    fn tcp_bound(&self, from: SocketAddr, flags: SockFlag) -> Result<TcpStream> {
        self.ns.enter(|| {
            let family = match from {
                SocketAddr::V4(_) => AddressFamily::Inet,
                SocketAddr::V6(_) => AddressFamily::Inet6,
            };
            let flags = flags | SockFlag::SOCK_CLOEXEC;
            let fd = socket(family, SockType::Stream, flags, None)?;
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            bind(fd.as_raw_fd(), &SockaddrStorage::from(from))
                .with_context(|| self.at("bind TCP", from))?;
            Ok(TcpStream::from(fd))
        })
    }

    /// A UDP socket of this process, on this host; port 0 is any.
    pub fn udp_bind(&self, addr: impl Into<IpAddr>, port: u16) -> Result<UdpSocket> {
        let addr = SocketAddr::new(addr.into(), port);
        self.ns.enter(|| {
            let socket =
                bound(|| UdpSocket::bind(addr)).with_context(|| self.at("bind UDP", addr))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        })
    }

    /// Reads a file under `/proc` or `/sys/class/net` as this host sees it.
    pub fn proc_read(&self, path: &str) -> Result<String> {
        self.ns.enter(|| {
            fs::read_to_string(path).with_context(|| format!("cannot read {path} on {}", self.name))
        })
    }

    fn at(&self, what: &str, addr: SocketAddr) -> String {
        format!("{} cannot {what} {addr}", self.name)
    }
}

/// A TCP connection that is being asked for.
#[derive(Debug)]
pub struct Calling(TcpStream);

impl Calling {
    /// Whether nobody has said anything yet, neither yes nor no.
    pub fn waits(&self) -> Result<bool> {
        self.told(PollTimeout::ZERO).map(|told| !told)
    }

    /// Waits until somebody has said yes or no.
    pub fn outcome(self) -> Result<io::Result<TcpStream>> {
        if !self.told(PollTimeout::try_from(PATIENCE)?)? {
            bail!("nobody has answered {:?}", self.0);
        }
        if let Some(error) = self.0.take_error()? {
            return Ok(Err(error));
        }
        self.0.set_nonblocking(false)?;
        self.0.set_nodelay(true)?;
        self.0.set_read_timeout(Some(PATIENCE))?;
        Ok(Ok(self.0))
    }

    fn told(&self, patience: PollTimeout) -> Result<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        Ok(poll(&mut fds, patience)? > 0)
    }
}

/// Binds, and tries again for a moment while the port is in use: a process that another thread is
/// just starting holds a copy of every socket, closed ones too, until it executes its program.
fn bound<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match bind() {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}
