//! Endpoints of one network reach each other; what is known is answered, the rest is flooded; other
//! networks are closed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use netd_tests::both_modes;
use netd_tests::lab::capture::{Frame, RawSocket};
use netd_tests::lab::{AttachMode, Endpoint, Lab, Proto, frames, wait};

fn v4(host: &Endpoint) -> Result<Ipv4Addr> {
    match host.v4() {
        IpAddr::V4(addr) => Ok(addr),
        IpAddr::V6(_) => anyhow::bail!("not IPv4"),
    }
}

/// Frames with this UDP payload that a device received.
fn received(socket: &RawSocket, payload: &[u8]) -> Result<usize> {
    let frames = socket.drain()?;
    Ok(frames
        .iter()
        .filter(|f| !f.outgoing && f.bytes.ends_with(payload))
        .count())
}

fn endpoints_reach_each_other_by_ping_tcp_and_udp(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("pairs", mode)?;
    let web = lab.network("web")?;
    let [a, b, c] = ["a", "b", "c"].map(|name| lab.endpoint(name, &web));
    let (a, b, c) = (a?, b?, c?);
    for (from, to) in [(&a, &b), (&b, &a), (&c, &a)] {
        for (source, target) in [(from.v4(), to.v4()), (from.v6(), to.v6())] {
            from.ping(target)?;
            for proto in Proto::ALL {
                assert_eq!(from.source_seen_by(proto, to, target, 8080)?.ip(), source);
            }
        }
    }
    Ok(())
}

fn known_addresses_are_answered_without_asking_the_segment(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("answers", mode)?;
    let web = lab.network("web")?;
    let (a, b, c) = (
        lab.endpoint("a", &web)?,
        lab.endpoint("b", &web)?,
        lab.endpoint("c", &web)?,
    );
    let (at_b, at_c) = (b.capture(&b.device)?, c.capture(&c.device)?);
    a.ping(b.v4())?;
    a.ping(b.v6())?;
    let asks = |frame: &Frame| {
        // An ARP request; netd's answers to b carry a's MAC as well.
        let arp =
            frame.bytes.get(12..14) == Some(&[0x08, 0x06][..]) && frame.bytes.get(21) == Some(&1);
        // A neighbour solicitation; from nobody it is the check of an own, new address.
        arp || frame
            .packet()
            .is_some_and(|p| p.icmp == Some(135) && !p.src.is_unspecified())
    };
    let by_a = frames::mac(&a.info.mac)?;
    let from_a = |f: &&Frame| f.bytes.get(6..12) == Some(&by_a[..]) && asks(f);
    for (at, who) in [(at_b, "b"), (at_c, "c")] {
        let frames = at.drain()?;
        assert!(
            !frames.iter().any(|f| from_a(&f)),
            "{who} was asked about a neighbour: {frames:x?}"
        );
    }
    Ok(())
}

fn broadcast_multicast_and_unknown_frames_reach_every_other_port_once(
    mode: AttachMode,
) -> Result<()> {
    let lab = Lab::in_mode("flood", mode)?;
    let web = lab.network("web")?;
    let (a, b, c) = (
        lab.endpoint("a", &web)?,
        lab.endpoint("b", &web)?,
        lab.endpoint("c", &web)?,
    );
    let gateway = lab
        .node
        .capture(web.device.as_deref().context("no gateway device")?)?;
    let (at_a, at_b, at_c) = (
        a.capture(&a.device)?,
        b.capture(&b.device)?,
        c.capture(&c.device)?,
    );
    let from = frames::mac(&a.info.mac)?;
    let broadcast: IpAddr = Ipv4Addr::BROADCAST.into();
    let group: IpAddr = "224.0.0.251".parse()?;
    let stranger: IpAddr = "239.1.2.3".parse()?;
    for (mac, addr, payload) in [
        (frames::BROADCAST, broadcast, b"to-all"),
        (frames::mac("01:00:5e:00:00:fb")?, group, b"group-"),
        (frames::mac("02:de:ad:be:ef:01")?, stranger, b"nobody"),
    ] {
        let frame = frames::udp(from, mac, (a.v4(), 1000), (addr, 2000), payload)?;
        at_a.send(&frame)?;
        let text = String::from_utf8_lossy(payload);
        for (at, who) in [(&at_b, "b"), (&at_c, "c"), (&gateway, "the gateway")] {
            at.wait_for(&format!("{text} at {who}"), |f| {
                (!f.outgoing && f.bytes.ends_with(payload)).then_some(())
            })?;
        }
        // Every copy is made in one go: who has one has them all by now.
        b.ping(c.v4())?;
        assert_eq!(received(&at_b, payload)?, 0, "b got {text} twice");
        assert_eq!(received(&at_c, payload)?, 0, "c got {text} twice");
        assert_eq!(received(&at_a, payload)?, 0, "a got {text} back");
    }
    Ok(())
}

