//! How many flows there may be: what floods gets no more than its share, a full table ends nothing.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, anyhow, ensure};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Lab, Proto, frames, streams, wait};
use nix::sys::signal::Signal;

/// Sends the first segments of `count` connections that nobody goes on with, each to another socket of a
/// host that does not answer.
fn flood(from: &Endpoint, gateway: frames::Mac, v6: bool, count: u32) -> Result<()> {
    let mac = frames::mac(&from.info.mac)?;
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        (from.v6(), "2001:db8:ffff::7".parse()?)
    } else {
        (from.v4(), "198.51.100.7".parse()?)
    };
    let wire = from.capture(&from.device)?;
    for n in 0..count {
        let sport = 1_024 + (n % 60_000) as u16;
        let dport = 20_000 + (n / 100) as u16;
        let frame = frames::tcp_syn(mac, gateway, (src, sport), (dst, dport))?;
        wire.send(&frame)?;
    }
    Ok(())
}

/// The gateway's MAC on the network of these labs.
fn gateway(lab: &Lab) -> Result<frames::Mac> {
    let web = lab.inspect_network("web")?;
    frames::mac(web.gateway_mac.as_deref().context("no gateway")?)
}

/// A lab with a small flow table, endpoints `a` and `b`, and more of `[flows]`.
fn small(
    name: &str,
    mode: AttachMode,
    entries: u32,
    more: &str,
) -> Result<(Lab, Endpoint, Endpoint)> {
    let config = format!("[flows]\nentries = {entries}\n{more}\n");
    let lab = Lab::builder(name)
        .attach_mode(mode)
        .config(&config)
        .build()?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    Ok((lab, a, b))
}

fn one_endpoint_that_floods_leaves_the_others_all_they_need(mode: AttachMode) -> Result<()> {
    // 2048 flows in each table; an endpoint may have 819 of both.
    let (lab, a, b) = small("flood", mode, 4_096, "")?;
    for v6 in [false, true] {
        flood(&a, gateway(&lab)?, v6, 5_000)?;
    }
    wait::until("flow_limit to be counted", || {
        Ok((lab.node.stat("ep_out", Some("flow_limit"))? > 0).then_some(()))
    })?;
    let details: netd_api::EndpointDetails = lab.node.netd_json(&["endpoint", "inspect", "a"])?;
    assert_eq!((details.flows.used, details.flows.limit), (819, 819));
    let text = lab.node.netd_ok(&["endpoint", "inspect", "a"])?;
    assert!(text.contains("819 of 819"), "{text}");
    for to in [lab.outside.v4(), lab.outside.v6()] {
        let to = SocketAddr::new(to, 9000);
        let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
        let mut open = Vec::new();
        for n in 0..200 {
            let talk = b
                .tcp_connect(to)
                .with_context(|| format!("connection {n} of b"))?;
            open.push((talk, listener.accept()?.0));
        }
        // A published port of b is another's business as little.
        for (client, server) in &mut open {
            word(client, server)?;
        }
    }
    lab.publish("b", "8080:80")?;
    let _server = b.serve_source(Proto::Tcp, 80)?;
    lab.outside
        .ask_source(Proto::Tcp, SocketAddr::new(lab.node.v4(), 8080))?;
    assert_eq!(lab.node.stat("ep_out", Some("flow_table_full"))?, 0);
    Ok(())
}

/// A word there and back.
fn word(client: &mut TcpStream, server: &mut TcpStream) -> Result<()> {
    let mut got = [0; 4];
    client.write_all(b"ping")?;
    server.read_exact(&mut got)?;
    server.write_all(b"pong")?;
    client.read_exact(&mut got)?;
    ensure!(got == *b"pong");
    Ok(())
}

