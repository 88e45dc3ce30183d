//! An uplink that gets an address in a network's subnet (RFC 4787 REQ-7): the clash is named, the network takes
//! no further endpoints, the node keeps what is its own, and endpoints their way out.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use netd_tests::lab::{Endpoint, Lab, wait};

use crate::{exchange, talk, two_hosts};

const SUBNETS: [&str; 2] = ["10.99.0.0/24", "fd99::/64"];
/// Addresses in them that no endpoint has: one for the uplink, one for a host outside.
const UPLINKS: [&str; 2] = ["10.99.0.77", "fd99::77"];
const OUTSIDES: [&str; 2] = ["10.99.0.99", "fd99::99"];

fn problems(lab: &Lab) -> Result<Vec<String>> {
    Ok(lab
        .node
        .netd_json::<netd_api::Status>(&["status"])?
        .problems)
}

/// Waits until the daemon names these, one line each, and nothing else.
fn named(lab: &Lab, wanted: &[[&str; 3]]) -> Result<()> {
    let mut found = Vec::new();
    let ended = wait::until("the problems to be these", || {
        found = problems(lab)?;
        let all = |words: &[&str; 3]| found.iter().any(|p| words.iter().all(|w| p.contains(w)));
        Ok((found.len() == wanted.len() && wanted.iter().all(all)).then_some(()))
    });
    ended.with_context(|| format!("{wanted:?}; there are {found:?}"))
}

/// Puts addresses on the uplink, and on the outside host, and takes them away.
fn addresses(lab: &Lab, verb: &str, uplink: &[String], outside: &[String]) -> Result<()> {
    for (host, all) in [(&*lab.node, uplink), (&lab.outside, outside)] {
        for address in all {
            let nodad = if address.contains(':') && verb == "add" {
                "nodad"
            } else {
                ""
            };
            let device = &host.device;
            host.ip(&format!("addr {verb} {address} dev {device} {nodad}\n"))?;
        }
    }
    Ok(())
}

/// What an endpoint does goes on: to the outside as the node, and its published port.
fn an_endpoint_goes_on(lab: &Lab, a: &Endpoint) -> Result<()> {
    for (to, node, any) in [
        (lab.outside.v4(), lab.node.v4(), IpAddr::from([0; 4])),
        (lab.outside.v6(), lab.node.v6(), IpAddr::from([0; 16])),
    ] {
        let to = SocketAddr::new(to, 9000);
        let server = lab.outside.udp_bind(to.ip(), to.port())?;
        let seen = exchange(&a.udp_bind(any, 0)?, &server, to, "out")?;
        ensure!(seen.ip() == node, "{to} saw {seen}");
        let listener = a.tcp_listen(any, 80)?;
        let client = lab.outside.tcp_connect(SocketAddr::new(node, 8080))?;
        talk(&client, &listener.accept()?.0)?;
    }
    Ok(())
}

/// The node and a host outside talk, whoever begins.
fn the_node_talks(lab: &Lab, own: IpAddr, other: IpAddr) -> Result<()> {
    for (client, server, at) in [
        (&*lab.node, &lab.outside, other),
        (&lab.outside, &*lab.node, own),
    ] {
        let at = SocketAddr::new(at, 9000);
        let listener = server.tcp_listen(at.ip(), at.port())?;
        let from = SocketAddr::new(if at.ip() == own { other } else { own }, 0);
        let stream = client.tcp_connect_at(from, at)?;
        talk(&stream, &listener.accept()?.0)?;
        let socket = server.udp_bind(at.ip(), at.port())?;
        exchange(&client.udp_bind(from.ip(), 0)?, &socket, at, "between them")?;
    }
    Ok(())
}

#[test]
fn an_uplink_that_gets_an_address_of_a_network_is_named_and_takes_nothing_from_the_node()
-> Result<()> {
    let lab = Lab::new("nat-overlap")?;
    two_hosts(&lab)?;
    let [four, six] = SUBNETS;
    let web = lab.network_with("web", &["--subnet", four, "--subnet", six])?;
    let db = lab.network("db")?;
    let a = lab.endpoint("a", &web)?;
    lab.publish("a", "8080:80/tcp")?;
    assert_eq!(problems(&lab)?, Vec::<String>::new());

    // Around the subnets: it is said, and no more.
    let around = ["10.99.7.9/16", "fd99:0:0:7::9/48"].map(str::to_owned);
    addresses(&lab, "add", &around, &[])?;
    let part = |address, subnet| ["network web: uplink up0 has got", address, subnet];
    named(&lab, &[part(&around[0], four), part(&around[1], six)])?;
    let b = lab.endpoint("b", &web)?;
    b.ping(lab.outside.v4())?;
    addresses(&lab, "del", &around, &[])?;
    named(&lab, &[])?;

    // Within them: the same subnets, with an outside host that has an endpoint's addresses.
    let with = |texts: [&str; 2]| [format!("{}/24", texts[0]), format!("{}/64", texts[1])];
    let (own, same) = (
        with(UPLINKS),
        [format!("{}/24", a.v4()), format!("{}/64", a.v6())],
    );
    addresses(&lab, "add", &own, &same)?;
    named(&lab, &[part(&own[0], four), part(&own[1], six)])?;
    let doctor = lab.node.netd(&["doctor"])?;
    for address in &own {
        ensure!(doctor.stdout.contains(address), "{doctor:?}");
    }
    let ns = lab.namespace("c")?;
    let said = lab.node.netd(&["attach", ns.name(), "--network", "web"])?;
    ensure!(said.code == Some(1), "{said:?}");
    for word in ["network web", "up0", &own[0], four, "another subnet"] {
        ensure!(said.stderr.contains(word), "{word}: {said:?}");
    }
    ensure!(said.stderr.trim().lines().count() == 1, "{said:?}");
    // Networks whose addresses are their own are not concerned.
    lab.attach(&ns, "c", &db, &[])?.ping(lab.outside.v4())?;
    an_endpoint_goes_on(&lab, &a)?;
    for (own, other) in UPLINKS.iter().zip([a.v4(), a.v6()]) {
        the_node_talks(&lab, own.parse()?, other)?;
    }
    addresses(&lab, "del", &own, &same)?;
    named(&lab, &[])?;

    // The uplink has the very addresses of an endpoint: outside they are the node's. A daemon that is started
    // then sees it, too.
    let other = with(OUTSIDES);
    addresses(&lab, "add", &same, &other)?;
    named(&lab, &[part(&same[0], four), part(&same[1], six)])?;
    lab.node.restart(nix::sys::signal::Signal::SIGTERM)?;
    named(&lab, &[part(&same[0], four), part(&same[1], six)])?;
    an_endpoint_goes_on(&lab, &a)?;
    for (own, other) in [a.v4(), a.v6()].into_iter().zip(OUTSIDES) {
        the_node_talks(&lab, own, other.parse()?)?;
    }
    addresses(&lab, "del", &same, &other)?;
    named(&lab, &[])?;
    // All is as it was.
    a.ping(lab.node.v4())?;
    lab.node.ping(a.v4())?;
    lab.node.ping(a.v6())?;
    lab.endpoint("d", &web)?.ping(lab.outside.v6())
}
