//! Ten thousand published ports, and ports on configured addresses.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use netd_api::Published;
use netd_tests::lab::{Lab, Proto};

#[test]
fn ten_thousand_ports_are_published_reached_listed_adopted_and_taken_back() -> Result<()> {
    let lab = Lab::new("ten-thousand")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.publish("a", "10000-19999:20000-29999")?;
    let one = |port: u16| -> Result<()> {
        let _server = a.serve_source(Proto::Tcp, port + 10_000)?;
        for node in [lab.node.v4(), lab.node.v6()] {
            let to = SocketAddr::new(node, port);
            lab.outside.ask_source(Proto::Tcp, to)?;
            b.ask_source(Proto::Tcp, to)?;
        }
        Ok(())
    };
    one(10_000)?;
    one(19_999)?;
    let all = || -> Result<Vec<Published>> { lab.node.netd_json(&["published"]) };
    ensure!(all()?.len() == 1, "a range is one line");
    // Another endpoint comes and goes beside them, with ports of its own, one of them in their midst
    // on another protocol.
    let c = lab.endpoint_with(
        "c",
        &web,
        &["--publish", "8080:80", "--publish", "15000:80/udp"],
    )?;
    {
        let _tcp = c.serve_source(Proto::Tcp, 80)?;
        let _udp = c.serve_source(Proto::Udp, 80)?;
        for (proto, port) in [(Proto::Tcp, 8080), (Proto::Udp, 15_000)] {
            let to = SocketAddr::new(lab.node.v4(), port);
            lab.outside.ask_source(proto, to)?;
        }
    }
    lab.node.netd_ok(&["detach", "c"])?;
    one(15_000)?;
    lab.node.stop(nix::sys::signal::Signal::SIGKILL)?;
    lab.node.start()?;
    one(15_001)?;
    // Taken: any of them.
    let refused = lab.node.netd(&["publish", "b", "12345:80"])?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("for endpoint a"),
        "{refused:?}"
    );
    lab.node.netd_ok(&["unpublish", "10000-19999"])?;
    ensure!(all()?.is_empty());
    let to = SocketAddr::new(lab.node.v4(), 15_000);
    let _server = a.serve_source(Proto::Tcp, 25_000)?;
    lab.outside.ask_source_fails(Proto::Tcp, to)?;
    lab.publish("b", "15000:80")?;
    Ok(())
}

#[test]
fn thousands_of_publishes_in_one_request_are_all_there_or_none() -> Result<()> {
    const COUNT: usize = 2_000;
    let lab = Lab::new("many-specs")?;
    let web = lab.network("web")?;
    let _a = lab.endpoint("a", &web)?;
    let specs: Vec<String> = (0..COUNT).map(|i| format!("{}:80", 20_000 + i)).collect();
    let mut args = vec!["publish", "a"];
    args.extend(specs.iter().map(String::as_str));
    lab.node.netd_ok(&args)?;
    let all: Vec<Published> = lab.node.netd_json(&["published"])?;
    ensure!(all.len() == COUNT, "{}", all.len());
    // One that cannot be takes the others with it.
    let mut more: Vec<String> = (0..COUNT).map(|i| format!("{}:80", 30_000 + i)).collect();
    more.push("20000:81".into());
    let mut args = vec!["publish", "a"];
    args.extend(more.iter().map(String::as_str));
    let refused = lab.node.netd(&args)?;
    ensure!(refused.code == Some(1), "{refused:?}");
    let all: Vec<Published> = lab.node.netd_json(&["published"])?;
    ensure!(all.len() == COUNT, "{}", all.len());
    Ok(())
}

#[test]
fn a_spec_without_host_address_is_on_the_configured_ones() -> Result<()> {
    let lab = Lab::builder("default-address")
        .config("[publish]\naddresses = ['192.0.2.2']\n")
        .build()?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let printed = lab.node.netd_ok(&["publish", "a", "8080:80"])?;
    ensure!(printed.trim() == "192.0.2.2:8080:80/tcp", "{printed}");
    let _server = a.serve_source(Proto::Tcp, 80)?;
    let (to4, to6) = (
        SocketAddr::new(lab.node.v4(), 8080),
        SocketAddr::new(lab.node.v6(), 8080),
    );
    lab.outside.ask_source(Proto::Tcp, to4)?;
    ensure!(lab.outside.ask_source(Proto::Tcp, to6).is_err(), "IPv6");
    let gateway = SocketAddr::new(web.gateway(false)?, 8080);
    ensure!(
        a.ask_source(Proto::Tcp, gateway).is_err(),
        "another address"
    );
    // A SPEC's own word goes before the configuration's.
    lab.node.netd_ok(&["publish", "a", "[::]:8080:80"])?;
    lab.outside.ask_source(Proto::Tcp, to6)?;
    // What was written without an address is taken back without one.
    lab.node.netd_ok(&["unpublish", "8080"])?;
    ensure!(lab.outside.ask_source(Proto::Tcp, to4).is_err());
    lab.outside.ask_source(Proto::Tcp, to6)?;

    // An address of each family; the free port found is free on both.
    lab.node.stop(nix::sys::signal::Signal::SIGTERM)?;
    lab.node.reconfigure(|o| {
        o.config = "[publish]\naddresses = ['192.0.2.2', '2001:db8:1::2']\n".into();
    });
    lab.node.start()?;
    let found = lab.publish("a", "0:80")?;
    ensure!(found.len() == 2, "{found:?}");
    let port = found.first().context("two")?.spec.host.host_port;
    for node in [lab.node.v4(), lab.node.v6()] {
        lab.outside
            .ask_source(Proto::Tcp, SocketAddr::new(node, port))?;
    }
    let refused = lab.node.netd(&["publish", "a", "198.51.100.1:81:80"])?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("not an address of this node"),
        "{refused:?}"
    );
    let refused = lab.node.netd(&["publish", "a", "224.0.0.1:81:80/udp"])?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("group"),
        "{refused:?}"
    );
    Ok(())
}
