//! `netd attach`, `netd detach`, `netd endpoint`: names, targets, addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use netd_api::{Endpoint, EndpointDetails, EndpointState};
use netd_tests::lab::Lab;
use netd_tests::lab::process::Running;

#[test]
fn attach_prints_the_endpoint_and_sets_up_the_namespace() -> Result<()> {
    let lab = Lab::new("attach")?;
    let web = lab.network("web")?;
    let ns = lab.namespace("box")?;
    let printed = lab
        .node
        .netd_ok(&["attach", ns.name(), "--network", "web"])?;
    let name = printed.trim();
    assert!(
        !name.is_empty() && !name.contains(char::is_whitespace),
        "{printed:?}"
    );
    let endpoint: Endpoint = lab.node.netd_json(&["endpoint", "inspect", name])?;
    assert_eq!(
        (endpoint.network.as_str(), endpoint.target.as_str()),
        ("web", ns.name())
    );
    assert_eq!(endpoint.state, EndpointState::Bound);
    assert_eq!(endpoint.owner, "cli");
    assert_eq!(endpoint.ifname, "eth0");
    assert_eq!((endpoint.id.len(), endpoint.number > 0), (12, true));
    assert_eq!(endpoint.gateways, web.gateways);
    let shown = ns
        .command("ip")
        .args(["-o", "addr", "show", "dev", "eth0"])
        .output()?;
    let shown = String::from_utf8_lossy(&shown.stdout);
    for address in &endpoint.addresses {
        assert!(shown.contains(&address.to_string()), "{shown}");
    }
    // The kernel's own check of the link-local address may take a moment.
    let mut global = shown.lines().filter(|l| l.contains("scope global"));
    assert!(!global.any(|l| l.contains("tentative")), "{shown}");
    let link = ns
        .command("ip")
        .args(["-o", "link", "show", "dev", "eth0"])
        .output()?;
    assert!(String::from_utf8_lossy(&link.stdout).contains(&endpoint.mac));
    for family in ["-4", "-6"] {
        let routes = ns
            .command("ip")
            .args([family, "route", "show", "default"])
            .output()?;
        assert!(!routes.stdout.is_empty(), "no default route for {family}");
    }
    Ok(())
}

#[test]
fn options_of_attach_are_honoured() -> Result<()> {
    let lab = Lab::new("attach-options")?;
    let web = lab.network_with("web", &["--subnet", "10.8.0.0/24", "--subnet", "fd08::/64"])?;
    let options = [
        "--ip",
        "10.8.0.77",
        "--ip",
        "fd08::77",
        "--mac",
        "02:00:00:00:00:77",
        "--ifname",
        "net7",
        "--publish",
        "8077:77",
    ];
    let a = lab.endpoint_with("a", &web, &options)?;
    assert_eq!(
        (a.v4(), a.v6()),
        (
            "10.8.0.77".parse::<IpAddr>()?,
            "fd08::77".parse::<IpAddr>()?
        )
    );
    assert_eq!(
        (a.info.mac.as_str(), a.info.ifname.as_str()),
        ("02:00:00:00:00:77", "net7")
    );
    assert_eq!(a.info.published.len(), 1);
    let b = lab.endpoint("b", &web)?;
    b.ping(a.v4())?;
    b.ping(a.v6())
}

#[test]
fn targets_are_names_paths_and_processes() -> Result<()> {
    let lab = Lab::new("targets")?;
    let web = lab.network("web")?;
    let by_name = lab.endpoint("name", &web)?;
    let path = lab.namespace("path")?;
    let path_arg = path.path().display().to_string();
    lab.node
        .netd_ok(&["attach", &path_arg, "--network", "web", "--name", "path"])?;
    let process = lab.namespace("process")?;
    let sleeper = Running::start(process.command("sleep").arg("600"))?;
    let pid = format!("pid:{}", sleeper.pid());
    lab.node
        .netd_ok(&["attach", &pid, "--network", "web", "--name", "process"])?;
    for name in ["path", "process"] {
        let endpoint: Endpoint = lab.node.netd_json(&["endpoint", "inspect", name])?;
        for address in &endpoint.addresses {
            by_name.ping(address.addr())?;
        }
    }
    Ok(())
}

