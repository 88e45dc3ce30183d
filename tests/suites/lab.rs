//! The lab itself: its hosts, its tools and its assertions work, and the assertions can fail.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::Result;
use netd_tests::lab::foreign::{Foreign, ForeignHook, Side};
use netd_tests::lab::untouched::{Untouched, check_no_bridge};
use netd_tests::lab::{Host, Lab, Proto, netns};

fn bare(name: &str) -> Result<Lab> {
    Lab::builder(name).without_daemon().build()
}

#[test]
fn node_and_outside_reach_each_other_by_real_tools() -> Result<()> {
    let lab = bare("plain")?;
    let (node, outside) = (&lab.node, &lab.outside);
    for (to, from) in [(outside.v4(), node.v4()), (outside.v6(), node.v6())] {
        node.ping(to)?;
        for proto in Proto::ALL {
            let seen = node.source_seen_by(proto, outside, to, 8080)?;
            assert_eq!(seen.ip(), from);
        }
    }
    let chosen = {
        let _server = outside.serve_source(Proto::Udp, 9)?;
        node.ask_source_from_port(Proto::Udp, SocketAddr::new(outside.v4(), 9), 4321)?
    };
    assert_eq!(chosen.port(), 4321);
    Ok(())
}

#[test]
fn what_must_not_answer_is_told_apart() -> Result<()> {
    let lab = bare("silent")?;
    let nobody: IpAddr = "192.0.2.77".parse()?;
    lab.node.ping_fails(nobody)?;
    assert!(lab.node.ping_fails(lab.outside.v4()).is_err());
    lab.node
        .ask_source_fails(Proto::Udp, SocketAddr::new(lab.outside.v4(), 7))?;
    Ok(())
}

#[test]
fn bulk_transfers_are_compared_and_seen() -> Result<()> {
    let lab = bare("bulk")?;
    let (node, outside) = (&lab.node, &lab.outside);
    let capture = outside.capture(&outside.device)?;
    for to in [outside.v4(), outside.v6()] {
        let to = SocketAddr::new(to, 9000);
        node.bulk_tcp(outside, to, to, 2)?;
        node.udp_echo(outside, to, to, 1400)?;
    }
    let frames = capture.drain()?;
    let tcp = |f: &&netd_tests::lab::capture::Frame| {
        f.packet().is_some_and(|p| p.proto == 6 && p.dport == 9000)
    };
    let (count, bytes) = frames
        .iter()
        .filter(tcp)
        .fold((0, 0), |(n, b), f| (n + 1, b + f.len));
    assert!(bytes > 4 << 20, "{bytes}");
    assert!(
        bytes / count > 1600,
        "large segments stay whole: {bytes} bytes in {count}"
    );
    Ok(())
}

#[test]
fn a_foreign_program_counts_exactly_what_the_device_carries() -> Result<()> {
    let lab = bare("foreign")?;
    // IPv6 speaks by itself, also between two looks at the counters.
    let quiet = |value: &str| -> Result<()> {
        for host in [&lab.node as &Host, &lab.outside] {
            let setting = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", host.device);
            host.ok("sh", &["-c", &format!("echo {value} > {setting}")])?;
        }
        Ok(())
    };
    quiet("1")?;
    for hook in [ForeignHook::Tcx, ForeignHook::Clsact] {
        if hook == ForeignHook::Tcx && !netd_tests::lab::kernel_at_least(6, 6) {
            println!("SKIP: TCX needs Linux 6.6");
            continue;
        }
        let (rx, tx) = (
            Foreign::attach(&lab, &lab.node.device, Side::Ingress, hook)?,
            Foreign::attach(&lab, &lab.node.device, Side::Egress, hook)?,
        );
        let capture = lab.node.capture(&lab.node.device)?;
        lab.node
            .ping_with(lab.outside.v4(), &["-c", "20", "-i", "0.002"])?;
        let frames = capture.drain()?;
        let sent = frames.iter().filter(|f| f.outgoing).count() as u64;
        let received = frames.len() as u64 - sent;
        assert!(sent >= 20 && received >= 20);
        assert_eq!((tx.packets()?, rx.packets()?), (sent, received), "{hook:?}");
    }
    quiet("0")
}

#[test]
fn the_assertions_about_the_node_can_fail() -> Result<()> {
    let lab = bare("assertions")?;
    let node = &lab.node;
    let before = Untouched::record(node)?;
    before.check(node)?;
    assert!(before.sysctls() > 100, "only {} sysctls", before.sysctls());

    node.ns.enter(|| {
        Ok(std::fs::write(
            "/proc/sys/net/ipv6/conf/all/forwarding",
            "1",
        )?)
    })?;
    let error = before.check_sysctls(node).unwrap_err().to_string();
    assert!(error.contains("forwarding"), "{error}");
    node.ns.enter(|| {
        Ok(std::fs::write(
            "/proc/sys/net/ipv6/conf/all/forwarding",
            "0",
        )?)
    })?;

    if node
        .run("nft", &["add", "table", "inet", "x"])?
        .success()
        .is_ok()
    {
        assert!(before.check_netfilter(node).is_err());
        node.ok("nft", &["delete", "table", "inet", "x"])?;
    } else {
        println!("SKIP: nftables");
    }

    node.ok("ip", &["link", "add", "br0", "type", "bridge"])?;
    assert!(check_no_bridge(node).is_err());
    node.ok("ip", &["link", "del", "br0"])?;
    before.check(node)
}

#[test]
fn a_dropped_lab_leaves_nothing() -> Result<()> {
    let lab = bare("gone")?;
    let (dir, id) = (lab.dir(), lab.id().clone());
    let _server = lab.outside.serve_source(Proto::Tcp, 80)?;
    let mut left_running = std::mem::ManuallyDrop::new(netd_tests::lab::process::Running::start(
        lab.node.command("sleep").arg("1000"),
    )?);
    lab.namespace("more")?;
    drop(lab);
    assert!(!dir.exists());
    assert!(!netns::list().iter().any(|n| n.starts_with(&id.ns(""))));
    assert!(!Path::new("/sys/fs/cgroup").join(id.cgroup()).exists());
    assert!(
        left_running.ended()?.is_some(),
        "a process of the lab still runs"
    );
    Ok(())
}