fn networks_are_closed_against_each_other(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("isolation", mode)?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &db)?);
    let before = lab.node.stat("ep_out", Some("isolated"))?;
    for to in [b.v4(), b.v6()] {
        a.ping_fails(to)?;
        let _server = b.serve_source(Proto::Udp, 53)?;
        a.ask_source_fails(Proto::Udp, SocketAddr::new(to, 53))?;
    }
    assert!(lab.node.stat("ep_out", Some("isolated"))? >= before + 4);
    // Nor by way of the other network's gateway address, and the own one still answers.
    a.ping(web.gateway(false)?)?;
    a.ping(web.gateway(true)?)?;
    Ok(())
}

both_modes! {
    endpoints_reach_each_other_by_ping_tcp_and_udp;
    known_addresses_are_answered_without_asking_the_segment;
    broadcast_multicast_and_unknown_frames_reach_every_other_port_once;
    networks_are_closed_against_each_other;
}

#[test]
fn networks_that_ask_for_it_talk_to_each_other() -> Result<()> {
    let lab = Lab::new("no-isolation")?;
    let open = lab.network_with("open", &["--no-isolation"])?;
    let also = lab.network_with("also", &["--no-isolation"])?;
    let closed = lab.network("closed")?;
    let (a, b, c) = (
        lab.endpoint("a", &open)?,
        lab.endpoint("b", &also)?,
        lab.endpoint("c", &closed)?,
    );
    for (to, from) in [(b.v4(), a.v4()), (b.v6(), a.v6())] {
        a.ping(to)?;
        assert_eq!(a.source_seen_by(Proto::Tcp, &b, to, 80)?.ip(), from);
    }
    a.ping_fails(c.v4())?;
    c.ping_fails(a.v6())
}

#[test]
fn an_internal_network_has_no_outside() -> Result<()> {
    let lab = Lab::new("internal")?;
    let inner = lab.network_with("inner", &["--internal"])?;
    let (a, b) = (lab.endpoint("a", &inner)?, lab.endpoint("b", &inner)?);
    for (peer, outside) in [(b.v4(), lab.outside.v4()), (b.v6(), lab.outside.v6())] {
        a.ping(peer)?;
        a.ping_fails(outside)?;
    }
    // An internal network may lack a default route altogether: then the endpoint itself refuses.
    if a.ok("ip", &["route", "show", "default"])?
        .contains("default")
    {
        assert!(lab.node.stat("ep_out", Some("internal"))? >= 2);
    }
    Ok(())
}

#[test]
fn a_network_without_gateway_is_a_segment_of_its_own() -> Result<()> {
    let lab = Lab::new("no-gateway")?;
    let bare = lab.network_with("bare", &["--gateway", "none"])?;
    assert!(bare.gateways.is_empty() && bare.device.is_none());
    let (a, b) = (lab.endpoint("a", &bare)?, lab.endpoint("b", &bare)?);
    a.ping(b.v4())?;
    a.ping(b.v6())?;
    a.ping_fails(lab.outside.v4())
}

#[test]
fn endpoints_get_the_networks_mtu_and_large_datagrams_pass() -> Result<()> {
    let lab = Lab::new("mtu")?;
    let small = lab.network_with("small", &["--mtu", "1400"])?;
    let (a, b) = (lab.endpoint("a", &small)?, lab.endpoint("b", &small)?);
    let link = a.ok("ip", &["-o", "link", "show", &a.device])?;
    assert!(link.contains("mtu 1400"), "{link}");
    for to in [b.v4(), b.v6()] {
        let to = SocketAddr::new(to, 9000);
        // In one packet, and in many fragments.
        a.udp_echo(&b, to, to, 1300)?;
        a.udp_echo(&b, to, to, 20_000)?;
        a.bulk_tcp(&b, to, to, 4)?;
    }
    assert_eq!(v4(&a)?.octets()[..3], v4(&b)?.octets()[..3]);
    Ok(())
}

#[test]
fn an_address_that_moves_to_another_endpoint_is_announced() -> Result<()> {
    let lab = Lab::new("announced")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let addresses = [a.v4(), a.v6()];
    for ip in addresses {
        b.ping(ip)?;
    }
    lab.node.netd_ok(&["detach", "a"])?;
    let [v4, v6] = addresses.map(|ip| ip.to_string());
    let c = lab.endpoint_with("c", &web, &["--ip", &v4, "--ip", &v6])?;
    assert_ne!(c.info.mac, a.info.mac);
    // `b` sends nothing: it is told.
    for ip in [v4, v6] {
        wait::until(&format!("the new MAC of {ip}"), || {
            let known = b.ok("ip", &["neigh", "show", &ip])?;
            Ok(known.contains(&c.info.mac).then_some(()))
        })?;
    }
    Ok(())
}
