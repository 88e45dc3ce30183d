//! Senders learn what their way carries, where it is the uplink, a network or a link far away.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context as _, Result, ensure};
use netd_common::split::LARGEST;
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Host, Lab, wait};

use crate::{FAMILIES, any, beyond, set};

/// What the small link of a way carries.
const SMALL: u32 = 1300;

/// A socket whose datagrams must not be fragmented, connected.
fn unfragmented(host: &Host, to: SocketAddr) -> Result<UdpSocket> {
    let any = any(to.ip());
    let socket = host.udp_bind(any, 0)?;
    let (level, name, value) = if to.is_ipv4() {
        (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DO,
        )
    } else {
        (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DO,
        )
    };
    set_option(&socket, level, name, &value)?;
    socket.connect(to)?;
    Ok(socket)
}

/// Sends datagrams of 1400 bytes until the kernel has heard that they are too big.
fn is_told_too_big(host: &Host, to: SocketAddr) -> Result<()> {
    let socket = unfragmented(host, to)?;
    wait::until("EMSGSIZE", || match socket.send(&[7; 1_400]) {
        Ok(_) => Ok(None),
        Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => Ok(Some(())),
        Err(e) => Err(e.into()),
    })
}

/// What a host has learnt of the MTU of its way to an address.
fn learnt(host: &Host, to: IpAddr) -> Result<Option<u32>> {
    let route = host.ok("ip", &["route", "get", &to.to_string()])?;
    let mut words = route.split_whitespace().skip_while(|w| *w != "mtu");
    Ok(words.nth(1).map(str::parse).transpose()?)
}

/// Bulk TCP and unfragmented UDP from an endpoint to the far host and to a published port, and between
/// both: all ends send large packets, and each has to learn what its way carries.
fn finds_the_small_link(lab: &Lab, a: &Endpoint, far: &Host) -> Result<()> {
    lab.publish("a", "8080:80/tcp")?;
    for family in FAMILIES {
        let to = SocketAddr::new(family.of(far), 9000);
        a.bulk_tcp(far, to, to, 2).context("to the far host")?;
        let _server = far.udp_bind(to.ip(), 9001)?;
        is_told_too_big(a, SocketAddr::new(to.ip(), 9001)).context("an endpoint's datagrams")?;
        assert_eq!(learnt(a, to.ip())?, Some(SMALL), "the endpoint");
        let (inside, node) = (family.of(a), family.of(&lab.node));
        let (inside, published) = (SocketAddr::new(inside, 80), SocketAddr::new(node, 8080));
        far.bulk_tcp(a, inside, published, 2)
            .context("to the published port")?;
        assert_eq!(learnt(far, node)?, Some(SMALL), "the far host");
    }
    Ok(())
}

