//! `netd capture`: what it writes is what happened, and other tools read it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use netd_api::Told;
use netd_tests::lab::topology::{OUTSIDE_DEVICE, UPLINK};
use netd_tests::lab::{Lab, process, wait};

use super::monitor::Watch;

/// Lines of a file as tshark reads it: `FIELD|FIELD...` of the packets a display filter takes.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("tshark");
    command
        .arg("-n")
        .arg("-r")
        .arg(file)
        .args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let text = process::run(&mut command)?.success()?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[test]
fn tshark_reads_a_masqueraded_packet_and_a_drop_with_what_became_of_them() -> Result<()> {
    let lab = Lab::new("captured")?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &db)?);
    let file = lab.dir().join("a.pcapng");
    let path = file.to_str().context("a path")?;
    let watch = Watch::start(&lab.node, &["capture", "a", "-w", path])?;
    let everything = Watch::start(&lab.node, &["capture", "a", "-o", "json"])?;
    for (ip, isolated) in [(lab.outside.v4(), b.v4()), (lab.outside.v6(), b.v6())] {
        let at = SocketAddr::new(ip, 9000);
        a.udp_echo(&lab.outside, at, at, 333)?;
        a.ping_fails(isolated)?;
        everything.until("the drop", |told| match told {
            Told::Packet(p) => p.reason.is_some() && p.ends.dst == Some(isolated),
            _ => false,
        })?;
    }
    everything.end()?;
    let said = watch.end()?;
    ensure!(said.contains("packets captured, 0 events lost"), "{said}");
    let fields = [
        "frame.interface_name",
        "frame.comment",
        "frame.len",
        "udp.srcport",
    ];
    for (own, ip, isolated) in [
        (a.v4(), lab.outside.v4(), b.v4()),
        (a.v6(), lab.outside.v6(), b.v6()),
    ] {
        let family = if ip.is_ipv4() { "ip" } else { "ipv6" };
        // To the outside, as the endpoint sent it: the comment has both tuples.
        let out = tshark(
            &file,
            &format!("{family}.src == {own} && udp.dstport == 9000"),
            &fields,
        )?;
        ensure!(out.len() == 1, "{out:?}");
        let cells: Vec<&str> = out[0].split('|').collect();
        let from = SocketAddr::new(own, cells[3].parse()?);
        ensure!(cells[0] == format!("{}:ep_out", a.info.device), "{out:?}");
        ensure!(cells[1].starts_with("ep_out: redirected to "), "{out:?}");
        let at = SocketAddr::new(ip, 9000);
        let nat = format!("; endpoint a; network web; NAT {from} > {at} -> ");
        ensure!(cells[1].contains(&nat), "{nat:?} is not in {out:?}");
        let len = if ip.is_ipv4() {
            14 + 20 + 8 + 333
        } else {
            14 + 40 + 8 + 333
        };
        ensure!(cells[2] == len.to_string(), "{out:?}");
        // The answer as it came to the uplink.
        let back = tshark(
            &file,
            &format!("{family}.src == {ip} && udp.srcport == 9000"),
            &fields,
        )?;
        ensure!(back.len() == 1, "{back:?}");
        ensure!(back[0].contains(&format!("-> {at} > {from}")), "{back:?}");
        ensure!(back[0].contains("up_in: redirected to"), "{back:?}");
        // The drop.
        let dropped = tshark(&file, &format!("{family}.dst == {isolated}"), &fields)?;
        ensure!(!dropped.is_empty(), "the drop is not in the file");
        ensure!(
            dropped[0].contains("ep_out: dropped: isolated; endpoint a"),
            "{dropped:?}"
        );
    }
    // Nanoseconds: a time that is a whole number of microseconds each time would be chance.
    let times = tshark(&file, "frame", &["frame.time_epoch"])?;
    ensure!(times.iter().any(|t| !t.ends_with("000")), "{times:?}");
    Ok(())
}

