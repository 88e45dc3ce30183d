//! What an endpoint may not send dies at its own device, with the reason counted; what is malformed
//! or denied dies on the uplink in XDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail};
use etherparse::{ArpOperation, EtherType};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Lab, Network, Node, frames, wait};

fn four(addr: IpAddr) -> Result<Ipv4Addr> {
    match addr {
        IpAddr::V4(a) => Ok(a),
        IpAddr::V6(_) => bail!("{addr} is not IPv4"),
    }
}

fn six(addr: IpAddr) -> Result<Ipv6Addr> {
    match addr {
        IpAddr::V6(a) => Ok(a),
        IpAddr::V4(_) => bail!("{addr} is not IPv6"),
    }
}

/// A frame whose fate is known: (what it is, the frame, the reason it dies of).
type Doomed = (&'static str, Vec<u8>, &'static str);

/// Frames of `a` that speak for somebody else.
#[expect(clippy::too_many_lines, reason = "a table")]
fn spoofed(lab: &Lab, web: &Network, a: &Endpoint, b: &Endpoint) -> Result<Vec<Doomed>> {
    let (mine, peer) = (frames::mac(&a.info.mac)?, frames::mac(&b.info.mac)?);
    let gateway = frames::mac(web.gateway_mac.as_deref().context("no gateway MAC")?)?;
    let stranger = [2, 0xde, 0xad, 0, 0, 1];
    let (own4, own6) = (four(a.v4())?, six(a.v6())?);
    let (peer4, peer6) = (four(b.v4())?, six(b.v6())?);
    let gateway4 = four(web.gateway(false)?)?;
    let gateway6 = six(web.gateway(true)?)?;
    let (to4, to6) = ((b.v4(), 9), (b.v6(), 9));
    let alien4: IpAddr = Ipv4Addr::new(198, 51, 100, 7).into();
    let alien6: IpAddr = "2001:db8:77::1".parse()?;
    let word = b"doomed";
    Ok(vec![
        (
            "foreign MAC",
            frames::udp(stranger, peer, (a.v4(), 9), to4, word)?,
            "spoofed_mac",
        ),
        (
            "foreign MAC, IPv6",
            frames::udp(stranger, peer, (a.v6(), 9), to6, word)?,
            "spoofed_mac",
        ),
        (
            "foreign address",
            frames::udp(mine, peer, (alien4, 9), to4, word)?,
            "spoofed_ip",
        ),
        (
            "foreign IPv6 address",
            frames::udp(mine, peer, (alien6, 9), to6, word)?,
            "spoofed_ip",
        ),
        (
            "the neighbour's address",
            frames::udp(mine, gateway, (b.v4(), 9), (lab.outside.v4(), 9), word)?,
            "spoofed_ip",
        ),
        (
            "the neighbour's IPv6 address",
            frames::udp(mine, gateway, (b.v6(), 9), (lab.outside.v6(), 9), word)?,
            "spoofed_ip",
        ),
        (
            "the gateway's address",
            frames::udp(mine, peer, (gateway4.into(), 9), to4, word)?,
            "spoofed_ip",
        ),
        (
            "ARP for the gateway",
            frames::arp(
                mine,
                frames::BROADCAST,
                ArpOperation::REPLY,
                (mine, gateway4),
                (peer, peer4),
            )?,
            "spoofed_arp",
        ),
        (
            "ARP for the neighbour",
            frames::arp(
                mine,
                frames::BROADCAST,
                ArpOperation::REQUEST,
                (mine, peer4),
                ([0; 6], gateway4),
            )?,
            "spoofed_arp",
        ),
        (
            "ARP with a foreign MAC inside",
            frames::arp(
                mine,
                peer,
                ArpOperation::REPLY,
                (stranger, own4),
                (peer, peer4),
            )?,
            "spoofed_arp",
        ),
        (
            "ND for the gateway",
            frames::advertisement(mine, own6, gateway6, mine)?,
            "spoofed_nd",
        ),
        (
            "ND for the neighbour",
            frames::advertisement(mine, own6, peer6, mine)?,
            "spoofed_nd",
        ),
        (
            "ND with a foreign MAC inside",
            frames::advertisement(mine, own6, own6, stranger)?,
            "spoofed_nd",
        ),
        (
            "a router's advertisement",
            frames::router_advertisement(mine, own6)?,
            "spoofed_nd",
        ),
        (
            "an unknown EtherType",
            frames::ethernet(mine, peer, EtherType(0x88b5), &[0; 60]),
            "ethertype",
        ),
    ])
}

