//! What an apply does not name goes on: no datagram is lost, no connection broken.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{SHOP, Scene};

/// Sends numbered datagrams, each when the one before has come, until told to stop; every one must come.
fn talk(stop: &AtomicBool, from: &UdpSocket, to: &UdpSocket) -> Result<u64> {
    to.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut number = 0u64;
    let mut got = [0; 8];
    while !stop.load(Ordering::Relaxed) {
        from.send(&number.to_be_bytes())?;
        to.recv(&mut got)
            .with_context(|| format!("datagram {number} is lost"))?;
        ensure!(u64::from_be_bytes(got) == number, "out of order");
        number += 1;
    }
    Ok(number)
}

/// The same on a connection that is open all the time.
fn connected(stop: &AtomicBool, mut from: TcpStream, mut to: TcpStream) -> Result<u64> {
    to.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut number = 0u64;
    let mut got = [0; 8];
    while !stop.load(Ordering::Relaxed) {
        from.write_all(&number.to_be_bytes())?;
        to.read_exact(&mut got)
            .with_context(|| format!("number {number} does not come"))?;
        ensure!(u64::from_be_bytes(got) == number, "bytes are not the same");
        number += 1;
    }
    Ok(number)
}

#[test]
fn traffic_of_what_does_not_change_loses_nothing() -> Result<()> {
    let scene = Scene::new("apply-traffic", &["a", "b", "c"])?;
    let lab = &scene.lab;
    let plain = scene.file("shop.toml", SHOP)?;
    scene.apply(&plain)?;
    // Another network, endpoint and port come and go, and an option changes, all the time.
    let more = SHOP.replace("[network.web]\n", "[network.web]\nstorm = 9\n")
        + "\n[network.db]\n\n[endpoint.c]\ntarget = \"@c\"\nnetwork = \"db\"\npublish = [\"9090:90\"]\n";
    let more = scene.file("more.toml", &more)?;
    let (a, b) = (scene.host("a")?, scene.host("b")?);
    let mut pairs = Vec::new();
    let mut streams = Vec::new();
    for v6 in [false, true] {
        let ip = |h: &netd_tests::lab::Host| if v6 { h.v6() } else { h.v4() };
        for (from, to, listen, port) in [
            (&a, ip(&b), (&b, 7000), 7000),
            (&a, ip(&lab.outside), (&lab.outside, 7000), 7000),
        ] {
            let server = listen.0.udp_bind(ip(listen.0), listen.1)?;
            let client = from.udp_bind(ip(from), 0)?;
            client.connect((to, port))?;
            pairs.push((client, server));
            let listener = listen.0.tcp_listen(ip(listen.0), listen.1)?;
            let client = from.tcp_connect((to, port).into())?;
            streams.push((client, listener.accept()?.0));
        }
        // In by the published port.
        let listener = a.tcp_listen(ip(&a), 80)?;
        let node = if v6 { lab.node.v6() } else { lab.node.v4() };
        let client = lab.outside.tcp_connect((node, 8080).into())?;
        streams.push((client, listener.accept()?.0));
    }
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| -> Result<Vec<u64>> {
        let stop = &stop;
        let datagrams = pairs
            .iter()
            .map(|(from, to)| scope.spawn(move || talk(stop, from, to)));
        let streams = streams
            .into_iter()
            .map(|(from, to)| scope.spawn(move || connected(stop, from, to)));
        let talks: Vec<_> = datagrams.chain(streams).collect();
        let apply = || -> Result<()> {
            for _ in 0..5 {
                let plan = scene.apply(&more)?;
                ensure!(plan.lines.len() == 4 && plan.flows.is_empty(), "{plan:?}");
                let plan = scene.apply(&plain)?;
                ensure!(plan.lines.len() == 4 && plan.flows.is_empty(), "{plan:?}");
            }
            Ok(())
        };
        let applied = apply();
        stop.store(true, Ordering::Relaxed);
        let sent = talks
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Ok(0)));
        let sent = sent.collect::<Result<Vec<u64>>>()?;
        applied?;
        Ok(sent)
    })?;
    assert!(sent.iter().all(|n| *n > 100), "{sent:?}");
    Ok(())
}
