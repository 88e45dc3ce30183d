//! Who may send to a mapping (RFC 4787 REQ-8, RFC 5382 REQ-3): anybody, the hosts its socket has called, or the
//! very sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Lab, wait};

use crate::{Side, exchange, heard, talk, two_hosts};

/// The port that is called from inside, on one host.
const CALLED: u16 = 9000;
/// Another one, of the same host and of another.
const OTHER: u16 = 9001;

/// The inside port that calls over TCP, and listens.
const OWN: u16 = 7000;

/// What a filter lets in.
#[derive(Clone, Copy)]
struct Filter {
    name: &'static str,
    /// Another port of a host that was called.
    same_host: bool,
    /// A host that was not.
    stranger: bool,
}

const FILTERS: [Filter; 3] = [
    Filter {
        name: "endpoint-independent",
        same_host: true,
        stranger: true,
    },
    Filter {
        name: "address",
        same_host: true,
        stranger: false,
    },
    Filter {
        name: "address-port",
        same_host: false,
        stranger: false,
    },
];

fn filtered(lab: &Lab) -> Result<u64> {
    lab.node.stat("up_in", Some("filtered"))
}

fn datagrams(lab: &Lab, inside: &Endpoint, side: Side, filter: Filter) -> Result<()> {
    let socket = inside.udp_bind(side.any(), 0)?;
    let friend = lab.outside.udp_bind(side.one, CALLED)?;
    let to = SocketAddr::new(side.one, CALLED);
    let mapped = exchange(&socket, &friend, to, "hello")?;
    for (host, may) in [(side.one, filter.same_host), (side.two, filter.stranger)] {
        let caller = lab.outside.udp_bind(host, OTHER)?;
        let before = filtered(lab)?;
        if may {
            let seen = exchange(&caller, &socket, mapped, "may I come in")?;
            ensure!(seen == SocketAddr::new(host, OTHER), "{seen}");
        } else {
            caller.send_to(b"may I come in", mapped)?;
            // What the inside hears next is what its friend has sent behind that.
            heard(&friend, mapped, &socket, "it is me")?;
            wait::until("a datagram to be filtered", || {
                Ok((filtered(lab)? == before + 1).then_some(()))
            })?;
            // Once it was called itself it may.
            let at = SocketAddr::new(host, OTHER);
            let seen = exchange(&socket, &caller, at, "you too")?;
            ensure!(seen == mapped, "{seen} is not {mapped}");
            heard(&caller, mapped, &socket, "thanks")?;
        }
    }
    Ok(())
}

fn connections(lab: &Lab, inside: &Endpoint, side: Side, filter: Filter) -> Result<()> {
    let server = lab.outside.tcp_listen(side.one, CALLED)?;
    let called = SocketAddr::new(side.one, CALLED);
    let socket = inside.tcp_connect_from(OWN, called)?;
    let (friend, mapped) = server.accept()?;
    talk(&socket, &friend)?;
    // The same port listens: what comes in by the mapping finds somebody.
    let listener = inside.tcp_listen(side.any(), OWN)?;
    for (host, may) in [(side.one, filter.same_host), (side.two, filter.stranger)] {
        let from = SocketAddr::new(host, OTHER);
        let before = filtered(lab)?;
        let calling = lab.outside.tcp_call(from, mapped)?;
        if may {
            let (accepted, seen) = listener.accept()?;
            ensure!(seen == from, "{seen}");
            talk(&calling.outcome()??, &accepted)?;
            continue;
        }
        wait::until("a connection to be filtered", || {
            Ok((filtered(lab)? > before).then_some(()))
        })?;
        listener.set_nonblocking(true)?;
        match listener.accept() {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            other => bail!("{} came in: {other:?}", filter.name),
        }
        listener.set_nonblocking(false)?;
        ensure!(calling.waits()?, "{host} was answered");
    }
    talk(&socket, &friend)
}

fn mappings_let_in_whom_their_filter_names(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("nat-filters", mode)?;
    let sides = two_hosts(&lab)?;
    for filter in FILTERS {
        let network = lab.network_with(filter.name, &["--filtering", filter.name])?;
        let inside = lab.endpoint(&format!("in-{}", filter.name), &network)?;
        for side in sides {
            println!("{} {side:?}", filter.name);
            datagrams(&lab, &inside, side, filter)?;
            connections(&lab, &inside, side, filter)?;
        }
    }
    Ok(())
}

both_modes! {
    mappings_let_in_whom_their_filter_names;
}
