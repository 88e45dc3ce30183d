//! All ports in use: a strict network refuses, which the sender is told at once; a balanced one shares ports
//! towards other servers (RFC 4787 REQ-11, RFC 5508 REQ-8, RFC 7857 section 3).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use netd_tests::lab::capture::{Frame, RawSocket};
use netd_tests::lab::{Endpoint, Lab, Network};

use crate::{Side, exchange, talk, two_hosts};

const PORTS: u16 = 4;

/// Servers of both hosts, of both protocols.
struct Servers {
    udp: [UdpSocket; 2],
    tcp: [TcpListener; 2],
    at: [SocketAddr; 2],
}

fn servers(lab: &Lab, side: Side) -> Result<Servers> {
    let at = [side.one, side.two].map(|host| SocketAddr::new(host, 9000));
    let udp = |at: SocketAddr| lab.outside.udp_bind(at.ip(), at.port());
    let tcp = |at: SocketAddr| lab.outside.tcp_listen(at.ip(), at.port());
    Ok(Servers {
        udp: [udp(at[0])?, udp(at[1])?],
        tcp: [tcp(at[0])?, tcp(at[1])?],
        at,
    })
}

/// As many conversations with the first server as there are ports.
struct Full {
    udp: Vec<UdpSocket>,
    tcp: Vec<(TcpStream, TcpStream)>,
}

impl Full {
    fn fill(who: &Endpoint, side: Side, servers: &Servers, first: u16) -> Result<Self> {
        let mut full = Self {
            udp: vec![],
            tcp: vec![],
        };
        let (mut udp, mut tcp) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..PORTS {
            let socket = who.udp_bind(side.any(), 0)?;
            udp.insert(exchange(&socket, &servers.udp[0], servers.at[0], "fill")?.port());
            full.udp.push(socket);
            let client = who.tcp_connect(servers.at[0])?;
            let (server, seen) = servers.tcp[0].accept()?;
            tcp.insert(seen.port());
            full.tcp.push((client, server));
        }
        let all: BTreeSet<u16> = (first..first + PORTS).collect();
        ensure!(udp == all && tcp == all, "UDP {udp:?}, TCP {tcp:?}");
        Ok(full)
    }

    /// Everybody who had a port still has it.
    fn go_on(&self, servers: &Servers) -> Result<()> {
        for socket in &self.udp {
            exchange(socket, &servers.udp[0], servers.at[0], "still here")?;
        }
        for (client, server) in &self.tcp {
            talk(client, server)?;
        }
        Ok(())
    }
}

/// "Prohibited", as the kernel says it of ICMP 3/13 and of ICMPv6 1/1.
fn prohibited(side: Side) -> i32 {
    if side.is_v4() {
        libc::EHOSTUNREACH
    } else {
        libc::EACCES
    }
}

fn errno(e: &anyhow::Error) -> Option<i32> {
    e.downcast_ref::<io::Error>()
        .and_then(io::Error::raw_os_error)
}

/// Further sockets are refused, and their calls end with that: by an ICMP error of the gateway's for each packet
/// they have sent. How many packets that were: a call that still holds its socket when the error comes asks
/// again.
fn is_refused(
    who: &Endpoint,
    network: &Network,
    side: Side,
    to: SocketAddr,
    wire: &RawSocket,
) -> Result<u64> {
    wire.drain()?;
    let wanted = Some(prohibited(side));
    let udp = who.udp_bind(side.any(), 0)?;
    udp.connect(to)?;
    udp.send(b"me too")?;
    let told = udp.recv(&mut [0; 8]).err().context("it was answered")?;
    ensure!(told.raw_os_error() == wanted, "UDP: {told:?}");
    let refused = who.tcp_connect(to).err().context("it is connected")?;
    ensure!(errno(&refused) == wanted, "TCP: {refused:#}");

    let frames = wire.drain()?;
    let packets = frames.iter().filter_map(Frame::packet);
    let asked = packets.filter(|p| p.dst == to.ip() && p.dport == to.port());
    let asked = asked.count();
    let errors: Vec<_> = frames.iter().filter_map(unreachable).collect();
    let error = (
        network.gateway(!side.is_v4())?,
        if side.is_v4() { 13 } else { 1 },
    );
    ensure!(
        asked >= 2 && errors == vec![error; asked],
        "{asked} packets, and {errors:?}"
    );
    Ok(asked as u64)
}