/// Waits until exactly one more packet was dropped for a reason.
fn counted_once(node: &Node, hook: &str, reason: &str, before: u64, what: &str) -> Result<()> {
    wait::until(
        &format!("{reason} to be counted at {hook} for {what}"),
        || Ok((node.stat(hook, Some(reason))? > before).then_some(())),
    )?;
    assert_eq!(
        node.stat(hook, Some(reason))?,
        before + 1,
        "{what}: {reason} counted more than once"
    );
    Ok(())
}

fn spoofed_frames_are_dropped_with_their_reason(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("spoof", mode)?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let (mine, peer) = (frames::mac(&a.info.mac)?, frames::mac(&b.info.mac)?);
    let doomed = spoofed(&lab, &web, &a, &b)?;
    let (at_a, at_b) = (a.capture(&a.device)?, b.capture(&b.device)?);
    for (what, frame, reason) in doomed {
        let before = lab.node.stat("ep_out", Some(reason))?;
        at_a.send(&frame)?;
        counted_once(&lab.node, "ep_out", reason, before, what)?;
        let arrived = at_b
            .drain()?
            .iter()
            .any(|f| !f.outgoing && f.bytes == frame);
        assert!(!arrived, "{what} arrived");
    }
    // What is right still passes, by the same way.
    let right = frames::udp(mine, peer, (a.v4(), 9), (b.v4(), 9), b"right")?;
    at_a.send(&right)?;
    at_b.wait_for("the right frame", |f| {
        f.bytes.ends_with(b"right").then_some(())
    })
}

fn malformed_packets_of_an_endpoint_are_dropped(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("malformed", mode)?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let mine = frames::mac(&a.info.mac)?;
    // To the outside: inside a segment nobody looks behind the IP header.
    let gateway = frames::mac(web.gateway_mac.as_deref().context("no gateway MAC")?)?;
    let at_a = a.capture(&a.device)?;
    for (what, frame, reason) in malformed(mine, gateway, a.v4(), lab.outside.v4())? {
        let before = lab.node.stat("ep_out", Some(reason))?;
        at_a.send(&frame)?;
        counted_once(&lab.node, "ep_out", reason, before, what)?;
    }
    a.ping(b.v4())
}

fn malformed_packets_from_outside_die_in_xdp(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("xdp", mode)?;
    let (node, outside) = (&lab.node, &lab.outside);
    let wire = outside.capture(&outside.device)?;
    let (from, to) = (
        mac_of(outside, &outside.device)?,
        mac_of(node, &node.device)?,
    );
    for (what, frame, reason) in malformed(from, to, outside.v4(), node.v4())? {
        let before = node.stat("xdp", Some(reason))?;
        wire.send(&frame)?;
        counted_once(node, "xdp", reason, before, what)?;
    }
    outside.ping(node.v4())?;
    outside.ping(node.v6())?;
    assert!(node.stat("xdp", None)? > 0);
    Ok(())
}

both_modes! {
    spoofed_frames_are_dropped_with_their_reason;
    malformed_packets_of_an_endpoint_are_dropped;
    malformed_packets_from_outside_die_in_xdp;
}

/// Frames that lie about themselves.
fn malformed(src: frames::Mac, dst: frames::Mac, from: IpAddr, to: IpAddr) -> Result<Vec<Doomed>> {
    let good = frames::udp(src, dst, (from, 1000), (to, 9), &[7; 40])?;
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        if let Some(b) = frame.get_mut(at) {
            *b = byte;
        }
        frame
    };
    Ok(vec![
        (
            "an IPv4 header cut short",
            good.get(..24).context("short")?.to_vec(),
            "truncated",
        ),
        (
            "a version of 6 in an IPv4 frame",
            with(14, 0x65),
            "bad_header",
        ),
        ("an IPv4 header of 16 bytes", with(14, 0x44), "bad_header"),
        (
            "a total length beyond the frame",
            with(16, 0x40),
            "bad_length",
        ),
        // 48, and 4 of it left: 0 would be a jumbogram's.
        ("a UDP length of 4", with(39, 4), "bad_l4"),
        ("a UDP length beyond the packet", with(38, 1), "bad_l4"),
    ])
}

/// The MAC of a device, from `ip`.
fn mac_of(host: &netd_tests::lab::Host, device: &str) -> Result<frames::Mac> {
    let link = host.ok("ip", &["-o", "link", "show", device])?;
    let text = link
        .split("link/ether ")
        .nth(1)
        .and_then(|l| l.split(' ').next())
        .context("no MAC")?;
    frames::mac(text)
}

