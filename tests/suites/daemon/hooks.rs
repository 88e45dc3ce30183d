//! Endpoint devices begin with clsact and move on to TCX when the daemon is idle: no packet is lost, and
//! what has moved stays.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use netd_tests::lab::{Endpoint, Lab, kernel_at_least};
use nix::sys::signal::Signal;

/// The one generation directory's pin of an endpoint's outgoing hook: a link, or a filter's program.
fn pin(lab: &Lab, endpoint: &Endpoint, name: &str) -> PathBuf {
    let device = endpoint.info.device.replace('.', "%");
    let bpf = lab.node.bpf_dir();
    let generation = std::fs::read_dir(&bpf).into_iter().flatten().flatten();
    let generation = generation
        .map(|e| e.path())
        .find(|p| p.join("links").is_dir());
    generation
        .unwrap_or(bpf)
        .join("links")
        .join(device)
        .join(name)
}

fn has_moved(lab: &Lab, endpoint: &Endpoint) -> bool {
    pin(lab, endpoint, "netd_ep_out").exists() && !pin(lab, endpoint, "netd_ep_out_filter").exists()
}

#[test]
fn an_idle_daemon_moves_its_endpoints_to_tcx_without_losing_a_packet() -> Result<()> {
    let lab = Lab::new("moves")?;
    if !kernel_at_least(6, 6) {
        println!("SKIP: the kernel has no TCX (Linux 6.6)");
        return Ok(());
    }
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let (from, to) = (a.udp_bind(a.v4(), 7001)?, b.udp_bind(b.v4(), 7002)?);
    to.set_read_timeout(Some(Duration::from_secs(5)))?;
    from.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut after = 0u32;
    for n in 0u32.. {
        let number = n.to_be_bytes();
        from.send_to(&number, SocketAddr::new(b.v4(), 7002))?;
        let mut got = [0; 4];
        let (_, peer) = to
            .recv_from(&mut got)
            .with_context(|| format!("{n} is lost"))?;
        ensure!(got == number, "{n} went out, {got:?} came");
        to.send_to(&number, peer)?;
        from.recv(&mut got)
            .with_context(|| format!("the answer to {n} is lost"))?;
        after += u32::from(has_moved(&lab, &a) && has_moved(&lab, &b));
        if after == 100 {
            break;
        }
        if n == 2_000_000 {
            bail!("the endpoints have not moved");
        }
    }
    lab.node.restart(Signal::SIGKILL)?;
    ensure!(has_moved(&lab, &a), "a restart keeps the link");
    a.ping(b.v6())?;
    lab.node.netd_ok(&["detach", "a"])?;
    ensure!(!pin(&lab, &a, "netd_ep_out").exists(), "a pin is left");
    Ok(())
}
