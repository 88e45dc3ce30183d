//! Floods on real devices: hundreds of switch ports, and a storm.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use anyhow::{Result, ensure};
use netd_tests::lab::{Lab, frames, wait};

/// Switch ports beside the sender's and the gateway's.
const PORTS: usize = 300;

#[test]
fn three_hundred_endpoints_get_one_copy_each() -> Result<()> {
    let lab = Lab::new("many")?;
    // Room for all of them.
    let web = lab.network_with(
        "web",
        &["--subnet", "10.99.0.0/22", "--subnet", "fd99::/64"],
    )?;
    let a = lab.endpoint("a", &web)?;
    let mut others = Vec::new();
    for n in 0..PORTS {
        let other = lab.endpoint(&format!("e{n}"), &web)?;
        others.push((other.capture(&other.device)?, other));
    }
    let from = frames::mac(&a.info.mac)?;
    let (v4, v6): (IpAddr, IpAddr) = (Ipv4Addr::BROADCAST.into(), "ff02::1".parse()?);
    let all_nodes = [0x33, 0x33, 0, 0, 0, 1];
    let sender = a.capture(&a.device)?;
    for (mac, src, dst, word) in [
        (frames::BROADCAST, a.v4(), v4, b"to-all-4"),
        (all_nodes, a.v6(), v6, b"to-all-6"),
    ] {
        sender.send(&frames::udp(from, mac, (src, 9), (dst, 9), word)?)?;
        for (at, other) in &others {
            at.wait_for(&format!("a copy at {}", other.info.name), |f| {
                (!f.outgoing && f.bytes.ends_with(word)).then_some(())
            })?;
        }
        for (at, other) in &others {
            let more = at.drain()?;
            ensure!(
                !more.iter().any(|f| f.bytes.ends_with(word)),
                "{} got a second copy",
                other.info.name
            );
        }
    }
    Ok(())
}

#[test]
fn a_storm_is_cut_down_to_the_networks_limit() -> Result<()> {
    const SENT: u64 = 3_000;
    const RATE: u64 = 100;
    let lab = Lab::new("storm")?;
    let web = lab.network_with("web", &["--storm", "100"])?;
    assert_eq!(web.storm, 100);
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let from = frames::mac(&a.info.mac)?;
    let (sender, at_b) = (a.capture(&a.device)?, b.capture(&b.device)?);
    let before = (
        lab.node.stat("ep_out", Some("storm"))?,
        lab.node.stat("ep_out", None)?,
    );
    let start = Instant::now();
    let frame = frames::udp(
        from,
        frames::BROADCAST,
        (a.v4(), 9),
        (Ipv4Addr::BROADCAST.into(), 9),
        b"storm",
    )?;
    for _ in 0..SENT {
        sender.send(&frame)?;
    }
    let (dropped, passed) = wait::until("every frame to be counted", || {
        let dropped = lab.node.stat("ep_out", Some("storm"))? - before.0;
        let passed = lab.node.stat("ep_out", None)? - before.1;
        Ok((dropped + passed >= SENT).then_some((dropped, passed)))
    })?;
    // A second's worth at once, then the rate: however long it took.
    let most = RATE + start.elapsed().as_millis() as u64 * RATE / 1000 + 2;
    ensure!(passed <= most + 50, "{passed} passed, {most} may have");
    ensure!(dropped > 0, "nothing was dropped");
    let came = at_b.drain()?;
    let came = came.iter().filter(|f| f.bytes == frame).count() as u64;
    ensure!((1..=most).contains(&came), "{came} of {most} came");
    // Nobody is hurt: the stormy one included, where it is no flood.
    a.ping(b.v4())?;
    b.ping(a.v6())
}
