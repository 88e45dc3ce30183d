//! Many short conversations with one remote socket: not one is refused.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use netd_tests::lab::{Host, Lab};

/// Source ports of the endpoint with many conversations.
const PORTS: std::ops::Range<u16> = 10_000..60_000;
/// Source ports of another one: all are taken on the outside, so each has to find another.
const SAME: std::ops::Range<u16> = 30_000..35_000;

/// How long one conversation may take: a refused first packet is sent again after a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects from each port once; a word there and back, then this side closes first.
fn connect_from(host: &Host, ports: std::ops::Range<u16>, to: SocketAddr) -> Result<()> {
    host.ns.enter(|| {
        for port in ports {
            let mut stream =
                short::connect(port, to).with_context(|| format!("from port {port}"))?;
            stream.write_all(b"?")?;
            let mut got = [0];
            stream
                .read_exact(&mut got)
                .with_context(|| format!("port {port}, no answer"))?;
            ensure!(got == *b"!", "port {port} got {got:?}");
        }
        Ok(())
    })
}

/// Sockets as this test needs them: with a port of their own, and many after each other.
mod short {
    use std::io;
    use std::net::{SocketAddr, TcpStream};
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect as connect_fd,
        setsockopt, socket, sockopt,
    };
    use nix::sys::time::{TimeVal, TimeValLike as _};

    /// A connection from a port.
    pub fn connect(port: u16, to: SocketAddr) -> io::Result<TcpStream> {
        let (family, any) = match to {
            SocketAddr::V4(_) => (AddressFamily::Inet, [0; 4].into()),
            SocketAddr::V6(_) => (AddressFamily::Inet6, [0; 16].into()),
        };
        let fd: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let limit = TimeVal::seconds(super::PATIENCE.as_secs().cast_signed());
        setsockopt(&fd, sockopt::SendTimeout, &limit)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &limit)?;
        let from = SocketAddr::new(any, port);
        bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
        connect_fd(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(TcpStream::from(fd))
    }
}

/// Refusals of new flows so far.
fn refused(lab: &Lab) -> Result<u64> {
    let reasons = ["no_port_free", "flow_table_full", "flow_limit", "flow_race"];
    reasons
        .iter()
        .map(|r| lab.node.stat("ep_out", Some(r)))
        .sum()
}

fn fifty_thousand_connections(v6: bool) -> Result<()> {
    let lab = Lab::new("many-tcp")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let to = if v6 {
        lab.outside.v6()
    } else {
        lab.outside.v4()
    };
    let to = SocketAddr::new(to, 9000);
    let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
    let conversations = PORTS.len() + SAME.len();
    std::thread::scope(|scope| -> Result<()> {
        let server = scope.spawn(|| -> Result<()> {
            for _ in 0..conversations {
                let (mut stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.read_exact(&mut [0])?;
                stream.write_all(b"!")?;
                // The other side closes first, as clients do.
                stream.read_to_end(&mut Vec::new())?;
            }
            Ok(())
        });
        let clients = connect_from(&a, PORTS, to).and_then(|()| connect_from(&b, SAME, to));
        if clients.is_err() {
            // Whatever the server still waits for: it ends with the listener's namespace.
            for _ in 0..conversations {
                if server.is_finished() || lab.outside.tcp_connect(to).is_err() {
                    break;
                }
            }
        }
        let served = server.join().map_err(|_| anyhow!("the server panicked"))?;
        clients.and(served)
    })?;
    assert_eq!(refused(&lab)?, 0);
    Ok(())
}

fn fifty_thousand_datagrams(v6: bool) -> Result<()> {
    let lab = Lab::new("many-udp")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let to = if v6 {
        lab.outside.v6()
    } else {
        lab.outside.v4()
    };
    let to = SocketAddr::new(to, 9000);
    let server = lab.outside.udp_bind(to.ip(), to.port())?;
    server.set_read_timeout(Some(Duration::from_millis(100)))?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let mut word = [0; 2];
                if let Ok((n, from)) = server.recv_from(&mut word) {
                    let _ = server.send_to(word.get(..n).unwrap_or(&[]), from);
                }
            }
        });
        let ask = |host: &Host, ports| ask_from(host, ports, to);
        let asked = ask(&a, PORTS).and_then(|()| ask(&b, SAME));
        over.store(true, Ordering::Relaxed);
        asked
    })?;
    assert_eq!(refused(&lab)?, 0);
    Ok(())
}

/// Asks from each port once; the answer must be the question.
fn ask_from(host: &Host, ports: std::ops::Range<u16>, to: SocketAddr) -> Result<()> {
    let any: std::net::IpAddr = if to.is_ipv4() {
        [0u8; 4].into()
    } else {
        [0u8; 16].into()
    };
    host.ns.enter(|| {
        for port in ports {
            let socket = std::net::UdpSocket::bind((any, port))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            let word = port.to_be_bytes();
            socket.send(&word)?;
            let mut got = [0; 2];
            socket
                .recv(&mut got)
                .with_context(|| format!("port {port}, no answer"))?;
            ensure!(got == word, "port {port} got another's answer");
        }
        Ok(())
    })
}

/// Each with a remote socket of its own family, and five thousand more from ports that are taken.
mod fifty_thousand_short_conversations_are_not_refused {
    #[test]
    fn tcp_v4() -> anyhow::Result<()> {
        super::fifty_thousand_connections(false)
    }

    #[test]
    fn tcp_v6() -> anyhow::Result<()> {
        super::fifty_thousand_connections(true)
    }

    #[test]
    fn udp_v4() -> anyhow::Result<()> {
        super::fifty_thousand_datagrams(false)
    }

    #[test]
    fn udp_v6() -> anyhow::Result<()> {
        super::fifty_thousand_datagrams(true)
    }
}
