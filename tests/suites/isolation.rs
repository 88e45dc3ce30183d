//! What is not open stays closed, whichever way a packet tries.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use etherparse::EtherType;
use netd_tests::both_modes;
use netd_tests::lab::frames::{self, Mac};
use netd_tests::lab::{AttachMode, Host, Lab, Proto, wait};

fn mac_of(host: &Host) -> Result<Mac> {
    let link = host.ok("ip", &["-o", "link", "show", &host.device])?;
    let address = link.split("link/ether ").nth(1);
    let address = address.and_then(|rest| rest.split(' ').next());
    frames::mac(address.context("no MAC")?)
}

/// A frame that must die of a reason: what it is, the frame, the reason.
type Trick = (&'static str, Vec<u8>, &'static str);

/// Waits until each of these frames has been counted, by one.
fn each_is_dropped(lab: &Lab, from: &Host, hook: &str, tricks: &[Trick]) -> Result<()> {
    let wire = from.capture(&from.device)?;
    for (what, frame, reason) in tricks {
        let before = lab.node.stat(hook, Some(reason))?;
        wire.send(frame)?;
        wait::until(&format!("{what} to be counted as {reason}"), || {
            let now = lab.node.stat(hook, Some(reason))?;
            Ok((now == before + 1).then_some(()))
        })?;
    }
    Ok(())
}

/// A frame with a VLAN tag of id 0.
fn priority_tagged(frame: &[u8]) -> Vec<u8> {
    let (macs, rest) = frame.split_at(12);
    [macs, &[0x81, 0, 0xe0, 0], rest].concat()
}

