//! `netd network`.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use netd_api::Network;
use netd_tests::lab::{Endpoint, Host, Lab};

#[test]
fn create_ls_inspect_and_rm_a_network() -> Result<()> {
    let lab = Lab::new("networks")?;
    let none: Vec<Network> = lab.node.netd_json(&["network", "ls"])?;
    assert!(none.is_empty());
    let web = lab.network("web")?;
    assert_eq!(web.subnets.len(), 2, "one subnet of each family: {web:?}");
    assert!(web.masquerade && web.isolation && !web.internal);
    for (subnet, gateway) in web.subnets.iter().zip(&web.gateways) {
        assert!(subnet.contains(gateway), "{web:?}");
    }
    let device = web.device.clone().context("no gateway device")?;
    assert_eq!(device, "nd-web");
    let shown = lab.node.ok("ip", &["-o", "addr", "show", "dev", &device])?;
    for gateway in &web.gateways {
        assert!(shown.contains(&gateway.to_string()), "{shown}");
    }
    let table = lab.node.netd_ok(&["network", "ls"])?;
    assert!(
        table.contains("web") && table.lines().count() == 2,
        "{table}"
    );
    let all: Vec<Network> = lab.node.netd_json(&["network", "ls"])?;
    assert_eq!(all, std::slice::from_ref(&web.0));
    lab.node.netd_ok(&["network", "rm", "web"])?;
    assert!(
        lab.node.run("ip", &["link", "show", &device])?.code != Some(0),
        "{device} is still there"
    );
    let none: Vec<Network> = lab.node.netd_json(&["network", "ls"])?;
    assert!(none.is_empty());
    Ok(())
}

/// MTUs of the gateway's device and of both ends of an endpoint.
fn mtus(lab: &Lab, network: &Network, endpoint: &Endpoint) -> Result<[u32; 3]> {
    let of = |host: &Host, device: &str| -> Result<u32> {
        let shown = host.ok("ip", &["-o", "link", "show", "dev", device])?;
        let mut words = shown.split_whitespace().skip_while(|w| *w != "mtu");
        let bytes = words.nth(1).context("no MTU")?;
        Ok(bytes.parse()?)
    };
    let gateway = network.device.as_deref().context("no gateway")?;
    let id: netd_api::Endpoint = lab
        .node
        .netd_json(&["endpoint", "inspect", &endpoint.name])?;
    Ok([
        of(&lab.node, gateway)?,
        of(&lab.node, &id.device)?,
        of(endpoint, &endpoint.device)?,
    ])
}

