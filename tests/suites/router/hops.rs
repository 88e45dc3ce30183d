//! traceroute, tracepath and mtr see netd as one of the routers on the way.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Host, Lab};

use crate::{FAMILIES, beyond};

/// The hops that `traceroute` names; `*` where none answered.
fn traceroute(host: &Host, to: IpAddr, options: &[&str]) -> Result<Vec<String>> {
    let family = if to.is_ipv6() { "-6" } else { "-4" };
    let to = to.to_string();
    let mut args = vec![family, "-n", "-q", "1", "-N", "1", "-w", "5", "-m", "6"];
    args.extend(options);
    args.push(&to);
    let said = host.ok("traceroute", &args)?;
    let lines = said.lines().skip(1);
    Ok(lines
        .filter_map(|l| l.split_whitespace().nth(1))
        .map(str::to_owned)
        .collect())
}

/// The second words of the lines that begin with a number and `sign`; each once.
fn numbered(text: &str, sign: &str) -> Vec<String> {
    let mut hops: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let number = words.next()?.strip_suffix(sign)?;
            number.parse::<u32>().ok()?;
            words.next().map(str::to_owned)
        })
        .collect();
    hops.dedup();
    hops
}

fn names(hops: &[IpAddr]) -> Vec<String> {
    hops.iter().map(ToString::to_string).collect()
}

fn every_hop_is_seen_from_an_endpoint(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("hops", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let b = beyond(&lab)?;
    for family in FAMILIES {
        let far = family.of(&b.far);
        let way = names(&[
            family.one_of(&web.gateways)?,
            family.of(&lab.outside),
            family.of(&b.middle),
            far,
        ]);
        for options in [&["-U"][..], &["-I"], &["-T"], &["-U", "-p", "33434"]] {
            assert_eq!(traceroute(&a, far, options)?, way, "traceroute {options:?}");
        }
        let to = far.to_string();
        let said = a.ok("tracepath", &[family.flag(), "-n", &to])?;
        assert_eq!(numbered(&said, ":"), way, "tracepath: {said}");
        ensure!(said.contains("pmtu 1500 hops 4"), "tracepath: {said}");
        for options in [&[][..], &["-u"], &["-T"]] {
            let mut args = vec![family.flag(), "-n", "-r", "-c", "1"];
            args.extend(options);
            args.push(&to);
            let said = a.ok("mtr", &args)?;
            assert_eq!(numbered(&said, ".|--"), way, "mtr {options:?}: {said}");
        }
        // The node itself has a hop less.
        assert_eq!(traceroute(&lab.node, far, &["-U"])?, way[1..]);
    }
    Ok(())
}

fn every_hop_is_seen_towards_a_published_port(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("hops-in", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let b = beyond(&lab)?;
    lab.publish("a", "8080:80/tcp")?;
    lab.publish("a", "8080:80/udp")?;
    let far_side = [IpAddr::from([203, 0, 113, 1]), "2001:db8:3::1".parse()?];
    let outside_side = [IpAddr::from([198, 51, 100, 1]), "2001:db8:2::1".parse()?];
    for family in FAMILIES {
        let _server = a.tcp_listen(family.of(&a), 80)?;
        let node = family.of(&lab.node);
        // Once the node as a router, once the endpoint behind its port.
        let way = names(&[
            family.one_of(&far_side)?,
            family.one_of(&outside_side)?,
            node,
            node,
        ]);
        for tool in ["-T", "-U"] {
            let hops = traceroute(&b.far, node, &[tool, "-p", "8080"])?;
            assert_eq!(hops, way, "traceroute {tool}");
        }
    }
    Ok(())
}

fn every_hop_is_seen_between_networks(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("hops-through", mode)?;
    let one = lab.network_with("one", &["--no-isolation"])?;
    let two = lab.network_with("two", &["--no-isolation"])?;
    let (a, b) = (lab.endpoint("a", &one)?, lab.endpoint("b", &two)?);
    for family in FAMILIES {
        let way = names(&[family.one_of(&one.gateways)?, family.of(&b)]);
        for tool in ["-U", "-I", "-T"] {
            assert_eq!(traceroute(&a, family.of(&b), &[tool])?, way, "{tool}");
        }
    }
    Ok(())
}

both_modes! {
    every_hop_is_seen_from_an_endpoint;
    every_hop_is_seen_towards_a_published_port;
    every_hop_is_seen_between_networks;
}
