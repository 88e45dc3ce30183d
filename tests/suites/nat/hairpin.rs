//! Endpoints call each other by their outside sockets and are seen with theirs (RFC 4787 REQ-9, REQ-9a).

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use netd_tests::lab::{Endpoint, Lab, wait};

use crate::{Side, exchange, heard, talk, two_hosts};

/// A UDP socket of an endpoint and its outside socket.
fn mapped(lab: &Lab, inside: &Endpoint, side: Side) -> Result<(UdpSocket, SocketAddr)> {
    let server = lab.outside.udp_bind(side.one, 9000)?;
    let socket = inside.udp_bind(side.any(), 0)?;
    let to = SocketAddr::new(side.one, 9000);
    let outside = exchange(&socket, &server, to, "hello")?;
    Ok((socket, outside))
}

#[test]
fn endpoints_call_each_other_by_their_outside_sockets_and_are_seen_with_theirs() -> Result<()> {
    let lab = Lab::new("nat-hairpin")?;
    let sides = two_hosts(&lab)?;
    let open = ["--filtering", "endpoint-independent"];
    let (web, db) = (lab.network_with("web", &open)?, lab.network("db")?);
    let server = lab.endpoint("server", &web)?;
    let neighbour = lab.endpoint("neighbour", &web)?;
    // Its network is isolated from the other: what is open to all the outside is open to it, too.
    let foreign = lab.endpoint("foreign", &db)?;
    for side in sides {
        let (socket, outside) = mapped(&lab, &server, side)?;
        for caller in [&neighbour, &foreign, &server] {
            let (asks, asks_as) = mapped(&lab, caller, side)?;
            let seen = exchange(&asks, &socket, outside, "by your outside socket")?;
            ensure!(
                seen == asks_as,
                "{} is seen as {seen}, outside as {asks_as}",
                caller.name
            );
        }
        let friend = lab.outside.tcp_listen(side.one, 9000)?;
        let to = SocketAddr::new(side.one, 9000);
        let _open = server.tcp_connect_from(7000, to)?;
        let (_open_too, outside) = friend.accept()?;
        let listener = server.tcp_listen(side.any(), 7000)?;
        for caller in [&neighbour, &foreign] {
            let _first = caller.tcp_connect_from(7001, to)?;
            let (_first_too, asks_as) = friend.accept()?;
            let asks = caller.tcp_connect_from(7001, outside)?;
            let (answers, seen) = listener.accept()?;
            ensure!(
                seen == asks_as,
                "{} is seen as {seen}, outside as {asks_as}",
                caller.name
            );
            talk(&asks, &answers)?;
        }
    }
    Ok(())
}

#[test]
fn endpoints_that_have_both_sent_meet_through_the_other_filters() -> Result<()> {
    let lab = Lab::new("nat-meet")?;
    let sides = two_hosts(&lab)?;
    let filtered = || lab.node.stat("ep_out", Some("filtered"));
    for filtering in ["address", "address-port"] {
        let (web, db) = (format!("web-{filtering}"), format!("db-{filtering}"));
        let web = lab.network_with(&web, &["--filtering", filtering])?;
        let db = lab.network_with(&db, &["--filtering", filtering])?;
        let a = lab.endpoint(&format!("a-{filtering}"), &web)?;
        let b = lab.endpoint(&format!("b-{filtering}"), &db)?;
        let c = lab.endpoint(&format!("c-{filtering}"), &db)?;
        for side in sides {
            let (at_a, a_as) = mapped(&lab, &a, side)?;
            let (at_b, b_as) = mapped(&lab, &b, side)?;
            let (at_c, _) = mapped(&lab, &c, side)?;
            let before = filtered()?;
            at_a.send_to(b"too early", b_as)?;
            at_c.send_to(b"a third one", b_as)?;
            wait::until("two datagrams to be filtered", || {
                Ok((filtered()? == before + 2).then_some(()))
            })?;
            // But a has called b, so b comes in, and so has b called a now.
            ensure!(heard(&at_b, a_as, &at_a, "here is b")? == b_as);
            ensure!(heard(&at_a, b_as, &at_b, "here is a")? == a_as);
        }
    }
    Ok(())
}
