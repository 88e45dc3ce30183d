//! Conversations of real sockets; each is a list of what both ends saw.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::side::{CLOSED, PUBLISHED, Side, Who, address, name_of};
use crate::lab::wait::PATIENCE;

/// A conversation: its name, and what the ends saw of it.
pub type Talk = (&'static str, fn(&Side, bool) -> Result<Vec<String>>);

/// All of them.
pub const TALKS: &[Talk] = &[
    ("transfers keep their bytes", transfers),
    ("a closed port refuses", refused),
    ("a half-closed connection still answers", half_closed),
    ("a reset is a reset on the other end", reset),
    ("datagrams of all sizes come back", datagrams),
    ("clients with the same port are told apart", same_port),
];

/// Port servers listen on here, apart from those of probes.
const SERVER: u16 = 7_000;

/// Who serves on what, who calls which address: every way through a node.
fn ways(v6: bool) -> Vec<(Who, SocketAddr, Who, SocketAddr)> {
    let at = |name: &str, port| SocketAddr::new(address(name, v6), port);
    vec![
        (Who::B, at("b", SERVER), Who::A, at("b", SERVER)),
        (Who::C, at("c", SERVER), Who::A, at("c", SERVER)),
        (
            Who::Outside,
            at("outside", SERVER),
            Who::A,
            at("outside", SERVER),
        ),
        (Who::Outside, at("far", SERVER), Who::B, at("far", SERVER)),
        (Who::A, at("a", 80), Who::Outside, at("node", PUBLISHED)),
        (Who::A, at("a", 80), Who::B, at("node", PUBLISHED)),
        (Who::A, at("a", 80), Who::C, at("node", PUBLISHED)),
        (Who::A, at("a", 80), Who::C, at("gateway2", PUBLISHED)),
    ]
}

fn transfers(side: &Side, v6: bool) -> Result<Vec<String>> {
    for (server, listen, client, to) in ways(v6) {
        let (server, client) = (side.host(server), side.host(client));
        client
            .bulk_tcp(server, listen, to, 2)
            .with_context(|| format!("{} to {to}", client.name))?;
    }
    Ok(vec!["all bytes, both ways".into()])
}

fn datagrams(side: &Side, v6: bool) -> Result<Vec<String>> {
    for (server, listen, client, to) in ways(v6) {
        let (server, client) = (side.host(server), side.host(client));
        // Nothing, little, what fits the smallest path, what needs fragments on a segment only.
        for len in [0, 1, 555, 1_200] {
            client
                .udp_echo(server, listen, to, len)
                .with_context(|| format!("{len} bytes, {} to {to}", client.name))?;
        }
    }
    Ok(vec!["all datagrams, both ways".into()])
}

fn refused(side: &Side, v6: bool) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for (from, to) in [
        (Who::A, "b"),
        (Who::A, "c"),
        (Who::A, "outside"),
        (Who::A, "node"),
        (Who::C, "gateway2"),
        (Who::Outside, "node"),
    ] {
        let to = SocketAddr::new(address(to, v6), CLOSED);
        let answer = side.host(from).tcp_connect(to);
        let kind = answer.err().and_then(|e| {
            let io = e.downcast_ref::<std::io::Error>()?;
            Some(io.kind())
        });
        // Two nodes that keep quiet would be equal, too.
        ensure!(
            kind == Some(ErrorKind::ConnectionRefused),
            "{} to {to}: {kind:?}",
            from.name()
        );
        seen.push(format!("{} to {to}: {kind:?}", from.name()));
    }
    Ok(seen)
}

fn half_closed(side: &Side, v6: bool) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for (server, listen, client, to) in ways(v6) {
        let listener = side.host(server).tcp_listen(listen.ip(), listen.port())?;
        let mut here = side.host(client).tcp_connect(to)?;
        let (mut there, _) = listener.accept()?;
        there.set_read_timeout(Some(PATIENCE))?;
        here.write_all(b"question")?;
        here.shutdown(Shutdown::Write)?;
        let mut question = String::new();
        there.read_to_string(&mut question)?;
        there.write_all(b"answer after the end")?;
        drop(there);
        let mut answer = String::new();
        here.read_to_string(&mut answer)?;
        seen.push(format!("{to}: {question}, {answer}"));
    }
    Ok(seen)
}

fn reset(side: &Side, v6: bool) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for (server, listen, client, to) in ways(v6) {
        let listener = side.host(server).tcp_listen(listen.ip(), listen.port())?;
        let mut here = side.host(client).tcp_connect(to)?;
        let (there, _) = listener.accept()?;
        let at_once = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&there, sockopt::Linger, &at_once)?;
        drop(there);
        let end = here.read(&mut [0; 8]).map_err(|e| e.kind());
        seen.push(format!("{to}: {end:?}"));
    }
    Ok(seen)
}

fn same_port(side: &Side, v6: bool) -> Result<Vec<String>> {
    let to = SocketAddr::new(address("outside", v6), SERVER);
    let listener = side.host(Who::Outside).tcp_listen(to.ip(), SERVER)?;
    let mut seen = Vec::new();
    let mut open = Vec::new();
    for who in [Who::A, Who::B, Who::C] {
        let mut here = side.host(who).tcp_connect_from(33_333, to)?;
        let (mut there, from) = listener.accept()?;
        there.set_read_timeout(Some(PATIENCE))?;
        here.write_all(who.name().as_bytes())?;
        let mut name = vec![0; who.name().len()];
        there.read_exact(&mut name)?;
        let kept = from.port() == 33_333;
        seen.push(format!(
            "{} is seen from {}, its port kept: {kept}",
            String::from_utf8_lossy(&name),
            name_of(from.ip())
        ));
        open.push((here, there));
    }
    Ok(seen)
}
