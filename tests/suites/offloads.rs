//! Checksums are right with offloads on and off, and large segments stay whole on their way.

use std::net::SocketAddr;

use anyhow::Result;
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Host, Lab};

/// Bulk TCP and UDP over every path netd has a hand in, both families, compared byte by byte.
fn every_path(lab: &Lab, a: &Endpoint, b: &Endpoint, gateways: &[std::net::IpAddr]) -> Result<()> {
    const MEGABYTES: usize = 3;
    lab.publish("a", "8080:80/tcp")?;
    lab.publish("a", "8080:80/udp")?;
    let (node, outside) = (&*lab.node, &lab.outside);
    for gateway in gateways {
        let pick = |host: &Host| {
            if gateway.is_ipv4() {
                host.v4()
            } else {
                host.v6()
            }
        };
        let at = |host: &Host, port| SocketAddr::new(pick(host), port);
        let paths = [
            (&**a, &**b, at(b, 9000), at(b, 9000)),
            (
                &**a,
                node,
                SocketAddr::new(*gateway, 9000),
                SocketAddr::new(*gateway, 9000),
            ),
            (node, &**a, at(a, 9001), at(a, 9001)),
            (&**b, outside, at(outside, 9000), at(outside, 9000)),
            (outside, &**a, at(a, 80), at(node, 8080)),
        ];
        for (from, server, listen, to) in paths {
            from.bulk_tcp(server, listen, to, MEGABYTES)?;
            for len in [1, 555, 1400] {
                from.udp_echo(server, listen, to, len)?;
            }
        }
    }
    Ok(())
}

fn transfers(name: &str, mode: AttachMode, on: bool) -> Result<()> {
    let lab = Lab::in_mode(name, mode)?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.offloads([&*a, &*b], on)?;
    every_path(&lab, &a, &b, &web.gateways)?;
    let wrong = |host: &Host| -> Result<String> {
        Ok(host.proc_read("/proc/thread-self/net/snmp")?
            + &host.proc_read("/proc/thread-self/net/snmp6")?)
    };
    for host in [&*a, &*b, &*lab.node, &lab.outside] {
        let text = wrong(host)?;
        assert_eq!(
            checksum_errors(&text),
            0,
            "{} got packets with wrong checksums: {text}",
            host.name
        );
    }
    Ok(())
}

/// The sum of all checksum error counters of `/proc/net/snmp` and `snmp6`.
fn checksum_errors(text: &str) -> u64 {
    let lines: Vec<&str> = text.lines().collect();
    let four: u64 = lines
        .windows(2)
        .filter_map(|w| match w {
            [names, values] if names.split(':').next() == values.split(':').next() => {
                Some((*names, *values))
            }
            _ => None,
        })
        .flat_map(|(names, values)| names.split(' ').zip(values.split(' ')))
        .filter(|(name, _)| name.ends_with("CsumErrors"))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum();
    let six: u64 = lines
        .iter()
        .filter(|l| {
            l.split_whitespace()
                .next()
                .is_some_and(|name| name.ends_with("CsumErrors"))
        })
        .filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    four + six
}

fn transfers_are_right_with_offloads_on(mode: AttachMode) -> Result<()> {
    transfers("offloads-on", mode, true)
}

fn transfers_are_right_with_offloads_off(mode: AttachMode) -> Result<()> {
    transfers("offloads-off", mode, false)
}

fn large_segments_stay_whole(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("gso", mode)?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.publish("a", "8080:80")?;
    for v6 in [false, true] {
        let pick = |host: &Host| if v6 { host.v6() } else { host.v4() };
        let outside = SocketAddr::new(pick(&lab.outside), 9000);
        let peer = SocketAddr::new(pick(&b), 9000);
        let inside = SocketAddr::new(pick(&a), 80);
        let published = SocketAddr::new(pick(&lab.node), 8080);
        for (what, from, server, listen, to, device) in [
            (
                "to the outside",
                &*a,
                &lab.outside,
                outside,
                outside,
                &lab.outside,
            ),
            ("between endpoints", &*a, &*b, peer, peer, &*b),
            (
                "to a published port",
                &lab.outside,
                &*a,
                inside,
                published,
                &*a,
            ),
        ] {
            let wire = device.capture(&device.device)?;
            from.bulk_tcp(server, listen, to, 4)?;
            let data = wire
                .drain()?
                .into_iter()
                .filter(|f| !f.outgoing && f.len > 200);
            let (count, bytes) = data.fold((0, 0), |(n, b), f| (n + 1, b + f.len));
            assert!(bytes >= 4 << 20, "{what}: {bytes} bytes seen");
            assert!(
                bytes / count > 4000,
                "{what}: {bytes} bytes in {count} packets: segments were cut"
            );
        }
    }
    Ok(())
}

both_modes! {
    transfers_are_right_with_offloads_on;
    transfers_are_right_with_offloads_off;
    large_segments_stay_whole;
}

#[test]
fn checksum_errors_are_found_in_the_kernels_tables() {
    let text = "Udp: InDatagrams InCsumErrors IgnoredMulti\nUdp: 5 3 0\nUdp6InCsumErrors        \t4\nUdp6InErrors 9\n";
    assert_eq!(checksum_errors(text), 7);
}
