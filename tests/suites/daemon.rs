//! The daemon's life: it may be killed, stopped and started again while traffic runs; there is one of
//! it for each node; cleanup removes every trace.

#[path = "daemon/hooks.rs"]
mod hooks;
#[path = "daemon/start.rs"]
mod start;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use netd_api::{Endpoint as Object, EndpointState, Network, Published};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Lab, Proto, netns, streams, wait};
use nix::sys::signal::Signal;

/// Everything the API tells about desired state.
fn state(lab: &Lab) -> Result<(Vec<Network>, Vec<Object>, Vec<Published>)> {
    Ok((
        lab.node.netd_json(&["network", "ls"])?,
        lab.node.netd_json(&["endpoint", "ls"])?,
        lab.node.netd_json(&["published"])?,
    ))
}

/// One word there and back.
fn talk(client: &TcpStream, server: &TcpStream) -> Result<()> {
    for (mut from, mut to) in [(client, server), (server, client)] {
        let mut got = [0; 5];
        from.write_all(b"alive")?;
        to.read_exact(&mut got)?;
        ensure!(&got == b"alive", "got something else");
    }
    Ok(())
}

/// New traffic of every kind.
fn everything_flows(lab: &Lab, a: &Endpoint, b: &Endpoint) -> Result<()> {
    for (peer, node, outside) in [
        (b.v4(), lab.node.v4(), lab.outside.v4()),
        (b.v6(), lab.node.v6(), lab.outside.v6()),
    ] {
        a.ping(peer)?;
        a.ping(node)?;
        lab.node.ping(peer)?;
        assert_eq!(
            a.source_seen_by(Proto::Udp, &lab.outside, outside, 9001)?
                .ip(),
            node
        );
        assert_eq!(
            b.source_seen_by(Proto::Tcp, &lab.outside, outside, 9002)?
                .ip(),
            node
        );
        let _server = a.serve_source(Proto::Tcp, 80)?;
        assert_eq!(
            lab.outside
                .ask_source(Proto::Tcp, SocketAddr::new(node, 8080))?
                .ip(),
            outside
        );
    }
    Ok(())
}

fn survives(mode: AttachMode, signal: Signal) -> Result<()> {
    const MEGABYTES: usize = 64;
    let lab = Lab::in_mode("survives", mode)?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.publish("a", "8080:80")?;
    let before = state(&lab)?;

    // Old conversations of every kind, and one transfer that runs all the time.
    let outside = SocketAddr::new(lab.outside.v4(), 9000);
    let listener = lab.outside.tcp_listen(outside.ip(), outside.port())?;
    let inside = a.tcp_listen(a.v4(), 81)?;
    let masqueraded = a.tcp_connect(outside)?;
    let masqueraded_peer = listener.accept()?.0;
    let local = b.tcp_connect(SocketAddr::new(a.v4(), 81))?;
    let local_peer = inside.accept()?.0;
    let mut bulk = b.tcp_connect(outside)?;
    let mut bulk_peer = listener.accept()?.0;
    for stream in [&masqueraded_peer, &local_peer, &bulk_peer] {
        stream.set_read_timeout(Some(wait::PATIENCE))?;
    }

    thread::scope(|scope| {
        let sending = scope.spawn(move || streams::send(&mut bulk, MEGABYTES));
        let receiving = scope.spawn(move || streams::receive(&mut bulk_peer, MEGABYTES));
        lab.node.stop(signal)?;
        talk(&masqueraded, &masqueraded_peer)
            .context("an old masqueraded flow, without the daemon")?;
        talk(&local, &local_peer).context("an old local connection, without the daemon")?;
        everything_flows(&lab, &a, &b).context("new traffic, without the daemon")?;
        lab.node.start()?;
        talk(&masqueraded, &masqueraded_peer)
            .context("an old masqueraded flow, after the start")?;
        talk(&local, &local_peer).context("an old local connection, after the start")?;
        for task in [sending, receiving] {
            task.join()
                .map_err(|_| anyhow::anyhow!("the transfer panicked"))?
                .context("the transfer")?;
        }
        Ok::<_, anyhow::Error>(())
    })?;

    assert_eq!(state(&lab)?, before, "the same things are there");
    everything_flows(&lab, &a, &b).context("new traffic, after the start")?;
    // The new daemon is in charge: it can change what the old one made.
    lab.node.netd_ok(&["unpublish", "8080"])?;
    lab.node.netd_ok(&["detach", "b"])?;
    let c = lab.endpoint("c", &web)?;
    c.ping(a.v4())?;
    a.ping(c.v6())
}

fn traffic_survives_a_kill_and_the_next_start_adopts(mode: AttachMode) -> Result<()> {
    survives(mode, Signal::SIGKILL)
}

fn traffic_survives_a_stop_and_the_next_start_adopts(mode: AttachMode) -> Result<()> {
    survives(mode, Signal::SIGTERM)
}