/// Fills the table beside a transfer that goes on both ways all the while.
fn fill_beside_a_transfer(lab: &Lab, a: &Endpoint, b: &Endpoint) -> Result<()> {
    let to = SocketAddr::new(lab.outside.v4(), 9000);
    let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
    let mut quiet = b.tcp_connect(to)?;
    let (mut quiet_peer, _) = listener.accept()?;
    let mut here = b.tcp_connect(to)?;
    let (mut there, _) = listener.accept()?;
    there.set_read_timeout(Some(wait::PATIENCE))?;
    let (mut here_in, mut there_in) = (here.try_clone()?, there.try_clone()?);
    std::thread::scope(|scope| -> Result<()> {
        let tasks = [
            scope.spawn(move || streams::send(&mut here, 64)),
            scope.spawn(move || streams::send(&mut there, 64)),
            scope.spawn(move || streams::receive(&mut here_in, 64)),
            scope.spawn(move || streams::receive(&mut there_in, 64)),
        ];
        flood(a, gateway(lab)?, false, 2_000)?;
        for task in tasks {
            task.join().map_err(|_| anyhow!("a transfer panicked"))??;
        }
        Ok(())
    })?;
    ensure!(
        lab.node.stat("ep_out", Some("flow_table_full"))? > 0,
        "it never was full"
    );
    // What only waited is there as well.
    word(&mut quiet, &mut quiet_peer)
}

fn a_full_table_refuses_new_flows_and_recovers_when_they_expire(mode: AttachMode) -> Result<()> {
    // 512 flows; one endpoint may take all of them.
    let limits = "per_endpoint = 100000\ntcp_transitory = 5";
    let (lab, a, b) = small("full", mode, 1_024, limits)?;
    fill_beside_a_transfer(&lab, &a, &b)?;
    recovers(&lab, &b)
}

/// New connections succeed, as soon as the flood has expired.
fn recovers(lab: &Lab, b: &Endpoint) -> Result<()> {
    let to = SocketAddr::new(lab.outside.v4(), 9001);
    let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
    // Who is refused is told at once, and asks again.
    let mut client = wait::until("room in the table", || Ok(b.tcp_connect(to).ok()))?;
    let (mut server, _) = listener.accept()?;
    word(&mut client, &mut server)
}

fn without_the_daemon_a_full_table_recovers_too(mode: AttachMode) -> Result<()> {
    let limits = "per_endpoint = 100000\ntcp_transitory = 5";
    let (lab, a, b) = small("full-dead", mode, 1_024, limits)?;
    let to = SocketAddr::new(lab.outside.v4(), 9000);
    let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
    let mut before = b.tcp_connect(to)?;
    let (mut before_peer, _) = listener.accept()?;
    let gateway = gateway(&lab)?;
    lab.node.stop(Signal::SIGKILL)?;
    flood(&a, gateway, false, 2_000)?;
    recovers(&lab, &b)?;
    word(&mut before, &mut before_peer)?;
    lab.node.start()?;
    ensure!(
        lab.node.stat("ep_out", Some("flow_table_full"))? > 0,
        "it never was full"
    );
    Ok(())
}

both_modes! {
    one_endpoint_that_floods_leaves_the_others_all_they_need;
    a_full_table_refuses_new_flows_and_recovers_when_they_expire;
    without_the_daemon_a_full_table_recovers_too;
}

#[test]
fn limits_and_time_outs_out_of_range_are_refused_by_name() -> Result<()> {
    let lab = Lab::builder("flow-config").without_daemon().build()?;
    for (key, why) in [
        (
            "per_endpoint = 0",
            "flows.per_endpoint \"0\" is refused: it is a number from 1 to 16777216",
        ),
        (
            "udp = 60",
            "flows.udp \"60\" is refused: it is a number of seconds from 120 to 604800",
        ),
    ] {
        lab.node
            .reconfigure(|options| options.config = format!("[flows]\n{key}\n"));
        let output = netd_tests::lab::process::run(&mut lab.node.daemon_command()?)?;
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains(why), "{output:?}");
        assert_eq!(output.stderr.trim().lines().count(), 1, "{output:?}");
    }
    Ok(())
}