#[test]
fn an_endpoint_is_found_by_name_id_prefix_and_target() -> Result<()> {
    let lab = Lab::new("lookup")?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let a = lab.endpoint("a", &web)?;
    let target = a.ns.name().to_owned();
    let prefix = a.info.id.get(..6).context("short id")?.to_owned();
    for name in ["a", &a.info.id, &prefix, &target] {
        let found: Endpoint = lab.node.netd_json(&["endpoint", "inspect", name])?;
        assert_eq!(found.id, a.info.id, "by {name}");
    }
    // Two endpoints in one namespace: the target alone does not tell, with the network it does.
    lab.attach(&a.ns, "a-db", &db, &[])?;
    let said = lab.node.netd(&["detach", &target])?;
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr.contains("a-db") && said.stderr.trim().lines().count() == 1,
        "{said:?}"
    );
    lab.node.netd_ok(&["detach", &target, "--network", "db"])?;
    lab.node.netd_ok(&["detach", &target])?;
    let left: Vec<Endpoint> = lab.node.netd_json(&["endpoint", "ls"])?;
    assert!(left.is_empty());
    Ok(())
}

#[test]
fn addresses_are_never_used_twice_and_come_back_after_detach() -> Result<()> {
    let lab = Lab::new("ipam")?;
    // Room for gateway and five: network and broadcast address are never given.
    let tiny = lab.network_with("tiny", &["--subnet", "10.9.0.0/29"])?;
    let mut seen = BTreeSet::new();
    for i in 0..5 {
        let endpoint = lab.endpoint(&format!("e{i}"), &tiny)?;
        assert!(seen.insert(endpoint.v4()), "{} twice", endpoint.v4());
    }
    let forbidden = ["10.9.0.0", "10.9.0.1", "10.9.0.7"];
    assert!(
        !seen
            .iter()
            .any(|a| forbidden.contains(&a.to_string().as_str())),
        "{seen:?}"
    );
    let ns = lab.namespace("late")?;
    let said = lab
        .node
        .netd(&["attach", ns.name(), "--network", "tiny", "--name", "late"])?;
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr.contains("10.9.0.0/29") && said.stderr.trim().lines().count() == 1,
        "{said:?}"
    );
    let was: Endpoint = lab.node.netd_json(&["endpoint", "inspect", "e2"])?;
    lab.node.netd_ok(&["detach", "e2"])?;
    let late = lab.attach(&ns, "late", &tiny, &[])?;
    assert_eq!(late.info.addresses, was.addresses);
    Ok(())
}

#[test]
fn detach_removes_the_device_and_attach_works_again() -> Result<()> {
    let lab = Lab::new("detach")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let device = a.info.device.clone();
    for round in 0..3 {
        lab.node.netd_ok(&["detach", "a"])?;
        let found: Vec<Endpoint> = lab.node.netd_json(&["endpoint", "ls"])?;
        assert_eq!(found.len(), 1, "round {round}");
        let again = lab.attach(&a.ns, "a", &web, &[])?;
        again.ping(b.v4())?;
        b.ping(again.v6())?;
    }
    netd_tests::lab::wait::until("the first device to vanish", || {
        Ok((lab.node.run("ip", &["link", "show", &device])?.code != Some(0)).then_some(()))
    })
}

#[test]
fn a_namespace_may_be_on_several_networks() -> Result<()> {
    let lab = Lab::new("two-networks")?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let a = lab.endpoint("a", &web)?;
    let second = lab.attach(&a.ns, "a-db", &db, &[])?;
    assert_eq!(second.info.ifname, "eth1");
    let (b, c) = (lab.endpoint("b", &web)?, lab.endpoint("c", &db)?);
    a.ping(b.v4())?;
    a.ping(c.v4())?;
    a.ping(c.v6())?;
    b.ping_fails(c.v4())
}

