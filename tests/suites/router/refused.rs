//! What leads nowhere is refused at once, by whoever knows.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Host, Lab};

use crate::{FAMILIES, any, routes, tells};

fn a_dead_destination_is_named_by_whoever_knows(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("dead", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    routes(&lab.outside)?;
    let dead = [IpAddr::from([203, 0, 113, 77]), "2001:db8:3::77".parse()?];
    for family in FAMILIES {
        let to = family.one_of(&dead)?.to_string();
        let said = a.run("ping", &[family.flag(), "-n", "-c", "1", "-W", "10", &to])?;
        let from = format!("From {}", family.of(&lab.outside));
        let why = [
            "Destination Net Unreachable",
            "Destination unreachable: No route",
        ];
        let why = why[usize::from(family.0)];
        ensure!(
            said.stdout.contains(&from) && said.stdout.contains(why),
            "through masquerade: {said:?}"
        );
        // A router's refusal ends an attempt to connect, too.
        let flags = family.flag();
        lab.outside
            .ok("ip", &[flags, "route", "add", "unreachable", &to])?;
        let refused = a.tcp_connect(SocketAddr::new(to.parse()?, 80));
        let refused = refused.expect_err("nobody is there");
        let errno = refused
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error);
        ensure!(
            matches!(errno, Some(libc::EHOSTUNREACH | libc::ENETUNREACH)),
            "connect: {refused:#}"
        );
        // The node has no way itself: the gateway says so.
        lab.node.ok("ip", &[flags, "route", "del", "default"])?;
        let said = a.run("ping", &[flags, "-n", "-c", "1", "-W", "10", &to])?;
        let from = format!("From {}", family.one_of(&web.gateways)?);
        ensure!(
            said.stdout.contains(&from) && said.stdout.contains(why),
            "without a route: {said:?}"
        );
    }
    Ok(())
}

/// A datagram to a port nobody has, and a connection to one that is refused by an ICMP error.
fn is_refused(client: &Host, server: &Host, listen: SocketAddr, to: SocketAddr) -> Result<()> {
    let any = any(to.ip());
    let socket = client.udp_bind(any, 0)?;
    socket.connect(to)?;
    socket.send(b"anybody?")?;
    match socket.recv(&mut [0; 8]) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
        other => bail!("UDP to {to}: {other:?}"),
    }
    let tool = if to.is_ipv4() {
        "iptables"
    } else {
        "ip6tables"
    };
    let port = listen.port().to_string();
    let how = if to.is_ipv4() {
        "icmp-port-unreachable"
    } else {
        "icmp6-port-unreachable"
    };
    let rule = [
        "-w", "-A", "INPUT", "-p", "tcp", "--dport", &port, "-j", "REJECT",
    ];
    let rule = [&rule[..], &["--reject-with", how]].concat();
    if server.ok(tool, &rule).is_err() {
        println!("SKIP: refusing TCP by ICMP needs {tool} with REJECT in the kernel");
        return Ok(());
    }
    let refused = client.tcp_connect(to).expect_err("it is refused");
    let kind = refused
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    ensure!(
        kind == Some(ErrorKind::ConnectionRefused),
        "TCP: {refused:#}"
    );
    Ok(())
}

fn what_is_refused_by_icmp_is_refused_at_once(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("refused", mode)?;
    let web = lab.network_with("web", &["--no-isolation"])?;
    let db = lab.network_with("db", &["--no-isolation"])?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &db)?);
    let outside = &lab.outside;
    for proto in ["tcp", "udp"] {
        lab.publish("a", &format!("8080:80/{proto}"))?;
    }
    for host in [&*a, &*b, outside] {
        tells(host)?;
    }
    for family in FAMILIES {
        let at = |host: &Host, port| SocketAddr::new(family.of(host), port);
        let far = at(outside, 81);
        is_refused(&a, outside, far, far).context("from an endpoint")?;
        let published = at(&lab.node, 8080);
        is_refused(outside, &a, at(&a, 80), published).context("to a published port")?;
        is_refused(&b, &a, at(&a, 80), published).context("by a published port")?;
        is_refused(&a, &b, at(&b, 82), at(&b, 82)).context("between networks")?;
    }
    Ok(())
}

both_modes! {
    a_dead_destination_is_named_by_whoever_knows;
    what_is_refused_by_icmp_is_refused_at_once;
}
