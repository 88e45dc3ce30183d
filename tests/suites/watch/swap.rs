//! The programs that tell come and go under traffic: no packet is lost, and nothing stays behind.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use netd_tests::lab::{AttachMode, Host, Lab, kernel_at_least};
use nix::sys::signal::Signal;

use super::monitor::Watch;

/// Between two packets of a stream: the daemon, which loads programs meanwhile, is to have a turn, too.
const PACE: Duration = Duration::from_micros(300);

/// Numbers there and back, one at a time, until `over`; how many.
fn numbered(from: &Host, to: &Host, at: SocketAddr, over: &AtomicBool) -> Result<u32> {
    let any = if at.is_ipv4() { "0.0.0.0" } else { "::" };
    let there = to.udp_bind(at.ip(), at.port())?;
    let here = from.udp_bind(any.parse::<std::net::IpAddr>()?, 0)?;
    for socket in [&there, &here] {
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    }
    let mut n = 0u32;
    while !over.load(Ordering::Relaxed) {
        here.send_to(&n.to_be_bytes(), at)?;
        let mut got = [0; 4];
        let (_, peer) = there
            .recv_from(&mut got)
            .with_context(|| format!("{n} is lost"))?;
        ensure!(got == n.to_be_bytes(), "{n} went out, {got:?} came");
        there.send_to(&got, peer)?;
        here.recv(&mut got)
            .with_context(|| format!("the answer to {n} is lost"))?;
        ensure!(got == n.to_be_bytes(), "{n} was answered by {got:?}");
        n += 1;
        thread::sleep(PACE);
    }
    Ok(n)
}

fn pins(lab: &Lab) -> BTreeSet<String> {
    fn walk(dir: &std::path::Path, all: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            all.insert(entry.path().display().to_string());
            walk(&entry.path(), all);
        }
    }
    let mut all = BTreeSet::new();
    walk(&lab.node.bpf_dir(), &mut all);
    all
}

fn no_packet_is_lost(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("swap", mode)?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    // What waits for an idle daemon shall not move meanwhile.
    let before = pins(&lab);
    let over = AtomicBool::new(false);
    let outside = &lab.outside;
    let streams: [(&Host, &Host, SocketAddr); 4] = [
        (&a, &b, SocketAddr::new(b.v4(), 7001)),
        (&a, &b, SocketAddr::new(b.v6(), 7002)),
        (&a, outside, SocketAddr::new(outside.v4(), 7003)),
        (&a, outside, SocketAddr::new(outside.v6(), 7004)),
    ];
    thread::scope(|scope| -> Result<()> {
        let over = &over;
        let running =
            streams.map(|(from, to, at)| scope.spawn(move || numbered(from, to, at, over)));
        let bulk = scope.spawn(|| {
            let at = SocketAddr::new(outside.v4(), 7005);
            while !over.load(Ordering::Relaxed) {
                a.bulk_tcp(outside, at, at, 4)?;
                thread::sleep(20 * PACE);
            }
            anyhow::Ok(())
        });
        let watched = (0..3).try_for_each(|_| -> Result<()> {
            let watch = Watch::start(&lab.node, &["monitor", "-o", "json"])?;
            watch.end().map(drop)
        });
        over.store(true, Ordering::Relaxed);
        for stream in running {
            let n = stream.join().map_err(|_| anyhow!("a stream panicked"))??;
            ensure!(n > 100, "only {n} packets met three watchers");
        }
        bulk.join().map_err(|_| anyhow!("a transfer panicked"))??;
        watched
    })?;
    lab.node.wait_log("nobody watches any more")?;
    let settled = |pins: BTreeSet<String>| -> BTreeSet<String> {
        pins.into_iter()
            .filter(|p| !p.contains("/links/nde"))
            .collect()
    };
    let now = netd_tests::lab::wait::until("the pins of before", || {
        let now = settled(pins(&lab));
        Ok((now == settled(before.clone())).then_some(now))
    });
    now.with_context(|| format!("{before:#?} became {:#?}", pins(&lab)))?;
    Ok(())
}

#[test]
fn no_packet_is_lost_over_tcx_links() -> Result<()> {
    if !kernel_at_least(6, 6) {
        println!("SKIP: the kernel has no TCX (Linux 6.6)");
        return Ok(());
    }
    no_packet_is_lost(AttachMode::Tcx)
}

#[test]
fn no_packet_is_lost_over_clsact_filters() -> Result<()> {
    no_packet_is_lost(AttachMode::Clsact)
}

#[test]
fn a_daemon_that_dies_while_somebody_watches_goes_on_without() -> Result<()> {
    let lab = Lab::new("died")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let mut watch = Watch::start(&lab.node, &["monitor", "-o", "json"])?;
    lab.node.stop(Signal::SIGKILL)?;
    let status = watch.running.wait()?;
    ensure!(status.code() == Some(1), "the monitor ended with {status}");
    // The programs that tell are still hooked, and nobody reads.
    for ip in [lab.outside.v4(), lab.outside.v6()] {
        a.ping(ip)?;
    }
    lab.node.start()?;
    for ip in [lab.outside.v4(), lab.outside.v6()] {
        a.ping(ip)?;
    }
    let stages = pins(&lab)
        .into_iter()
        .filter(|p| p.contains("/stages/"))
        .count();
    ensure!(stages == 1, "stages of {stages} loads are left");
    let watch = Watch::start(&lab.node, &["monitor", "-o", "json"])?;
    a.ping(lab.outside.v4())?;
    watch.until("the echo's flow", |told| {
        matches!(told, netd_api::Told::Opened(_))
    })?;
    watch.end()?;
    Ok(())
}

#[test]
fn an_endpoint_that_comes_while_somebody_watches_is_watched() -> Result<()> {
    let lab = Lab::new("came")?;
    let web = lab.network("web")?;
    let watch = Watch::start(&lab.node, &["monitor", "-o", "json"])?;
    let a = lab.endpoint("a", &web)?;
    a.ping(lab.outside.v6())?;
    let told = watch.until("its flow", |told| matches!(told, netd_api::Told::Opened(_)))?;
    let netd_api::Told::Opened(flow) = told else {
        unreachable!()
    };
    ensure!(flow.endpoint.as_deref() == Some("a"), "{flow:?}");
    watch.end()?;
    lab.node.netd_ok(&["detach", "a"])?;
    Ok(())
}
