//! Sockets of the node on the uplink's address, and mappings that have, or want, their ports: whoever came
//! first, the node's get what is theirs and answer from where they were asked, and so do the endpoints'.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Lab};

use crate::{Side, exchange, talk, two_hosts};

const SERVER: u16 = 9000;

/// A host outside asks a port of the node, which answers from the address and port that was asked.
fn the_node_serves(lab: &Lab, side: Side, port: u16) -> Result<()> {
    let at = SocketAddr::new(side.node, port);
    let service = lab.node.udp_bind(at.ip(), port)?;
    let client = lab.outside.udp_bind(side.two, 0)?;
    exchange(&client, &service, at, "a question to the node")?;
    let listener = lab.node.tcp_listen(at.ip(), port)?;
    let client = lab
        .outside
        .tcp_connect_at(SocketAddr::new(side.two, 0), at)?;
    talk(&client, &listener.accept()?.0)
}

/// The node's services were there first: an endpoint gets another port.
fn after_a_service(lab: &Lab, a: &Endpoint, side: Side, port: u16) -> Result<()> {
    let udp = lab.node.udp_bind(side.node, port)?;
    let tcp = lab.node.tcp_listen(side.node, port)?;
    let to = SocketAddr::new(side.one, SERVER);
    let server = lab.outside.udp_bind(to.ip(), to.port())?;
    let socket = a.udp_bind(side.any(), port)?;
    let seen = exchange(&socket, &server, to, "from an endpoint")?;
    ensure!(seen.port() != port, "UDP: {seen}");
    let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
    let client = a.tcp_connect_from(port, to)?;
    let (accepted, seen) = listener.accept()?;
    ensure!(seen.port() != port, "TCP: {seen}");
    talk(&client, &accepted)?;
    drop((udp, tcp));
    the_node_serves(lab, side, port)
}

/// An endpoint holds the port, open to everybody, when the node begins to serve, and to call, by it.
fn before_a_service(lab: &Lab, a: &Endpoint, side: Side, port: u16) -> Result<()> {
    let to = SocketAddr::new(side.one, SERVER);
    let server = lab.outside.udp_bind(to.ip(), to.port())?;
    let socket = a.udp_bind(side.any(), port)?;
    let mapped = SocketAddr::new(side.node, port);
    ensure!(exchange(&socket, &server, to, "first")? == mapped);
    let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
    let client = a.tcp_connect_from(port, to)?;
    let (accepted, seen) = listener.accept()?;
    ensure!(seen == mapped, "TCP: {seen}");

    the_node_serves(lab, side, port)?;
    let goes_on = || {
        ensure!(exchange(&socket, &server, to, "as before")? == mapped);
        talk(&client, &accepted)
    };
    goes_on()?;

    // Where the node calls is another host: by whatever port it leaves, it is answered.
    let there = SocketAddr::new(side.two, SERVER);
    let other = lab.outside.udp_bind(there.ip(), there.port())?;
    let own = lab.node.udp_bind(side.node, port)?;
    let own_seen = exchange(&own, &other, there, "from the node")?;
    let other_tcp = lab.outside.tcp_listen(there.ip(), there.port())?;
    let calls = lab.node.tcp_connect_at(mapped, there)?;
    let (called, calls_seen) = other_tcp.accept()?;
    talk(&calls, &called)?;
    // And when the endpoint calls that host, it is not taken for the node, nor the node for it.
    let seen = exchange(&socket, &other, there, "from the endpoint")?;
    ensure!(seen != own_seen, "both are {seen}");
    exchange(&own, &other, there, "from the node again")?;
    let client = a.tcp_connect_from(port, there)?;
    let (called_too, seen) = other_tcp.accept()?;
    ensure!(seen != calls_seen, "both are {seen}");
    talk(&client, &called_too)?;
    talk(&calls, &called)?;
    goes_on()
}

fn sockets_of_the_node_keep_their_ports_whoever_came_first(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("nat-node", mode)?;
    let web = lab.network_with("web", &["--filtering", "endpoint-independent"])?;
    let a = lab.endpoint("a", &web)?;
    for side in two_hosts(&lab)? {
        println!("{side:?}");
        after_a_service(&lab, &a, side, 5300)?;
        before_a_service(&lab, &a, side, 5400)?;
    }
    Ok(())
}

both_modes! {
    sockets_of_the_node_keep_their_ports_whoever_came_first;
}
