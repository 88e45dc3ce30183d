//! One outside port for a socket, whoever it talks to (RFC 4787 REQ-1, RFC 5382 REQ-1), of the class and parity
//! of its own (REQ-3a, REQ-4).

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use netd_tests::lab::{Endpoint, Lab};

use crate::{Side, exchange, talk, two_hosts};

/// Ports outside of both classes.
const PORTS: &str = "512-2047";

fn at(lab: &Lab, endpoint: &Endpoint, side: Side, port: u16) -> Result<(u16, u16)> {
    Ok((
        udp(lab, endpoint, side, port)?,
        tcp(lab, endpoint, side, port)?,
    ))
}

/// The one outside port that three servers see of a UDP socket.
fn udp(lab: &Lab, endpoint: &Endpoint, side: Side, port: u16) -> Result<u16> {
    let socket = endpoint.udp_bind(side.any(), port)?;
    let mut ports = Vec::new();
    for (host, port) in [(side.one, 9000), (side.two, 9000), (side.one, 9001)] {
        let to = SocketAddr::new(host, port);
        let server = lab.outside.udp_bind(host, port)?;
        let seen = exchange(&socket, &server, to, "who am I")?;
        ensure!(seen.ip() == side.node, "{to} sees {seen}");
        ports.push(seen.port());
    }
    ensure!(
        ports.iter().all(|p| *p == ports[0]),
        "UDP {port}: {ports:?}"
    );
    Ok(ports[0])
}

/// The same of connections from one port, all open at once.
fn tcp(lab: &Lab, endpoint: &Endpoint, side: Side, port: u16) -> Result<u16> {
    let mut open = Vec::new();
    for (host, serves) in [(side.one, 9000), (side.two, 9000), (side.one, 9001)] {
        let listener = lab.outside.tcp_listen(host, serves)?;
        let client = endpoint.tcp_connect_from(port, SocketAddr::new(host, serves))?;
        let (server, seen) = listener.accept()?;
        ensure!(seen.ip() == side.node, "{host} sees {seen}");
        open.push((client, server, seen.port()));
    }
    for (client, server, seen) in &open {
        ensure!(*seen == open[0].2, "TCP {port}: {open:?}");
        talk(client, server)?;
    }
    Ok(open[0].2)
}

#[test]
fn servers_see_a_socket_with_one_port_of_its_class_and_parity() -> Result<()> {
    let lab = Lab::new("nat-mapping")?;
    let sides = two_hosts(&lab)?;
    for profile in ["strict", "balanced"] {
        let options = ["--masquerade-profile", profile, "--masquerade-ports", PORTS];
        let web = lab.network_with(profile, &options)?;
        let first = lab.endpoint(&format!("{profile}1"), &web)?;
        let second = lab.endpoint(&format!("{profile}2"), &web)?;
        for side in sides {
            // What one profile has used rests, or is still in use, when the other comes.
            let own = if profile == "strict" { 600 } else { 800 };
            for port in [own, own + 1, own + 1000, own + 1001] {
                assert_eq!(at(&lab, &first, side, port)?, (port, port), "{profile}");
                let (over_udp, over_tcp) = at(&lab, &second, side, port)?;
                for other in [over_udp, over_tcp] {
                    ensure!(
                        other != port
                            && other % 2 == port % 2
                            && (other < 1024) == (port < 1024)
                            && (512..2048).contains(&other),
                        "{profile}: {port} became {other}"
                    );
                }
                // Nor does the first one's change when it goes on.
                assert_eq!(udp(&lab, &first, side, port)?, port, "{profile}");
            }
        }
    }
    Ok(())
}
