//! Port shadows (CVE-2021-3773): an endpoint sends to a client from the port of somebody's service, so that the
//! client's next request is taken for an answer to it. Whoever serves, the request is theirs.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use netd_tests::lab::{Endpoint, Lab};

use crate::{Side, exchange, talk, two_hosts};

/// The port the client sends from.
const CLIENT: u16 = 4000;

/// The attacker calls the client from the service's port, by UDP and TCP, and is not seen with that.
fn shadows(lab: &Lab, attacker: &Endpoint, side: Side, service: u16) -> Result<()> {
    let client = SocketAddr::new(side.two, CLIENT);
    let at_client = lab.outside.udp_bind(client.ip(), client.port())?;
    let socket = attacker.udp_bind(side.any(), service)?;
    let seen = exchange(&socket, &at_client, client, "an answer you wait for")?;
    ensure!(
        seen.port() != service,
        "UDP: the attacker is {seen} outside"
    );
    let at_client = lab.outside.tcp_listen(client.ip(), client.port())?;
    let _open = attacker.tcp_connect_from(service, client)?;
    let (_open_too, seen) = at_client.accept()?;
    ensure!(
        seen.port() != service,
        "TCP: the attacker is {seen} outside"
    );
    Ok(())
}

/// The client asks from the port that the attacker has called; `server` is asked, at `inside`.
fn is_asked(
    lab: &Lab,
    server: &netd_tests::lab::Host,
    inside: SocketAddr,
    outside: SocketAddr,
    side: Side,
) -> Result<()> {
    let client = SocketAddr::new(side.two, CLIENT);
    let service = server.udp_bind(inside.ip(), inside.port())?;
    let asks = lab.outside.udp_bind(client.ip(), client.port())?;
    exchange(&asks, &service, outside, "a request")?;
    let listener = server.tcp_listen(inside.ip(), inside.port())?;
    let asks = lab.outside.tcp_connect_at(client, outside)?;
    talk(&asks, &listener.accept()?.0)
}

#[test]
fn what_a_client_asks_a_service_reaches_no_endpoint_that_shadows_it() -> Result<()> {
    let lab = Lab::new("nat-shadow")?;
    let sides = two_hosts(&lab)?;
    let web = lab.network_with("web", &["--filtering", "endpoint-independent"])?;
    let (attacker, victim) = (
        lab.endpoint("attacker", &web)?,
        lab.endpoint("victim", &web)?,
    );
    for proto in ["tcp", "udp"] {
        lab.publish("victim", &format!("5400:80/{proto}"))?;
    }
    for side in sides {
        let at = |port| SocketAddr::new(side.node, port);
        // A service of the node.
        let held = (
            lab.node.udp_bind(side.node, 5300)?,
            lab.node.tcp_listen(side.node, 5300)?,
        );
        shadows(&lab, &attacker, side, 5300)?;
        drop(held);
        is_asked(&lab, &lab.node, at(5300), at(5300), side)?;
        // A published port.
        shadows(&lab, &attacker, side, 5400)?;
        let inside = SocketAddr::new(side.any(), 80);
        is_asked(&lab, &victim, inside, at(5400), side)?;
        // Another endpoint's outside socket, open to all.
        let friend = lab.outside.udp_bind(side.one, 9000)?;
        let to = SocketAddr::new(side.one, 9000);
        let socket = victim.udp_bind(side.any(), 5500)?;
        exchange(&socket, &friend, to, "hello")?;
        let friend = lab.outside.tcp_listen(side.one, 9000)?;
        let _open = victim.tcp_connect_from(5500, to)?;
        let _open_too = friend.accept()?;
        drop(socket);
        shadows(&lab, &attacker, side, 5500)?;
        let inside = SocketAddr::new(side.any(), 5500);
        is_asked(&lab, &victim, inside, at(5500), side)?;
    }
    Ok(())
}