fn cleanup_removes_every_trace(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("cleanup", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    lab.publish("a", "8080:80")?;
    a.ping(lab.outside.v4())?;

    let refused = lab.node.cleanup(&[])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("(a)") && refused.stderr.lines().count() == 1,
        "{refused:?}"
    );
    a.ping(lab.outside.v4())
        .context("after a refused cleanup")?;

    // The daemon runs: cleanup stops it first.
    lab.node.cleanup(&["--force"])?.success()?;
    lab.node.wait_stopped()?;
    nothing_is_left(&lab)?;

    // From nothing again; and now cleanup of a dead daemon.
    lab.node.start()?;
    let (networks, endpoints, _) = state(&lab)?;
    assert!(networks.is_empty() && endpoints.is_empty());
    let web = lab.network("web")?;
    let b = lab.endpoint("b", &web)?;
    b.ping(lab.outside.v6())?;
    lab.node.stop(Signal::SIGKILL)?;
    assert_eq!(lab.node.cleanup(&[])?.code, Some(1));
    lab.node.cleanup(&["--force"])?.success()?;
    nothing_is_left(&lab)?;
    // Nothing to do is fine.
    lab.node.cleanup(&[])?.success()?;
    Ok(())
}

both_modes! {
    traffic_survives_a_kill_and_the_next_start_adopts;
    traffic_survives_a_stop_and_the_next_start_adopts;
    cleanup_removes_every_trace;
}

fn nothing_is_left(lab: &Lab) -> Result<()> {
    let node = &lab.node;
    assert_eq!(
        node.devices()?,
        std::slice::from_ref(&node.device),
        "devices"
    );
    let link = node.ok("ip", &["-d", "link", "show", &node.device])?;
    assert!(!link.contains("xdp"), "{link}");
    for side in ["ingress", "egress"] {
        let filters = node.run("tc", &["filter", "show", "dev", &node.device, side])?;
        assert!(filters.stdout.trim().is_empty(), "{filters:?}");
    }
    let qdisc = node.ok("tc", &["qdisc", "show", "dev", &node.device])?;
    assert!(!qdisc.contains("clsact"), "{qdisc}");
    if let Ok(programs) = node.ok("bpftool", &["net", "show"]) {
        assert!(!programs.contains("netd_"), "{programs}");
    }
    for dir in [node.state_dir(), node.run_dir(), node.bpf_dir()] {
        assert!(!dir.exists(), "{} is still there", dir.display());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    assert!(
        !mounts.contains(&node.bpf_dir().display().to_string()),
        "the bpffs is still mounted"
    );
    let (dev, ino) = node.ns.identity()?;
    assert!(
        !Path::new(&format!("/run/netd.lock.d/net-{dev}-{ino}")).exists(),
        "the lock is still there"
    );
    lab.outside.ping(node.v4())?;
    node.ping(lab.outside.v6())
}

#[test]
fn a_namespace_that_vanished_leaves_a_gone_endpoint() -> Result<()> {
    let lab = Lab::new("vanished")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.publish("b", "8080:80")?;
    let gone = |name: &str| -> Result<bool> {
        let object: Object = lab.node.netd_json(&["endpoint", "inspect", name])?;
        Ok(object.state == EndpointState::Gone)
    };
    // Under the daemon's eyes.
    let name = b.ns.name().to_owned();
    drop(b);
    netns::remove(&name)?;
    wait::until("endpoint b to be gone", || Ok(gone("b")?.then_some(())))?;
    assert!(!gone("a")?);
    lab.node.netd_ok(&["detach", "b"])?;
    // While it was dead.
    let c = lab.endpoint("c", &web)?;
    // That an attach came to its end is written with the next change; killed before that, and with
    // its device gone too, it would count as half-made.
    lab.publish("c", "8081:80")?;
    lab.node.stop(Signal::SIGKILL)?;
    let name = c.ns.name().to_owned();
    drop(c);
    netns::remove(&name)?;
    let device_gone = || {
        Ok((lab
            .node
            .devices()?
            .iter()
            .filter(|d| d.starts_with("nde"))
            .count()
            == 1)
            .then_some(()))
    };
    wait::until("the device of c to vanish", device_gone)?;
    lab.node.start()?;
    wait::until("endpoint c to be gone", || Ok(gone("c")?.then_some(())))?;
    lab.node.netd_ok(&["detach", "c"])?;
    a.ping(web.gateway(false)?)?;
    let d = lab.endpoint("d", &web)?;
    d.ping(a.v4())
}

#[test]
fn an_uplink_that_changes_its_address_is_followed() -> Result<()> {
    let lab = Lab::new("address-change")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    a.ping(lab.outside.v4())?;
    // The last address of a subnet takes its routes with it.
    lab.node.ip(
        "addr del 192.0.2.2/24 dev up0\naddr add 192.0.2.9/24 dev up0\nroute add default via 192.0.2.100 dev up0\n",
    )?;
    wait::until("the uplink's new address", || {
        let status: netd_api::Status = lab.node.netd_json(&["status"])?;
        let seen = status
            .uplinks
            .first()
            .and_then(|u| u.v4)
            .map(|a| a.to_string());
        Ok((seen.as_deref() == Some("192.0.2.9")).then_some(()))
    })?;
    let seen = a.tcp_source_seen_by(&lab.outside, 8080)?;
    assert_eq!(seen.ip().to_string(), "192.0.2.9");
    // The end of the lab compares the node's settings, not its addresses.
    Ok(())
}
