//! Ports published on the node reach the endpoint, and nothing else of it is reachable.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Lab, Proto};

fn the_server_sees_the_clients_own_address(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("published", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let outside = &lab.outside;
    for proto in Proto::ALL {
        lab.publish("a", &format!("8080:80/{}", proto.name()))?;
        let _server = a.serve_source(proto, 80)?;
        for (node, client) in [(lab.node.v4(), outside.v4()), (lab.node.v6(), outside.v6())] {
            let to = SocketAddr::new(node, 8080);
            let seen = outside.ask_source_from_port(proto, to, 4321)?;
            assert_eq!(seen, SocketAddr::new(client, 4321), "{proto:?}");
        }
    }
    for (node, inside) in [(lab.node.v4(), a.v4()), (lab.node.v6(), a.v6())] {
        outside.bulk_tcp(
            &a,
            SocketAddr::new(inside, 80),
            SocketAddr::new(node, 8080),
            4,
        )?;
        outside.udp_echo(
            &a,
            SocketAddr::new(inside, 80),
            SocketAddr::new(node, 8080),
            1400,
        )?;
    }
    Ok(())
}

fn what_is_not_published_is_not_reachable(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("unpublished", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    lab.publish("a", "8080:80")?;
    for subnet in &web.subnets {
        let via = if subnet.addr().is_ipv4() {
            lab.node.v4()
        } else {
            lab.node.v6()
        };
        lab.outside.ok(
            "ip",
            &[
                "route",
                "add",
                &subnet.trunc().to_string(),
                "via",
                &via.to_string(),
            ],
        )?;
    }
    for proto in Proto::ALL {
        let _server = a.serve_source(proto, 80)?;
        for own in [a.v4(), a.v6()] {
            lab.outside
                .ask_source_fails(proto, SocketAddr::new(own, 80))?;
        }
    }
    lab.outside.ping_fails(a.v4())?;
    lab.outside.ping_fails(a.v6())?;
    assert!(lab.node.stat("up_in", Some("unpublished"))? >= 6);
    Ok(())
}

fn the_nodes_own_services_stay_reachable(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("own-service", mode)?;
    let web = lab.network("web")?;
    let _a = lab.endpoint("a", &web)?;
    lab.publish("a", "8080:80")?;
    for (node, outside) in [
        (lab.node.v4(), lab.outside.v4()),
        (lab.node.v6(), lab.outside.v6()),
    ] {
        lab.outside.ping(node)?;
        for proto in Proto::ALL {
            // 8080 is published for TCP: UDP is still the node's.
            let port = if proto == Proto::Udp { 8080 } else { 8081 };
            assert_eq!(
                lab.outside
                    .source_seen_by(proto, &lab.node, node, port)?
                    .ip(),
                outside
            );
        }
    }
    Ok(())
}

both_modes! {
    the_server_sees_the_clients_own_address;
    what_is_not_published_is_not_reachable;
    the_nodes_own_services_stay_reachable;
}

#[test]
fn ranges_single_addresses_and_free_ports() -> Result<()> {
    let lab = Lab::new("specs")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let outside = &lab.outside;
    let (node4, node6) = (lab.node.v4(), lab.node.v6());

    lab.publish("a", "8000-8002:80-82")?;
    let _last = a.serve_source(Proto::Tcp, 82)?;
    outside.ask_source(Proto::Tcp, SocketAddr::new(node4, 8002))?;
    outside.ask_source(Proto::Tcp, SocketAddr::new(node6, 8002))?;

    let _server = a.serve_source(Proto::Tcp, 90)?;
    lab.publish("a", &format!("{node4}:8090:90"))?;
    outside.ask_source(Proto::Tcp, SocketAddr::new(node4, 8090))?;
    assert!(
        outside
            .ask_source(Proto::Tcp, SocketAddr::new(node6, 8090))
            .is_err()
    );
    lab.publish("a", &format!("[{node6}]:8091:90"))?;
    outside.ask_source(Proto::Tcp, SocketAddr::new(node6, 8091))?;
    assert!(
        outside
            .ask_source(Proto::Tcp, SocketAddr::new(node4, 8091))
            .is_err()
    );

    let found = lab.publish("a", "0:90/tcp")?;
    let port = found
        .first()
        .context("nothing published")?
        .spec
        .host
        .host_port;
    assert_ne!(port, 0);
    outside.ask_source(Proto::Tcp, SocketAddr::new(node4, port))?;
    let printed = lab.node.netd_ok(&["publish", "a", "0:91/udp"])?;
    assert!(
        printed.trim().ends_with(":91/udp") && !printed.starts_with("0:"),
        "{printed}"
    );

    let all: Vec<netd_api::Published> = lab.node.netd_json(&["published"])?;
    let mine: Vec<netd_api::Published> = lab.node.netd_json(&["published", "a"])?;
    assert_eq!(all, mine);
    assert_eq!(all.len(), 5);
    Ok(())
}

#[test]
fn attach_publishes_and_detach_takes_it_back() -> Result<()> {
    let lab = Lab::new("with-attach")?;
    let web = lab.network("web")?;
    let a = lab.endpoint_with(
        "a",
        &web,
        &["--publish", "8080:80", "--publish", "8080:80/udp"],
    )?;
    let b = lab.endpoint("b", &web)?;
    let to = SocketAddr::new(lab.node.v4(), 8080);
    {
        let _server = a.serve_source(Proto::Tcp, 80)?;
        lab.outside.ask_source(Proto::Tcp, to)?;
    }
    lab.node.netd_ok(&["detach", "a"])?;
    let left: Vec<netd_api::Published> = lab.node.netd_json(&["published"])?;
    assert!(left.is_empty(), "{left:?}");
    // The port is free again.
    lab.publish("b", "8080:81")?;
    let _server = b.serve_source(Proto::Tcp, 81)?;
    lab.outside.ask_source(Proto::Tcp, to)?;
    Ok(())
}

#[test]
fn unpublish_closes_the_port() -> Result<()> {
    let lab = Lab::new("unpublish")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    lab.publish("a", "8080:80/udp")?;
    let _server = a.serve_source(Proto::Udp, 80)?;
    for node in [lab.node.v4(), lab.node.v6()] {
        lab.outside
            .ask_source(Proto::Udp, SocketAddr::new(node, 8080))?;
    }
    lab.node.netd_ok(&["unpublish", "8080/udp"])?;
    for node in [lab.node.v4(), lab.node.v6()] {
        lab.outside
            .ask_source_fails(Proto::Udp, SocketAddr::new(node, 8080))?;
    }
    let left: Vec<netd_api::Published> = lab.node.netd_json(&["published"])?;
    assert!(left.is_empty());
    Ok(())
}
