//! The profiles of masquerade as sockets on both sides see them (RFC 4787, RFC 5382): which outside port a
//! socket gets, who may come in by it, what happens when there are none left, and that the node's own sockets
//! lose nothing by it. IPv4 and IPv6.

#[path = "nat/filters.rs"]
mod filters;
#[path = "nat/full.rs"]
mod full;
#[path = "nat/hairpin.rs"]
mod hairpin;
#[path = "nat/mapping.rs"]
mod mapping;
#[path = "nat/node.rs"]
mod node;
#[path = "nat/overlap.rs"]
mod overlap;
#[path = "nat/rest.rs"]
mod rest;
#[path = "nat/shadow.rs"]
mod shadow;
#[path = "nat/silence.rs"]
mod silence;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use netd_tests::lab::Lab;

/// Second addresses of the outside host: to the node it is two hosts.
const SECOND: [&str; 2] = ["192.0.2.101", "2001:db8:1::101"];

/// One family's addresses outside.
#[derive(Clone, Copy, Debug)]
struct Side {
    /// The node's, with which masqueraded traffic leaves.
    node: IpAddr,
    /// A host's.
    one: IpAddr,
    /// Another host's.
    two: IpAddr,
}

impl Side {
    /// The wildcard of the family.
    fn any(self) -> IpAddr {
        match self.node {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    fn is_v4(self) -> bool {
        self.node.is_ipv4()
    }
}

/// Makes two hosts of the outside one; IPv4, then IPv6.
fn two_hosts(lab: &Lab) -> Result<[Side; 2]> {
    let [four, six] = SECOND;
    let device = &lab.outside.device;
    lab.outside.ip(&format!(
        "addr add {four}/24 dev {device}\naddr add {six}/64 dev {device} nodad\n"
    ))?;
    Ok([
        Side {
            node: lab.node.v4(),
            one: lab.outside.v4(),
            two: four.parse()?,
        },
        Side {
            node: lab.node.v6(),
            one: lab.outside.v6(),
            two: six.parse()?,
        },
    ])
}

/// `word` from `from` to `to`, where `at` is to get it and nothing else before; whom `at` saw.
fn heard(from: &UdpSocket, to: SocketAddr, at: &UdpSocket, word: &str) -> Result<SocketAddr> {
    from.send_to(word.as_bytes(), to)
        .with_context(|| format!("cannot send {word:?} to {to}"))?;
    let mut got = [0; 64];
    let (len, seen) = at
        .recv_from(&mut got)
        .with_context(|| format!("{word:?} to {to} did not arrive"))?;
    let got = String::from_utf8_lossy(got.get(..len).unwrap_or_default());
    ensure!(got == word, "{got:?} arrived from {seen}, not {word:?}");
    Ok(seen)
}

/// A word from a client to a server, which answers; the client hears that from whom it has called. Whom the
/// server saw.
fn exchange(
    client: &UdpSocket,
    server: &UdpSocket,
    to: SocketAddr,
    word: &str,
) -> Result<SocketAddr> {
    let seen = heard(client, to, server, word)?;
    let answered = heard(server, seen, client, &format!("{word}, too"))?;
    ensure!(answered == to, "{to} was called, {answered} answers");
    Ok(seen)
}

/// A word each way over a connection.
fn talk(a: &TcpStream, b: &TcpStream) -> Result<()> {
    for (mut from, mut to, word) in [(a, b, b"ping"), (b, a, b"pong")] {
        let mut got = [0; 4];
        from.write_all(word)?;
        to.read_exact(&mut got)?;
        ensure!(&got == word, "the other end said {got:?}");
    }
    Ok(())
}
