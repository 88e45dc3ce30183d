//! Endpoints reach published ports by any of the node's addresses: their own network's, other
//! networks', their own.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Lab, Network, Proto};

/// The node's addresses of one family: its uplink's, and the gateways'.
fn node_addresses(lab: &Lab, networks: &[&Network], v6: bool) -> Result<Vec<IpAddr>> {
    let uplink = if v6 { lab.node.v6() } else { lab.node.v4() };
    let mut all = vec![uplink];
    for network in networks {
        all.push(network.gateway(v6)?);
    }
    Ok(all)
}

fn endpoints_reach_published_ports_by_every_address_of_the_node(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("hairpin", mode)?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let server = lab.endpoint("server", &web)?;
    let neighbour = lab.endpoint("neighbour", &web)?;
    let foreign = lab.endpoint("foreign", &db)?;
    for proto in Proto::ALL {
        lab.publish("server", &format!("8080:80/{}", proto.name()))?;
        let _server = server.serve_source(proto, 80)?;
        for v6 in [false, true] {
            let addresses = node_addresses(&lab, &[&web, &db], v6)?;
            let node = addresses[0];
            for (caller, to) in [&server, &neighbour, &foreign]
                .into_iter()
                .flat_map(|c| addresses.iter().map(move |a| (c, *a)))
            {
                let seen = caller.ask_source(proto, SocketAddr::new(to, 8080))?;
                ensure!(seen.ip() == node, "{} to {to}: seen as {seen}", caller.name);
            }
        }
    }
    for caller in [&server, &neighbour, &foreign] {
        bulk(&lab, caller, &server)?;
    }
    // Isolation still holds for what is not published.
    foreign.ping_fails(server.v4())?;
    foreign.ping_fails(server.v6())
}

/// A transfer both ways and a full datagram, each checked byte by byte.
fn bulk(lab: &Lab, caller: &Endpoint, server: &Endpoint) -> Result<()> {
    for (node, inside) in [(lab.node.v4(), server.v4()), (lab.node.v6(), server.v6())] {
        let (listen, to) = (SocketAddr::new(inside, 80), SocketAddr::new(node, 8080));
        caller.bulk_tcp(server, listen, to, 2)?;
        caller.udp_echo(server, listen, to, 1400)?;
    }
    Ok(())
}

both_modes! {
    endpoints_reach_published_ports_by_every_address_of_the_node;
}

#[test]
fn an_internal_network_does_not_get_out_by_published_ports() -> Result<()> {
    let lab = Lab::new("hairpin-internal")?;
    let web = lab.network("web")?;
    let vault = lab.network_with("vault", &["--internal"])?;
    let server = lab.endpoint("server", &web)?;
    let inmate = lab.endpoint("inmate", &vault)?;
    // It was given no default route; it may give itself one.
    for (family, v6) in [("-4", false), ("-6", true)] {
        let gateway = vault.gateway(v6)?.to_string();
        inmate.ok("ip", &[family, "route", "add", "default", "via", &gateway])?;
    }
    for proto in Proto::ALL {
        lab.publish("server", &format!("8080:80/{}", proto.name()))?;
        let _server = server.serve_source(proto, 80)?;
        for v6 in [false, true] {
            for to in node_addresses(&lab, &[&web, &vault], v6)? {
                inmate.ask_source_fails(proto, SocketAddr::new(to, 8080))?;
            }
        }
    }
    ensure!(lab.node.stat("ep_out", Some("internal"))? >= 12, "reason");
    // The node itself it does reach.
    for gateway in [vault.gateway(false)?, vault.gateway(true)?] {
        inmate.ping(gateway)?;
        inmate.source_seen_by(Proto::Tcp, &lab.node, gateway, 9000)?;
    }
    Ok(())
}

#[test]
fn on_a_node_without_uplink_callers_are_seen_with_the_address_they_called() -> Result<()> {
    let lab = Lab::builder("hairpin-no-uplink").without_daemon().build()?;
    lab.node.ip("route del default via 192.0.2.100 dev up0\n\
         route del default via 2001:db8:1::100 dev up0\n")?;
    lab.node.start()?;
    let web = lab.network("web")?;
    let (server, neighbour) = (
        lab.endpoint("server", &web)?,
        lab.endpoint("neighbour", &web)?,
    );
    for proto in Proto::ALL {
        lab.publish("server", &format!("8080:80/{}", proto.name()))?;
        let _server = server.serve_source(proto, 80)?;
        for v6 in [false, true] {
            for to in node_addresses(&lab, &[&web], v6)? {
                for caller in [&server, &neighbour] {
                    let seen = caller.ask_source(proto, SocketAddr::new(to, 8080))?;
                    ensure!(seen.ip() == to, "{} to {to}: {seen}", caller.name);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn detaching_either_end_ends_the_conversation() -> Result<()> {
    let lab = Lab::new("hairpin-detach")?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let server = lab.endpoint("server", &web)?;
    let (one, two) = (lab.endpoint("one", &web)?, lab.endpoint("two", &db)?);
    lab.publish("server", "8080:80")?;
    let listener = server.tcp_listen(server.v4(), 80)?;
    let to = SocketAddr::new(lab.node.v4(), 8080);
    let conversations = [one.tcp_connect(to)?, two.tcp_connect(to)?];
    let accepted = [listener.accept()?.0, listener.accept()?.0];
    let flows = |filter: &[&str]| -> Result<Vec<netd_api::FlowLine>> {
        let args: Vec<&str> = ["flow", "ls"].iter().chain(filter).copied().collect();
        lab.node.netd_json(&args)
    };
    let all = flows(&[])?;
    ensure!(all.len() == 2, "{all:?}");
    ensure!(
        all.iter()
            .all(|f| f.kind == "hairpin" && f.endpoint.as_deref() == Some("server")),
        "{all:?}"
    );
    ensure!(flows(&["--endpoint", "two"])?.len() == 1, "by its caller");
    ensure!(
        flows(&["--endpoint", "server"])?.len() == 2,
        "by its server"
    );
    lab.node.netd_ok(&["detach", "two"])?;
    let left = flows(&[])?;
    ensure!(left.len() == 1 && left[0].src == one.v4(), "{left:?}");
    lab.node.netd_ok(&["detach", "server"])?;
    ensure!(flows(&[])?.is_empty());
    drop((conversations, accepted));
    Ok(())
}