fn a_small_link_behind_the_uplink_is_found(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("mtu-behind", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let b = beyond(&lab)?;
    let small = SMALL.to_string();
    lab.outside
        .ok("ip", &["link", "set", "mid0", "mtu", &small])?;
    b.middle.ok("ip", &["link", "set", "out0", "mtu", &small])?;
    finds_the_small_link(&lab, &a, &b.far)?;
    let far = b.far.v4().to_string();
    let said = a.ok("tracepath", &["-4", "-n", &far])?;
    ensure!(said.contains("pmtu 1300 hops 4"), "tracepath: {said}");
    Ok(())
}

fn a_small_uplink_is_found(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("mtu-uplink", mode)?;
    let web = lab.network_with("web", &["--mtu", "1500"])?;
    let a = lab.endpoint("a", &web)?;
    let b = beyond(&lab)?;
    let small = SMALL.to_string();
    for (host, device) in [(&*lab.node, "up0"), (&lab.outside, "eth0")] {
        host.ok("ip", &["link", "set", device, "mtu", &small])?;
    }
    finds_the_small_link(&lab, &a, &b.far)?;
    ensure!(
        lab.node.stat("ep_out", Some("too_big"))? >= 2,
        "netd was asked"
    );
    // The lab looks whether netd has changed anything; this was the test.
    lab.node.ok("ip", &["link", "set", "up0", "mtu", "1500"])?;
    Ok(())
}

fn a_small_network_is_found_from_outside(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("mtu-inside", mode)?;
    let small = SMALL.to_string();
    let web = lab.network_with("web", &["--mtu", &small])?;
    let large = lab.network_with("large", &["--mtu", "1500"])?;
    let (a, other) = (lab.endpoint("a", &web)?, lab.endpoint("other", &large)?);
    lab.publish("a", "8080:80/tcp")?;
    lab.publish("a", "8080:80/udp")?;
    for family in FAMILIES {
        let published = SocketAddr::new(family.of(&lab.node), 8080);
        for client in [&lab.outside, &*other] {
            let _server = a.udp_bind(family.of(&a), 80)?;
            is_told_too_big(client, published).with_context(|| client.name.clone())?;
            assert_eq!(learnt(client, published.ip())?, Some(SMALL));
        }
    }
    Ok(())
}

/// Packets of IPv4 that their senders allow to be cut, as all do that do not look for the MTU of their way: larger than
/// the uplink, to it and from it, whether or not the kernel leaves checksums and segments to devices.
fn what_may_be_cut_is_cut_for_a_small_uplink(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("cut", mode)?;
    let web = lab.network_with("web", &["--mtu", "20000"])?;
    let a = lab.endpoint("a", &web)?;
    let b = beyond(&lab)?;
    let small = SMALL.to_string();
    for (host, device, mtu) in [
        (&*lab.node, "up0", &*small),
        (&lab.outside, "eth0", &small),
        (&lab.outside, "mid0", "9000"),
        (&b.middle, "out0", "9000"),
        (&b.middle, "far0", "9000"),
        (&b.far, "eth0", "9000"),
    ] {
        host.ok("ip", &["link", "set", device, "mtu", mtu])?;
    }
    for host in [&*a, &b.far] {
        set(host, &[("ipv4/ip_no_pmtu_disc", "1")])?;
    }
    lab.publish("a", "8080:80/udp")?;
    let to = SocketAddr::new(b.far.v4(), 9000);
    let inside = SocketAddr::new(a.v4(), 80);
    let published = SocketAddr::new(lab.node.v4(), 8080);
    for tx in ["on", "off"] {
        a.ok("ethtool", &["-K", &a.device, "tx", tx])?;
        for len in [1_273, 1_400, 2_600, 5_000, LARGEST as usize - 8] {
            let what = || format!("{len} bytes, tx {tx}");
            let from = a.udp_echo(&b.far, to, to, len).with_context(what)?;
            ensure!(from.ip() == lab.node.v4(), "seen as {from}");
            let from = b.far.udp_echo(&a, inside, published, len);
            assert_eq!(from.with_context(what)?.ip(), b.far.v4());
            let len = len.to_string();
            a.ping_with(
                b.far.v4(),
                &["-c", "1", "-W", "5", "-M", "dont", "-s", &len],
            )?;
        }
        with_options(&a, &b.far).with_context(|| format!("options, tx {tx}"))?;
        // In many segments, or each by itself.
        a.bulk_tcp(&b.far, to, to, 2)
            .with_context(|| format!("TCP, tx {tx}"))?;
    }
    let dropped = || lab.node.stat("ep_out", Some("too_big"));
    ensure!(dropped()? == 0);
    a.udp_bind(any(to.ip()), 0)?
        .send_to(&[7; LARGEST as usize - 7], to)?;
    wait::until("one that is too big to be cut", || {
        Ok((dropped()? == 1).then_some(()))
    })?;
    // The lab looks whether netd has changed anything; this was the test.
    lab.node.ok("ip", &["link", "set", "up0", "mtu", "1500"])?;
    Ok(())
}

/// Datagrams with a record of their route, for the first fragment alone, and a router alert, for all of them.
fn with_options(from: &Host, far: &Host) -> Result<()> {
    const OPTIONS: [u8; 12] = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0];
    let to = SocketAddr::new(far.v4(), 9001);
    let server = far.udp_bind(to.ip(), to.port())?;
    let client = from.udp_bind(any(to.ip()), 0)?;
    set_option(&client, libc::IPPROTO_IP, libc::IP_OPTIONS, &OPTIONS)?;
    for len in [1_273, 1_400, 5_000] {
        let sent: Vec<u8> = (0..len).map(|n: u32| (n * 7 + n / 100) as u8).collect();
        let mut buffer = [0; 9_000];
        client.send_to(&sent, to)?;
        let (n, _) = server.recv_from(&mut buffer)?;
        ensure!(buffer.get(..n) == Some(&sent[..]), "{len} bytes");
    }
    Ok(())
}

/// The kernel may still owe the checksum of the packet that is quoted. A device that must make it, as one
/// without checksum offload, must not write it into the error.
fn quotes_of_unfinished_packets_arrive(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("quotes", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    lab.publish("a", "8080:80/udp")?;
    lab.node.ok("ethtool", &["-K", "up0", "tx", "off"])?;
    for family in FAMILIES {
        let node = family.of(&lab.node);
        let to = SocketAddr::new(node, 8080);
        let _server = a.udp_bind(family.of(&a), 80)?;
        for len in [1, 2, 7, 40, 100, 333, 1_200] {
            let socket = lab.outside.udp_bind(any(node), 0)?;
            hop_limit(&socket, family.0)?;
            socket.connect(to)?;
            socket.send(&vec![7; len])?;
            // The error ends what waits for an answer.
            let said = socket.recv(&mut [0; 8]).expect_err("its hops ran out");
            ensure!(
                matches!(said.raw_os_error(), Some(libc::EHOSTUNREACH)),
                "{len} bytes: {said}"
            );
        }
    }
    Ok(())
}

/// One hop, and errors are wanted.
fn hop_limit(socket: &UdpSocket, v6: bool) -> Result<()> {
    let options = if v6 {
        [
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        ]
    } else {
        [
            (libc::IPPROTO_IP, libc::IP_TTL),
            (libc::IPPROTO_IP, libc::IP_RECVERR),
        ]
    };
    for (level, name) in options {
        set_option(socket, level, name, &1)?;
    }
    Ok(())
}

fn set_option<T>(socket: &UdpSocket, level: i32, name: i32, value: &T) -> Result<()> {
    // SAFETY: the descriptor is open, the value of the size given.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            core::ptr::from_ref(value).cast(),
            size_of_val(value) as libc::socklen_t,
        )
    };
    ensure!(rc == 0, "setsockopt: {}", std::io::Error::last_os_error());
    Ok(())
}

both_modes! {
    a_small_link_behind_the_uplink_is_found;
    a_small_uplink_is_found;
    a_small_network_is_found_from_outside;
    what_may_be_cut_is_cut_for_a_small_uplink;
    quotes_of_unfinished_packets_arrive;
}