fn deny(xdp: &str) -> Result<()> {
    let config = format!("deny = [\"192.0.2.66/32\", \"2001:db8:1::66/127\"]\nxdp = \"{xdp}\"\n");
    let lab = Lab::builder("deny").config(&config).build()?;
    let (node, outside) = (&lab.node, &lab.outside);
    let status: netd_api::Status = node.netd_json(&["status"])?;
    let uplink = status.uplinks.first().context("no uplink")?;
    if xdp == "auto" {
        assert_ne!(uplink.xdp, "off");
    } else {
        assert_eq!(uplink.xdp, xdp);
    }
    outside.ip(
        "addr add 192.0.2.66/24 dev eth0\naddr add 2001:db8:1::66/64 dev eth0 nodad\n\
                addr add 192.0.2.67/24 dev eth0\naddr add 2001:db8:1::68/64 dev eth0 nodad\n",
    )?;
    for (to, denied, free) in [
        (node.v4(), "192.0.2.66", "192.0.2.67"),
        (node.v6(), "2001:db8:1::66", "2001:db8:1::68"),
    ] {
        outside.ping_with(to, &["-c", "1", "-W", "5", "-I", free])?;
        let before = node.stat("xdp", Some("denied"))?;
        assert!(
            outside
                .ping_with(to, &["-c", "3", "-i", "0.01", "-W", "1", "-I", denied])
                .is_err()
        );
        assert!(
            node.stat("xdp", Some("denied"))? >= before + 3,
            "{denied} is not counted"
        );
    }
    // Their packets are gone before anybody else sees them; the rest is not touched.
    outside.ping(node.v4())
}

#[test]
fn denied_sources_die_in_native_xdp() -> Result<()> {
    deny("native")
}

#[test]
fn denied_sources_die_in_generic_xdp() -> Result<()> {
    deny("generic")
}

#[test]
fn xdp_is_hooked_by_default() -> Result<()> {
    deny("auto")
}

#[test]
fn stats_name_every_reason_that_was_counted() -> Result<()> {
    let lab = Lab::new("stats")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let mine = frames::mac(&a.info.mac)?;
    let stranger = [2, 0xde, 0xad, 0, 0, 1];
    let frame = frames::udp(stranger, mine, (a.v4(), 9), (lab.outside.v4(), 9), b"x")?;
    a.capture(&a.device)?.send(&frame)?;
    wait::until("spoofed_mac in the statistics", || {
        Ok((lab.node.stat("ep_out", Some("spoofed_mac"))? == 1).then_some(()))
    })?;
    let lines: Vec<netd_api::StatLine> = lab.node.netd_json(&["stats"])?;
    let line = lines
        .iter()
        .find(|l| l.reason.as_deref() == Some("spoofed_mac"))
        .context("no line")?;
    assert_eq!(
        (line.hook.as_str(), line.verdict.as_str(), line.bytes),
        ("ep_out", "drop", frame.len() as u64)
    );
    let table = lab.node.netd_ok(&["stats"])?;
    assert!(
        table.contains("spoofed_mac") && table.contains("ep_out"),
        "{table}"
    );
    Ok(())
}

#[test]
fn unknown_ethertypes_and_vlan_tags_pass_only_where_the_network_says_so() -> Result<()> {
    let lab = Lab::new("ethertypes")?;
    let (plain, open) = (
        lab.network("plain")?,
        lab.network_with("open", &["--any-ethertype"])?,
    );
    for (network, passes) in [(&plain, false), (&open, true)] {
        let a = lab.endpoint(&format!("{}-a", network.name), network)?;
        let b = lab.endpoint(&format!("{}-b", network.name), network)?;
        let (from, to) = (frames::mac(&a.info.mac)?, frames::mac(&b.info.mac)?);
        let there = b.capture(&b.device)?;
        // A tag of id 0 is none to the receiver: what is behind it would pass unguarded.
        for (wrapping, passes) in [
            (&[0x88, 0xb5][..], passes),
            (&[0x81, 0, 0, 5, 0x88, 0xb5], passes),
            (&[0x81, 0, 0, 0, 0x88, 0xb5], false),
        ] {
            let before = lab.node.stat("ep_out", Some("ethertype"))?;
            let word = b"what nobody looks into, long enough for a frame of the least length";
            a.capture(&a.device)?
                .send(&[&to[..], &from, wrapping, word].concat())?;
            if passes {
                // The kernel has taken the tag out of the bytes.
                there.wait_for("the frame", |f| f.bytes.ends_with(word).then_some(()))?;
            } else {
                wait::until("the drop", || {
                    let now = lab.node.stat("ep_out", Some("ethertype"))?;
                    Ok((now == before + 1).then_some(()))
                })?;
            }
        }
    }
    Ok(())
}
