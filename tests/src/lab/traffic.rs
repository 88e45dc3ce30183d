//! Traffic by real tools: ping, socat. Servers answer with the source they saw.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::host::Host;
use super::process::{self, Running};
use super::wait;

/// How long a client waits for an answer that is expected.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a client waits for an answer that must not come.
const SILENCE: Duration = Duration::from_secs(1);

/// Transport protocol of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Proto {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// `tcp` or `udp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A server that answers every question with the source it came from, IPv4 and IPv6.
#[derive(Debug)]
pub struct SourceServer {
    _running: Vec<Running>,
}

impl Host {
    /// Pings once.
    pub fn ping(&self, to: IpAddr) -> Result<()> {
        self.ping_with(to, &["-c", "1", "-W", "5"])
    }

    /// Pings with options of one's own.
    pub fn ping_with(&self, to: IpAddr, options: &[&str]) -> Result<()> {
        let family = if to.is_ipv4() { "-4" } else { "-6" };
        let to = to.to_string();
        let mut command = self.command("ping");
        command.arg(family).args(options).arg(&to);
        process::run(&mut command)?
            .success()
            .map(drop)
            .with_context(|| format!("{} cannot ping {to}", self.name))
    }

    /// Succeeds if nothing answers a ping.
    pub fn ping_fails(&self, to: IpAddr) -> Result<()> {
        if self
            .ping_with(to, &["-c", "2", "-i", "0.2", "-W", "1"])
            .is_ok()
        {
            bail!("{} reached {to}, but must not", self.name);
        }
        Ok(())
    }

    /// Starts a server that tells each client which source it saw.
    pub fn serve_source(&self, proto: Proto, port: u16) -> Result<SourceServer> {
        let four = self.serve(proto, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?;
        let six = self.serve(proto, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))?;
        Ok(SourceServer {
            _running: vec![four, six],
        })
    }

    /// The same on one address. A UDP server of a host with several addresses needs that: bound to
    /// none, it answers from whichever its routes prefer.
    pub fn serve_source_at(&self, proto: Proto, at: SocketAddr) -> Result<SourceServer> {
        Ok(SourceServer {
            _running: vec![self.serve(proto, at)?],
        })
    }

    fn serve(&self, proto: Proto, at: SocketAddr) -> Result<Running> {
        let (port, v6) = (at.port(), at.is_ipv6());
        let (family, addr, only) = match at.ip() {
            IpAddr::V4(addr) => ('4', addr.to_string(), ""),
            IpAddr::V6(addr) => ('6', format!("[{addr}]"), ",ipv6only=1"),
        };
        let listen = match proto {
            Proto::Tcp => format!("TCP{family}-LISTEN:{port},bind={addr},reuseaddr,fork{only}"),
            Proto::Udp => format!("UDP{family}-RECVFROM:{port},bind={addr},reuseaddr,fork{only}"),
        };
        let answer = "SYSTEM:read q; echo $SOCAT_PEERADDR $SOCAT_PEERPORT $q";
        let mut command = self.command("socat");
        command
            // Left alone, socat gives the shell half a second after a UDP question: too little on a
            // loaded or emulated machine.
            .args(["-t", "10", listen.as_str(), answer])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut running = Running::start(&mut command)?;
        wait::until(
            &format!("a {} server on port {port} of {}", proto.name(), self.name),
            || {
                if let Some(status) = running.ended()? {
                    bail!(
                        "`{}` on {} ended: {status}",
                        process::show(&command),
                        self.name
                    );
                }
                Ok(self.listens(proto, port, v6)?.then_some(()))
            },
        )?;
        Ok(running)
    }

    /// Asks a [`SourceServer`]; the source it saw.
    pub fn ask_source(&self, proto: Proto, to: SocketAddr) -> Result<SocketAddr> {
        self.ask_source_from(proto, to, None, ANSWER)
    }

    /// Asks a [`SourceServer`] from a source port of one's own choice.
    pub fn ask_source_from_port(
        &self,
        proto: Proto,
        to: SocketAddr,
        port: u16,
    ) -> Result<SocketAddr> {
        self.ask_source_from(proto, to, Some(port), ANSWER)
    }

    /// Asks a [`SourceServer`] from a socket of one's own choice.
    pub fn ask_source_bound(
        &self,
        proto: Proto,
        to: SocketAddr,
        from: SocketAddr,
    ) -> Result<SocketAddr> {
        self.ask_source_with(proto, to, &format!(",bind={from},reuseaddr"), ANSWER)
    }

    /// Succeeds if no [`SourceServer`] answers.
    pub fn ask_source_fails(&self, proto: Proto, to: SocketAddr) -> Result<()> {
        match self.ask_source_from(proto, to, None, SILENCE) {
            Ok(seen) => bail!(
                "{} reached {to}/{} (seen as {seen}), but must not",
                self.name,
                proto.name()
            ),
            Err(_) => Ok(()),
        }
    }

    fn ask_source_from(
        &self,
        proto: Proto,
        to: SocketAddr,
        port: Option<u16>,
        patience: Duration,
    ) -> Result<SocketAddr> {
        let options = port.map(|p| format!(",sourceport={p},reuseaddr"));
        self.ask_source_with(proto, to, &options.unwrap_or_default(), patience)
    }

    fn ask_source_with(
        &self,
        proto: Proto,
        to: SocketAddr,
        options: &str,
        patience: Duration,
    ) -> Result<SocketAddr> {
        let family = if to.is_ipv4() { '4' } else { '6' };
        let address = match proto {
            Proto::Tcp => format!("TCP{family}:{to},connect-timeout=10{options}"),
            Proto::Udp => format!("UDP{family}:{to}{options}"),
        };
        let question = "netd";
        let answer = process::ask(
            self.command("socat").args(["-", &address]),
            question,
            patience,
        )
        .with_context(|| format!("from {}", self.name))?;
        let seen: Vec<&str> = answer.split_whitespace().collect();
        match seen.as_slice() {
            [addr, port, echoed] if *echoed == question => {
                let addr: IpAddr = match addr.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
                    Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::from)?,
                    None => addr.parse()?,
                };
                Ok(SocketAddr::new(addr, port.parse()?))
            }
            _ => bail!("{to} answered {answer:?}, which is not a source"),
        }
    }

    /// Serves on `server`, asks from here over IPv4; the source it saw.
    pub fn tcp_source_seen_by(&self, server: &Host, port: u16) -> Result<SocketAddr> {
        self.source_seen_by(Proto::Tcp, server, server.v4(), port)
    }

    /// Serves on `server`, asks `addr` from here; the source it saw.
    pub fn source_seen_by(
        &self,
        proto: Proto,
        server: &Host,
        addr: IpAddr,
        port: u16,
    ) -> Result<SocketAddr> {
        let to = SocketAddr::new(addr, port);
        let _server = server.serve_source_at(proto, to)?;
        self.ask_source(proto, to)
    }

    /// Whether something on this host has a listening (TCP) or unconnected (UDP) socket on a port.
    pub fn listens(&self, proto: Proto, port: u16, v6: bool) -> Result<bool> {
        // Not /proc/net: that is the main thread's namespace.
        let path = format!(
            "/proc/thread-self/net/{}{}",
            proto.name(),
            if v6 { "6" } else { "" }
        );
        let table = self.proc_read(&path)?;
        let state = match proto {
            Proto::Tcp => "0A",
            Proto::Udp => "07",
        };
        let port = format!(":{port:04X}");
        Ok(table.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&port))
                && fields.nth(1) == Some(state)
        }))
    }
}