#[test]
fn a_filter_a_count_and_a_snap_length_are_kept() -> Result<()> {
    let lab = Lab::new("filtered")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let file = lab.dir().join("web.pcapng");
    let path = file.to_str().context("a path")?;
    let args = [
        "capture",
        "web",
        "-w",
        path,
        "--count",
        "3",
        "--snaplen",
        "60",
    ];
    let filter = [
        "udp",
        "port",
        "7001",
        "and",
        "src",
        "host",
        &a.v4().to_string(),
    ];
    let mut watch = Watch::start(&lab.node, &[&args[..], &filter[..]].concat())?;
    let (here, there) = (a.udp_bind(a.v4(), 6000)?, b.udp_bind(b.v4(), 7001)?);
    let other = b.udp_bind(b.v4(), 7002)?;
    let mut buffer = [0; 2000];
    for n in 0..3u8 {
        for (socket, port) in [(&other, 7002), (&there, 7001)] {
            here.send_to(&vec![n; 1000], SocketAddr::new(b.v4(), port))?;
            socket.recv_from(&mut buffer).context("the datagram")?;
        }
        there.send_to(&[n], SocketAddr::new(a.v4(), 6000))?;
        here.recv_from(&mut buffer).context("the answer")?;
    }
    let status = watch.running.wait()?;
    ensure!(status.code() == Some(0), "{status}");
    let all = tshark(
        &file,
        "frame",
        &["frame.len", "frame.cap_len", "udp.dstport"],
    )?;
    ensure!(all == ["1042|60|7001"; 3], "{all:?}");
    let wrong = lab.node.netd(&["capture", "web", "port", "nonsense"])?;
    ensure!(
        wrong.code == Some(1) && wrong.stderr.contains("nonsense"),
        "{wrong:?}"
    );
    let nobody = lab.node.netd(&["capture", "nobody"])?;
    ensure!(
        nobody.code == Some(1) && nobody.stderr.contains("nobody"),
        "{nobody:?}"
    );
    Ok(())
}

#[test]
fn an_uplink_shows_what_comes_and_goes_by_it() -> Result<()> {
    let lab = Lab::new("uplinked")?;
    let uplink = lab.node.netd_json::<netd_api::Status>(&["status"])?.uplinks;
    let uplink = uplink.first().context("an uplink")?.device.clone();
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let watch = Watch::start(&lab.node, &["capture", &uplink, "-o", "json"])?;
    for ip in [lab.outside.v4(), lab.outside.v6()] {
        a.ping(ip)?;
        for (hook, outward) in [
            ("ep_out", true),
            ("up_out", true),
            ("xdp", false),
            ("up_in", false),
        ] {
            watch.until(hook, |told| match told {
                Told::Packet(p) => {
                    let end = if outward { p.ends.dst } else { p.ends.src };
                    p.hook == hook && p.proto.starts_with("icmp") && end == Some(ip)
                }
                _ => false,
            })?;
        }
    }
    watch.end()?;
    Ok(())
}

#[test]
fn a_capture_follows_an_uplink_that_is_made_anew() -> Result<()> {
    let lab = Lab::new("anew")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let watch = Watch::start(&lab.node, &["capture", UPLINK, "-o", "json"])?;
    let known = || {
        let log = lab.node.log();
        let taken = log
            .lines()
            .filter(|l| l.contains("uplink up0 ") && l.contains("IPv4"));
        let taken: Vec<&str> = taken.collect();
        let whole = taken.last().is_some_and(|l| !l.contains("none"));
        (taken.len(), whole)
    };
    let (before, _) = known();
    let (node, outside) = (&lab.node, &lab.outside);
    node.ip(&format!(
        "link del {UPLINK}\n\
         link add {UPLINK} type veth peer name {OUTSIDE_DEVICE} netns {}\n\
         addr add {}/24 brd + dev {UPLINK}\n\
         addr add {}/64 dev {UPLINK} nodad\n\
         link set {UPLINK} up\n",
        outside.ns.name(),
        node.v4(),
        node.v6(),
    ))?;
    outside.ip(&format!(
        "addr add {}/24 brd + dev {OUTSIDE_DEVICE}\n\
         addr add {}/64 dev {OUTSIDE_DEVICE} nodad\n\
         link set {OUTSIDE_DEVICE} up\n",
        outside.v4(),
        outside.v6(),
    ))?;
    for ip in [outside.v4(), outside.v6()] {
        node.ip(&format!("route add default via {ip} dev {UPLINK}\n"))?;
    }
    wait::until("the uplink", || {
        let (taken, whole) = known();
        Ok((taken > before && whole).then_some(()))
    })?;
    for ip in [outside.v4(), outside.v6()] {
        a.ping(ip)?;
        for hook in ["xdp", "up_in"] {
            watch.until(hook, |told| match told {
                Told::Packet(p) => p.hook == hook && p.ends.src == Some(ip),
                _ => false,
            })?;
        }
    }
    watch.end()?;
    Ok(())
}
