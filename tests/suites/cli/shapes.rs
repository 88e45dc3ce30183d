//! What the verbs print: tables for people, the API's JSON for programs.

use anyhow::{Context as _, Result};
use netd_api::{Endpoint, FdbLine, FlowLine, MappingLine, Network, Published, StatLine, Status};
use netd_tests::lab::Lab;
use serde_json::Value;

#[test]
fn json_is_the_apis_own_and_lists_are_arrays() -> Result<()> {
    let lab = Lab::new("json")?;
    // Empty lists are arrays too.
    for verb in [
        &["network", "ls"][..],
        &["endpoint", "ls"],
        &["published"],
        &["flow", "ls"],
        &["mapping", "ls"],
        &["fdb", "ls"],
    ] {
        let value: Value = lab.node.netd_json(verb)?;
        assert_eq!(value, Value::Array(vec![]), "{verb:?}");
    }
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    lab.publish("a", "8080:80")?;
    a.ping(lab.outside.v4())?;
    let networks: Vec<Network> = lab.node.netd_json(&["network", "ls"])?;
    let endpoints: Vec<Endpoint> = lab.node.netd_json(&["endpoint", "ls"])?;
    let published: Vec<Published> = lab.node.netd_json(&["published"])?;
    let flows: Vec<FlowLine> = lab.node.netd_json(&["flow", "ls"])?;
    let fdb: Vec<FdbLine> = lab.node.netd_json(&["fdb", "ls"])?;
    let stats: Vec<StatLine> = lab.node.netd_json(&["stats"])?;
    assert_eq!(
        (networks.len(), endpoints.len(), published.len()),
        (1, 1, 1)
    );
    let echo = flows
        .iter()
        .find(|f| f.proto == "icmp")
        .context("the ping is no flow")?;
    assert_eq!(
        (echo.endpoint.as_deref(), echo.dst),
        (Some("a"), lab.outside.v4())
    );
    let mappings: Vec<MappingLine> = lab.node.netd_json(&["mapping", "ls", "--endpoint", "a"])?;
    let [mapping] = &mappings[..] else {
        anyhow::bail!("one socket has {mappings:?}");
    };
    assert_eq!(
        (mapping.inside, mapping.outside, mapping.outside_port),
        (echo.src, lab.node.v4(), echo.nat_sport)
    );
    assert_eq!((mapping.flows, &mapping.state[..]), (1, "used"));
    let none: Vec<MappingLine> = lab.node.netd_json(&["mapping", "ls", "--proto", "tcp"])?;
    assert_eq!(none, []);
    let mac = fdb
        .iter()
        .find(|l| l.mac == a.info.mac)
        .context("no forwarding entry")?;
    assert!(mac.fixed && mac.device == a.info.device && mac.endpoint.as_deref() == Some("a"));
    let gateway = fdb
        .iter()
        .find(|l| l.kind == "gateway")
        .context("no entry of the gateway")?;
    assert_eq!(Some(&gateway.mac), web.gateway_mac.as_ref());
    assert!(
        stats
            .iter()
            .any(|s| s.hook == "ep_out" && s.verdict == "pass" && s.packets > 0)
    );
    Ok(())
}

#[test]
fn tables_have_a_line_for_each_object() -> Result<()> {
    let lab = Lab::new("tables")?;
    let web = lab.network("web")?;
    let (a, _b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.publish("a", "8080:80")?;
    a.ping(lab.outside.v4())?;
    for (verb, lines, word) in [
        (&["network", "ls"][..], 2, "web"),
        (&["endpoint", "ls"], 3, "bound"),
        (&["published"], 2, "8080"),
        (&["flow", "ls"], 2, "masquerade"),
        (&["mapping", "ls"], 2, "balanced"),
        (&["fdb", "ls"], 4, "gateway"),
    ] {
        let table = lab.node.netd_ok(verb)?;
        assert!(
            table.lines().count() >= lines && table.contains(word),
            "{verb:?}:\n{table}"
        );
        assert!(
            !table.contains('\u{1b}'),
            "colours without a terminal: {table}"
        );
    }
    Ok(())
}

#[test]
fn status_tells_the_node_at_a_glance() -> Result<()> {
    let lab = Lab::new("status")?;
    let web = lab.network("web")?;
    lab.endpoint("a", &web)?;
    lab.publish("a", "8080:80")?;
    let status: Status = lab.node.netd_json(&["status"])?;
    assert_eq!(status.pid, lab.node.pid()?);
    assert_eq!(status.instance, lab.node.instance());
    assert_eq!(
        (status.networks, status.endpoints, status.published),
        (1, 1, 1)
    );
    assert_eq!(status.run_dir, lab.node.run_dir().display().to_string());
    assert_eq!(status.problems, Vec::<String>::new());
    let uplink = status.uplinks.first().context("no uplink")?;
    assert_eq!(
        (uplink.device.as_str(), uplink.v4, uplink.v6),
        ("up0", Some(lab.node.v4()), Some(lab.node.v6()))
    );
    assert!(
        ["native", "generic"].contains(&uplink.xdp.as_str()),
        "{}",
        uplink.xdp
    );
    let table = lab.node.netd_ok(&["status"])?;
    assert!(
        table.contains("up0") && table.contains(&status.pid.to_string()),
        "{table}"
    );
    Ok(())
}

#[test]
fn version_and_completions_need_no_daemon() -> Result<()> {
    let lab = Lab::builder("version").without_daemon().build()?;
    lab.node
        .reconfigure(|o| o.netd = netd_tests::lab::node::find_netd().unwrap_or_default());
    let version = lab.node.netd_ok(&["version"])?;
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    for shell in ["bash", "zsh", "fish"] {
        let script = lab.node.netd_ok(&["completions", shell])?;
        assert!(script.contains("unpublish"), "{shell}");
    }
    Ok(())
}
