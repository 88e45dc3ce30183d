//! Connections nobody has asked for (RFC 5382 REQ-4): no answer at ports that masquerade uses, so that two that
//! call each other at once meet; everywhere else the node's own answer.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use netd_tests::lab::{Lab, wait};

use crate::{Side, talk, two_hosts};

const PORTS: &str = "21000-21999";

fn silenced(lab: &Lab) -> Result<u64> {
    lab.node.stat("up_in", Some("unsolicited_syn"))
}

fn is_refused(lab: &Lab, from: SocketAddr, to: SocketAddr) -> Result<()> {
    let refused = lab.outside.tcp_call(from, to)?.outcome()?;
    let refused = refused.err().context("somebody has answered")?;
    ensure!(
        refused.kind() == ErrorKind::ConnectionRefused,
        "{refused:?}"
    );
    Ok(())
}

fn only_ports_of_masquerade_are_silent(lab: &Lab, side: Side) -> Result<()> {
    let wire = lab.outside.capture(&lab.outside.device)?;
    let from = SocketAddr::new(side.one, 0);
    let to = |port| SocketAddr::new(side.node, port);
    let before = silenced(lab)?;
    let calling = lab.outside.tcp_call(from, to(21_500))?;
    wait::until("a SYN to be met with silence", || {
        Ok((silenced(lab)? > before).then_some(()))
    })?;
    // Elsewhere, the ports next to the range among it, the node's stack refuses.
    for port in [20_999, 22_000] {
        is_refused(lab, from, to(port))?;
    }
    let asks = lab.outside.udp_bind(side.one, 0)?;
    asks.connect(to(21_500))?;
    asks.send(b"anybody?")?;
    match asks.recv(&mut [0; 8]) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
        other => bail!("UDP to nobody: {other:?}"),
    }
    // A service of the node's in the range is served.
    let listener = lab.node.tcp_listen(side.any(), 21_501)?;
    let client = lab.outside.tcp_connect_at(from, to(21_501))?;
    talk(&client, &listener.accept()?.0)?;
    ensure!(calling.waits()?, "the first caller was answered");
    let frames = wire.drain()?;
    let said = frames
        .iter()
        .filter_map(netd_tests::lab::capture::Frame::packet);
    let answers = |p: &netd_tests::lab::capture::Packet| {
        p.src == side.node && p.proto == 6 && p.sport == 21_500
    };
    let found: Vec<_> = said.filter(answers).collect();
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn callers_nobody_waits_for_hear_nothing_where_masquerade_has_its_ports() -> Result<()> {
    let lab = Lab::new("nat-silence")?;
    let web = lab.network_with("web", &["--masquerade-ports", PORTS])?;
    let a = lab.endpoint("a", &web)?;
    for side in two_hosts(&lab)? {
        only_ports_of_masquerade_are_silent(&lab, side)?;
        // The caller is called back while it still waits: both sides open at once.
        let (from, to) = (
            SocketAddr::new(side.two, 9000),
            SocketAddr::new(side.node, 21_600),
        );
        let before = silenced(&lab)?;
        let calling = lab.outside.tcp_call(from, to)?;
        wait::until("a SYN to be met with silence", || {
            Ok((silenced(&lab)? > before).then_some(()))
        })?;
        let back = a.tcp_connect_from(to.port(), from)?;
        let calling = calling.outcome()??;
        ensure!(calling.peer_addr()? == to);
        talk(&calling, &back)?;
    }
    Ok(())
}