#[test]
fn inspect_shows_both_ends_of_the_veth_and_what_the_namespace_has() -> Result<()> {
    let lab = Lab::new("inspect")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    for to in [b.v4(), b.v6()] {
        a.ping(to)?;
    }
    a.ip("route add blackhole 198.51.100.0/24\nroute add 203.0.113.0/24 dev eth0 metric 7\n")?;
    let inspect =
        || -> Result<EndpointDetails> { lab.node.netd_json(&["endpoint", "inspect", "a"]) };
    let shown = inspect()?;
    assert_eq!(shown.endpoint, a.info);
    let (_, inode) = a.ns.identity()?;
    assert_eq!(shown.namespace.inode, inode);
    assert_eq!(shown.namespace.names, [a.ns.name()]);
    assert_eq!(shown.namespace.gone, None);
    let here = shown.node_side.as_ref().context("no node side")?;
    let inside = shown.inside.as_ref().context("no inside")?;
    let there = inside.device.as_ref().context("no device inside")?;
    assert_eq!(
        (here.name.as_str(), there.name.as_str()),
        (a.info.device.as_str(), "eth0")
    );
    assert_eq!(
        (here.ifindex, here.peer_ifindex),
        (there.peer_ifindex, there.ifindex)
    );
    assert_eq!(there.mac.as_deref(), Some(a.info.mac.as_str()));
    assert!(here.up && here.carrier && there.carrier && here.mtu == web.mtu);
    // What leaves the endpoint is sent inside and received by the node's side.
    let (sent, received) = (there.counters, here.counters);
    assert!(
        sent.tx_packets >= 2 && received.rx_packets >= 2,
        "{sent:?} {received:?}"
    );
    assert!(received.rx_bytes > 100);
    for address in &a.info.addresses {
        assert!(inside.addresses.contains(address), "{:?}", inside.addresses);
    }
    for gateway in &web.gateways {
        let found = inside.routes.iter().find(|r| r.via == Some(*gateway));
        let route = found.with_context(|| format!("no route by {gateway}"))?;
        assert_eq!(
            (route.to.prefix_len(), route.device.as_deref()),
            (0, Some("eth0"))
        );
    }
    let route = |to: &str| inside.routes.iter().find(|r| r.to.to_string() == to);
    assert_eq!(
        route("198.51.100.0/24").map(|r| r.kind.as_str()),
        Some("blackhole")
    );
    assert_eq!(route("203.0.113.0/24").map(|r| r.metric), Some(7));
    for ip in [b.v4(), b.v6()] {
        let found = inside.neighbours.iter().find(|n| n.address == ip);
        let neighbour = found.with_context(|| format!("no neighbour {ip}"))?;
        assert_eq!(neighbour.mac.as_deref(), Some(b.info.mac.as_str()));
        assert_eq!(neighbour.device, "eth0");
    }
    let page = lab.node.netd_ok(&["endpoint", "inspect", "a"])?;
    for word in [
        a.info.device.as_str(),
        "blackhole 198.51.100.0/24",
        &b.v4().to_string(),
    ] {
        assert!(page.contains(word), "{word}:\n{page}");
    }
    Ok(())
}

#[test]
fn inspect_says_that_a_namespace_is_gone_and_finds_a_renamed_device() -> Result<()> {
    let lab = Lab::new("inspect-gone")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    a.ip("link set eth0 down\nlink set eth0 name lan\nlink set lan up\n")?;
    let shown: EndpointDetails = lab.node.netd_json(&["endpoint", "inspect", "a"])?;
    let device = shown.inside.context("no inside")?.device;
    assert_eq!(device.map(|d| d.name).as_deref(), Some("lan"));
    // The name goes, a handle of this test keeps the namespace: nobody can find it any more.
    lab.node.netd_ok(&["ns", "del", b.ns.name()])?;
    let shown: EndpointDetails = lab.node.netd_json(&["endpoint", "inspect", "b"])?;
    let why = shown.namespace.gone.context("not said to be gone")?;
    assert!(why.contains(b.ns.name()), "{why}");
    assert!(shown.inside.is_none() && shown.node_side.is_some());
    let page = lab.node.netd_ok(&["endpoint", "inspect", "b"])?;
    assert!(page.contains("gone: target"), "{page}");
    Ok(())
}