/// Who says "destination unreachable", with which code.
fn unreachable(frame: &Frame) -> Option<(IpAddr, u8)> {
    let packet = frame.packet()?;
    let (kind, header) = if packet.src.is_ipv4() {
        (3, 20)
    } else {
        (1, 40)
    };
    if packet.icmp != Some(kind) {
        return None;
    }
    Some((packet.src, *frame.bytes.get(14 + header + 1)?))
}

fn refusals(lab: &Lab) -> Result<u64> {
    lab.node.stat("ep_out", Some("no_port_free"))
}

#[test]
fn a_strict_network_tells_senders_for_whom_no_port_is_left() -> Result<()> {
    let lab = Lab::new("nat-full-strict")?;
    let options = [
        "--masquerade-profile",
        "strict",
        "--masquerade-ports",
        "20100-20103",
    ];
    let web = lab.network_with("web", &options)?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let wire = b.capture(&b.device)?;
    for side in two_hosts(&lab)? {
        let servers = servers(&lab, side)?;
        let full = Full::fill(&a, side, &servers, 20_100)?;
        let before = refusals(&lab)?;
        let mut refused = 0;
        for to in servers.at {
            refused += is_refused(&b, &web, side, to, &wire)?;
        }
        assert_eq!(refusals(&lab)? - before, refused, "each is counted once");
        full.go_on(&servers)?;
        // Nor is a socket that has a port refused anywhere else.
        let there = servers.at[1];
        exchange(&full.udp[0], &servers.udp[1], there, "elsewhere")?;
    }
    Ok(())
}

#[test]
fn a_balanced_network_shares_ports_towards_other_servers() -> Result<()> {
    let lab = Lab::new("nat-full-balanced")?;
    let web = lab.network_with("web", &["--masquerade-ports", "20200-20203"])?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let wire = b.capture(&b.device)?;
    for side in two_hosts(&lab)? {
        let servers = servers(&lab, side)?;
        let full = Full::fill(&a, side, &servers, 20_200)?;
        // Towards the server that all ports talk to already there is none left.
        let before = refusals(&lab)?;
        let refused = is_refused(&b, &web, side, servers.at[0], &wire)?;
        assert_eq!(refusals(&lab)? - before, refused, "each is counted once");
        // Towards the other one all of them are, once.
        let (mut udp, mut tcp) = (BTreeSet::new(), BTreeSet::new());
        let (mut sockets, mut streams) = (vec![], vec![]);
        for _ in 0..PORTS {
            let socket = b.udp_bind(side.any(), 0)?;
            udp.insert(exchange(&socket, &servers.udp[1], servers.at[1], "shared")?.port());
            sockets.push(socket);
            let client = b.tcp_connect(servers.at[1])?;
            let (server, seen) = servers.tcp[1].accept()?;
            tcp.insert(seen.port());
            streams.push((client, server));
        }
        let all: BTreeSet<u16> = (20_200..20_200 + PORTS).collect();
        ensure!(udp == all && tcp == all, "UDP {udp:?}, TCP {tcp:?}");
        is_refused(&b, &web, side, servers.at[1], &wire)?;
        // Each answer finds the one it is for.
        for (n, socket) in sockets.iter().enumerate() {
            exchange(
                socket,
                &servers.udp[1],
                servers.at[1],
                &format!("socket {n}"),
            )?;
        }
        for (client, server) in &streams {
            talk(client, server)?;
        }
        full.go_on(&servers)?;
    }
    Ok(())
}