#[test]
fn a_network_in_use_gets_another_mtu_or_keeps_its_own_as_a_whole() -> Result<()> {
    let lab = Lab::new("network-mtu")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let server = b.tcp_listen(b.v4(), 80)?;
    let mut client = a.tcp_connect(SocketAddr::new(b.v4(), 80))?;
    let (mut accepted, _) = server.accept()?;
    lab.node
        .netd_ok(&["network", "set", "web", "--mtu", "1400"])?;
    for endpoint in [&a, &b] {
        assert_eq!(mtus(&lab, &web, endpoint)?, [1400; 3]);
    }
    client.write_all(b"x")?;
    accepted.read_exact(&mut [0])?;
    // 28 bytes are headers.
    a.ping_with(b.v4(), &["-c", "1", "-W", "5", "-M", "do", "-s", "1372"])?;
    let larger = ["-c", "1", "-W", "1", "-M", "do", "-s", "1373"];
    assert!(a.ping_with(b.v4(), &larger).is_err());
    let c = lab.endpoint("c", &web)?;
    assert_eq!(mtus(&lab, &web, &c)?, [1400; 3]);
    c.ping(lab.outside.v6())?;

    let said = lab.node.netd(&["network", "set", "web", "--mtu", "1279"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("from 1280 to 65535"), "{said:?}");
    // The namespace of one is still there, but its name is not: its inside cannot be reached.
    nix::mount::umount2(&b.ns.path(), nix::mount::MntFlags::MNT_DETACH)?;
    let said = lab.node.netd(&["network", "set", "web", "--mtu", "1300"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    for endpoint in [&a, &c] {
        assert_eq!(mtus(&lab, &web, endpoint)?, [1400; 3]);
    }
    let all: Vec<Network> = lab.node.netd_json(&["network", "ls"])?;
    assert_eq!(all[0].mtu, 1400);
    Ok(())
}

#[test]
fn a_network_in_use_is_given_a_gateway() -> Result<()> {
    let lab = Lab::new("network-set")?;
    let subnets = ["--subnet", "10.7.0.0/24", "--subnet", "fd07::/64"];
    let seg = lab.network_with("seg", &[&["--gateway", "none"], &subnets[..]].concat())?;
    assert!(seg.gateways.is_empty() && seg.device.is_none() && !seg.masquerade);
    let (a, b) = (lab.endpoint("a", &seg)?, lab.endpoint("b", &seg)?);
    // A way out of its own is left alone.
    b.ip("route add default dev eth0\n")?;
    a.ping(b.v4())?;
    a.ping_fails(lab.outside.v4())?;
    for (gateway, why) in [
        ("10.8.0.1", "10.7.0.0/24"),
        (&a.v4().to_string(), "endpoint a"),
        ("10.7.0.255", "broadcast"),
    ] {
        let said = lab
            .node
            .netd(&["network", "set", "seg", "--gateway", gateway])?;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.stderr.contains(why) && said.stderr.trim().lines().count() == 1,
            "{said:?}"
        );
    }
    let set = |gateway: &str| {
        lab.node
            .netd_ok(&["network", "set", "seg", "--gateway", gateway])
    };
    // One family after the other; the same again changes nothing.
    set("10.7.0.254")?;
    set("fd07::fe")?;
    set("fd07::fe")?;
    let now = lab.inspect_network("seg")?;
    assert_eq!(
        now.gateways,
        ["10.7.0.254".parse::<IpAddr>()?, "fd07::fe".parse()?]
    );
    assert!(now.masquerade && now.device.is_some());
    for v6 in [false, true] {
        a.ping(now.gateway(v6)?)?;
    }
    for (host, outside) in [(a.v4(), lab.outside.v4()), (a.v6(), lab.outside.v6())] {
        lab.node.ping(host)?;
        a.ping(outside)?;
    }
    a.ping(b.v6())?;
    let routes = b.ok("ip", &["-4", "route", "show", "default"])?;
    assert!(!routes.contains("via"), "{routes}");
    // All of it is stored, and the next start has nothing to do.
    lab.node.restart(nix::sys::signal::Signal::SIGKILL)?;
    assert_eq!(lab.inspect_network("seg")?.gateways, now.gateways);
    let shown: netd_api::Endpoint = lab.node.netd_json(&["endpoint", "inspect", "a"])?;
    assert_eq!(shown.gateways, now.gateways);
    a.ping(lab.outside.v6())?;
    let c = lab.endpoint("c", &now)?;
    c.ping(lab.outside.v4())
}

#[test]
fn options_are_kept_and_shown() -> Result<()> {
    let lab = Lab::new("network-options")?;
    let db = lab.network_with(
        "db",
        &[
            "--kind",
            "bridge",
            "--subnet",
            "10.7.0.0/24",
            "--subnet",
            "fd07::/64",
            "--gateway",
            "10.7.0.254",
            "--gateway",
            "fd07::fe",
            "--ip-range",
            "10.7.0.64/28",
            "--internal",
            "--no-masquerade",
            "--no-isolation",
            "--mtu",
            "1450",
            "--label",
            "tier=back",
            "--label",
            "a=b",
        ],
    )?;
    assert_eq!(
        db.gateways,
        ["10.7.0.254".parse::<IpAddr>()?, "fd07::fe".parse()?]
    );
    assert_eq!(db.ip_range, Some("10.7.0.64/28".parse()?));
    assert!(db.internal && !db.masquerade && !db.isolation);
    assert_eq!(db.mtu, 1450);
    assert_eq!(db.labels.get("tier").map(String::as_str), Some("back"));
    assert_eq!(db.owner, "cli");
    let a = lab.endpoint("a", &db)?;
    let range: ipnet::IpNet = "10.7.0.64/28".parse()?;
    assert!(range.contains(&a.v4()), "{} is not of the range", a.v4());
    Ok(())
}

#[test]
fn default_pools_avoid_the_nodes_routes_and_each_other() -> Result<()> {
    let lab = Lab::builder("pools").without_daemon().build()?;
    lab.node
        .reconfigure(|o| o.netd = netd_tests::lab::node::find_netd().unwrap_or_default());
    lab.node.ip("route add 10.210.0.0/24 via 192.0.2.100\n")?;
    lab.node.start()?;
    let (one, two) = (lab.network("one")?, lab.network("two")?);
    let first =
        |n: &Network, v6: bool| n.subnets.iter().find(|s| s.addr().is_ipv6() == v6).copied();
    assert_eq!(first(&one, false), Some("10.210.1.0/24".parse()?));
    assert_eq!(first(&two, false), Some("10.210.2.0/24".parse()?));
    let (u1, u2) = (
        first(&one, true).context("no IPv6")?,
        first(&two, true).context("no IPv6")?,
    );
    assert!(u1 != u2 && u1.prefix_len() == 64);
    let ula: ipnet::IpNet = "fd00::/8".parse()?;
    assert!(ula.contains(&u1) && ula.contains(&u2));
    assert_eq!(
        first(&one, true).map(|s| s.supernet().is_some()),
        Some(true)
    );
    Ok(())
}

#[test]
fn a_long_name_gets_a_shortened_device() -> Result<()> {
    let lab = Lab::new("long-name")?;
    let name = "a-network-with-a-rather-long-name";
    let other = "a-network-with-a-rather-long-nam2";
    let (one, two) = (lab.network(name)?, lab.network(other)?);
    let (one, two) = (
        one.device.clone().context("no device")?,
        two.device.clone().context("no device")?,
    );
    assert!(one.len() <= 15 && one.starts_with("nd-"), "{one}");
    assert_ne!(one, two);
    Ok(())
}

#[test]
fn what_somebody_else_puts_on_a_gateway_stays_there() -> Result<()> {
    let lab = Lab::new("gateway-foreign")?;
    let options = ["--subnet", "10.90.0.0/24", "--subnet", "fd90::/64"];
    lab.network_with("web", &options)?;
    let foreign = ["10.90.99.1/24", "fd90:99::1/64"];
    for net in foreign {
        lab.node.ip(&format!("addr add {net} dev nd-web\n"))?;
    }
    let there = || -> Result<()> {
        let all = lab
            .node
            .ok("ip", &["-o", "addr", "show", "dev", "nd-web"])?;
        for net in foreign.into_iter().chain(["10.90.0.1/24", "fd90::1/64"]) {
            anyhow::ensure!(all.contains(net), "{net} is not there: {all}");
        }
        Ok(())
    };
    there()?;
    // The gateway is brought into order by both.
    lab.node
        .netd_ok(&["network", "set", "web", "--storm", "9"])?;
    there()?;
    lab.node.restart(nix::sys::signal::Signal::SIGKILL)?;
    there()
}

#[test]
fn a_gateway_in_use_that_refuses_a_setting_stays() -> Result<()> {
    let lab = Lab::new("gateway-refuses")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let index = || -> Result<String> {
        let shown = lab.node.ok("ip", &["-o", "link", "show", "nd-web"])?;
        Ok(shown.split(':').next().unwrap_or_default().to_owned())
    };
    let before = index()?;
    // No IPv6 address can be added there any more.
    let setting = "/proc/sys/net/ipv6/conf/nd-web/disable_ipv6";
    let ipv6_off = |value: &str| {
        lab.node
            .ok("sh", &["-c", &format!("echo {value} > {setting}")])
    };
    ipv6_off("1")?;
    let said = lab.node.netd(&["network", "set", "web", "--mtu", "1400"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("nd-web"), "{said:?}");
    assert_eq!(index()?, before, "it was made anew");
    a.ping(lab.outside.v4())?;
    a.ping(web.gateway(false)?)?;
    ipv6_off("0")?;
    lab.node
        .netd_ok(&["network", "set", "web", "--mtu", "1400"])?;
    assert_eq!(index()?, before);
    a.ping(web.gateway(false)?)?;
    a.ping(web.gateway(true)?)
}