/// A UDP datagram behind more extension headers than netd follows.
fn behind_options(src: Mac, dst: Mac, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    const HEADERS: u8 = 6;
    let payload = [0, 9, 0, 80, 0, 8, 0, 0];
    let length = (usize::from(HEADERS) * 8 + payload.len()) as u16;
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([60, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    for i in 1..=HEADERS {
        let next = if i == HEADERS { 17 } else { 60 };
        packet.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    packet.extend(payload);
    frames::ethernet(src, dst, EtherType::IPV6, &packet)
}

fn six(ip: IpAddr) -> Result<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Ok(ip),
        IpAddr::V4(ip) => anyhow::bail!("{ip} is not IPv6"),
    }
}

#[expect(clippy::too_many_lines, reason = "one trick after the other")]
fn a_port_on_loopback_is_not_reached_by_any_trick(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("loopback", mode)?;
    let web = lab.network("web")?;
    let server = lab.endpoint("server", &web)?;
    let other = lab.endpoint("other", &web)?;
    for spec in ["127.0.0.1:8080:80/udp", "[::1]:8080:80/udp", "8081:81/udp"] {
        lab.publish("server", spec)?;
    }
    let quiet = [
        server.udp_bind(server.v4(), 80)?,
        server.udp_bind(server.v6(), 80)?,
    ];
    // Somebody else has opened the node to such packets.
    let localnet = |value: &str| {
        let name = format!("net.ipv4.conf.{}.route_localnet={value}", lab.node.device);
        lab.node.ok("sysctl", &["-w", &name])
    };
    localnet("1")?;

    let (src, dst) = (mac_of(&lab.outside)?, mac_of(&lab.node)?);
    let udp = |from: &str, to: &str, port: u16| -> Result<Vec<u8>> {
        frames::udp(
            src,
            dst,
            (from.parse()?, 999),
            (to.parse()?, port),
            b"trick",
        )
    };
    let (out4, out6) = (lab.outside.v4().to_string(), lab.outside.v6().to_string());
    let (node4, node6) = (lab.node.v4().to_string(), lab.node.v6().to_string());
    each_is_dropped(
        &lab,
        &lab.outside,
        "up_in",
        &[
            (
                "127.0.0.1 on the wire",
                udp(&out4, "127.0.0.1", 8080)?,
                "martian",
            ),
            (
                "127.1.2.3 on the wire",
                udp(&out4, "127.1.2.3", 8080)?,
                "martian",
            ),
            ("::1 on the wire", udp(&out6, "::1", 8080)?, "martian"),
            (
                "a source of 127.0.0.1",
                udp("127.0.0.1", &node4, 8081)?,
                "martian",
            ),
            (
                "both 127.0.0.1",
                udp("127.0.0.1", "127.0.0.1", 8080)?,
                "martian",
            ),
            ("a source of ::1", udp("::1", &node6, 8081)?, "martian"),
            (
                "127.0.0.1 in IPv6",
                udp(&out6, "::ffff:127.0.0.1", 8080)?,
                "martian",
            ),
            (
                "the node's IPv4 address in IPv6",
                udp(&out6, &format!("::ffff:{node4}"), 8081)?,
                "martian",
            ),
        ],
    )?;
    for node in [&node4, &node6] {
        let to = SocketAddr::new(node.parse()?, 8080);
        lab.outside.ask_source_fails(Proto::Udp, to)?;
        other.ask_source_fails(Proto::Udp, to)?;
    }
    let inside = frames::mac(&other.info.mac)?;
    let gateway = frames::mac(web.gateway_mac.as_deref().context("no gateway MAC")?)?;
    let from_other = |from: IpAddr, to: &str| -> Result<Vec<u8>> {
        frames::udp(inside, gateway, (from, 999), (to.parse()?, 8080), b"trick")
    };
    each_is_dropped(
        &lab,
        &other,
        "ep_out",
        &[
            (
                "127.0.0.1 of an endpoint",
                from_other(other.v4(), "127.0.0.1")?,
                "martian",
            ),
            (
                "::1 of an endpoint",
                from_other(other.v6(), "::1")?,
                "martian",
            ),
        ],
    )?;
    localnet("0")?;
    for socket in quiet {
        socket.set_nonblocking(true)?;
        let mut buffer = [0; 64];
        ensure!(socket.recv_from(&mut buffer).is_err(), "a trick worked");
    }
    // What is open is open.
    let _server = server.serve_source(Proto::Udp, 81)?;
    for node in [node4, node6] {
        let to = SocketAddr::new(node.parse()?, 8081);
        lab.outside.ask_source(Proto::Udp, to)?;
    }
    Ok(())
}

fn an_endpoints_own_address_is_not_reached_by_any_trick(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("direct", mode)?;
    let web = lab.network("web")?;
    let server = lab.endpoint("server", &web)?;
    lab.publish("server", "8080:80/udp")?;
    let quiet = [
        server.udp_bind(server.v4(), 80)?,
        server.udp_bind(server.v6(), 80)?,
    ];
    let (src, dst) = (mac_of(&lab.outside)?, mac_of(&lab.node)?);
    let mut tricks = Vec::new();
    for (from, to) in [
        (lab.outside.v4(), server.v4()),
        (lab.outside.v6(), server.v6()),
    ] {
        let plain = frames::udp(src, dst, (from, 999), (to, 80), b"trick")?;
        tricks.push(("a VLAN tag of 0", priority_tagged(&plain), "unpublished"));
        tricks.push(("the address itself", plain, "unpublished"));
    }
    let options = behind_options(src, dst, six(lab.outside.v6())?, six(server.v6())?);
    tricks.push(("many extension headers", options, "unpublished"));
    each_is_dropped(&lab, &lab.outside, "up_in", &tricks)?;
    for socket in quiet {
        socket.set_nonblocking(true)?;
        let mut buffer = [0; 64];
        ensure!(socket.recv_from(&mut buffer).is_err(), "a trick worked");
    }
    Ok(())
}

fn networks_do_not_reach_each_other_by_any_way(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("ways", mode)?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &db)?);
    let servers = [
        b.serve_source(Proto::Tcp, 80)?,
        b.serve_source(Proto::Udp, 80)?,
    ];
    for (own, to) in [(a.v4(), b.v4()), (a.v6(), b.v6())] {
        a.ping_fails(to)?;
        for proto in Proto::ALL {
            a.ask_source_fails(proto, SocketAddr::new(to, 80))?;
        }
        // By the other network's gateway, as a next hop on one's own segment.
        let mine = frames::mac(&a.info.mac)?;
        let theirs = frames::mac(db.gateway_mac.as_deref().context("no gateway MAC")?)?;
        let inside = b.capture(&b.info.ifname)?;
        let wire = a.capture(&a.info.ifname)?;
        for mac in [theirs, frames::mac(&b.info.mac)?] {
            wire.send(&frames::udp(mine, mac, (own, 999), (to, 80), b"trick")?)?;
        }
        // Nothing of it has come when something that was sent later has.
        lab.node.ping(to)?;
        for frame in inside.drain()? {
            ensure!(!frame.bytes.ends_with(b"trick"), "by a foreign MAC");
        }
    }
    ensure!(lab.node.stat("ep_out", Some("isolated"))? >= 6);
    drop(servers);
    Ok(())
}

both_modes! {
    a_port_on_loopback_is_not_reached_by_any_trick;
    an_endpoints_own_address_is_not_reached_by_any_trick;
    networks_do_not_reach_each_other_by_any_way;
}
