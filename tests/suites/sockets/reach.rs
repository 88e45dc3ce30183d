//! Who reaches what.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Lab, Proto};

use super::call::{Call, answered, fail, mapped, published, ways};

fn the_nodes_processes_reach_published_ports_by_any_of_its_addresses(
    mode: AttachMode,
) -> Result<()> {
    let lab = Lab::in_mode("own-processes", mode)?;
    let (web, a) = published(&lab)?;
    let _tcp = a.serve_source(Proto::Tcp, 80)?;
    let _udp = a.serve_source(Proto::Udp, 80)?;
    let gateways = [web.gateway(false)?, web.gateway(true)?];
    let mut calls = Vec::new();
    for own in [
        "127.0.0.1",
        "127.0.0.9",
        "0.0.0.0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
    ] {
        calls.extend(ways(own, 8080));
    }
    for own in [lab.node.v4(), lab.node.v6()].iter().chain(&gateways) {
        calls.extend(ways(own, 8080));
    }
    for own in [lab.node.v4(), web.gateway(false)?] {
        calls.extend(ways(mapped(own), 8080));
    }
    answered(&lab.node, &calls, &gateways)?;
    // Many in a row, as a pool of clients makes them.
    let many: Vec<Call> = (0..100)
        .map(|i| Call::connect(Proto::Tcp, ["127.0.0.1", "::1"][i % 2], 8080))
        .collect();
    answered(&lab.node, &many, &gateways)
}

fn sockets_bound_first_work_or_are_refused_at_once(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("bound-first", mode)?;
    let (_web, a) = published(&lab)?;
    let _tcp = a.serve_source(Proto::Tcp, 80)?;
    let _udp = a.serve_source(Proto::Udp, 80)?;
    // An address of the node's can be reached from an endpoint.
    let nodes = [lab.node.v4(), lab.node.v6()];
    let mut calls = Vec::new();
    for (own, node) in ["127.0.0.1", "::1"].into_iter().zip(nodes) {
        calls.extend(ways(own, 8080).map(|c| c.from(node)));
        calls.extend(ways(node, 8080).map(|c| c.from(node)));
    }
    let six = mapped(lab.node.v4());
    calls.extend(ways("::ffff:127.0.0.1", 8080).map(|c| c.from(&six)));
    answered(&lab.node, &calls, &nodes)?;
    // A loopback address cannot: the call goes where it went without netd, and nobody is there.
    let mut calls = Vec::new();
    for own in ["127.0.0.1", "::1"] {
        calls.extend(ways(own, 8080).map(|c| c.from(own)));
    }
    // From ::1 to another address of its own the kernel drops every packet, netd or not.
    calls.extend(ways(lab.node.v4(), 8080).map(|c| c.from("127.0.0.1")));
    calls.extend(ways("::ffff:127.0.0.1", 8080).map(|c| c.from("::ffff:127.0.0.1")));
    // Nor can who insists on a device.
    calls.extend(ways("127.0.0.1", 8080).map(|c| c.by("lo")));
    calls.extend(ways("::1", 8080).map(|c| c.by("lo")));
    fail(&lab.node, &calls, "ECONNREFUSED")
}

both_modes! {
    the_nodes_processes_reach_published_ports_by_any_of_its_addresses;
    sockets_bound_first_work_or_are_refused_at_once;
}

#[test]
fn a_port_published_on_loopback_serves_the_nodes_processes_alone() -> Result<()> {
    let lab = Lab::new("loopback-only")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let gateways = [web.gateway(false)?, web.gateway(true)?];
    for proto in Proto::ALL {
        lab.publish("a", &format!("127.0.0.1:8080:80/{}", proto.name()))?;
        lab.publish("a", &format!("[::1]:8081:80/{}", proto.name()))?;
    }
    let _tcp = a.serve_source(Proto::Tcp, 80)?;
    let _udp = a.serve_source(Proto::Udp, 80)?;
    let mut calls: Vec<Call> = ways("127.0.0.1", 8080).into();
    calls.extend(ways("0.0.0.0", 8080));
    calls.extend(ways("::ffff:127.0.0.1", 8080));
    calls.extend(ways("::1", 8081));
    calls.extend(ways("::", 8081));
    answered(&lab.node, &calls, &gateways)?;
    let mut calls: Vec<Call> = ways("127.0.0.2", 8080).into();
    calls.extend(ways("::1", 8080));
    calls.extend(ways("127.0.0.1", 8081));
    for own in [lab.node.v4(), web.gateway(false)?] {
        calls.extend(ways(own, 8080));
    }
    for own in [lab.node.v6(), web.gateway(true)?] {
        calls.extend(ways(own, 8081));
    }
    fail(&lab.node, &calls, "ECONNREFUSED")?;
    for proto in Proto::ALL {
        let outside = &lab.outside;
        outside.ask_source_fails(proto, SocketAddr::new(lab.node.v4(), 8080))?;
        outside.ask_source_fails(proto, SocketAddr::new(lab.node.v6(), 8081))?;
    }
    Ok(())
}

#[test]
fn curl_and_socat_reach_a_published_port_as_users_do() -> Result<()> {
    let lab = Lab::new("clients")?;
    let (web, a) = published(&lab)?;
    let gateways = [web.gateway(false)?, web.gateway(true)?];
    let _tcp = a.serve_source(Proto::Tcp, 80)?;
    let _udp = a.serve_source(Proto::Udp, 80)?;
    for proto in Proto::ALL {
        for (own, gateway) in [
            ("127.0.0.1".parse::<IpAddr>()?, gateways[0]),
            ("::1".parse()?, gateways[1]),
            (lab.node.v4(), gateways[0]),
            (lab.node.v6(), gateways[1]),
        ] {
            let seen = lab.node.ask_source(proto, SocketAddr::new(own, 8080))?;
            assert_eq!(seen.ip(), gateway, "{proto:?} {own}");
        }
    }
    // The server answers whatever it is asked: enough for HTTP/0.9.
    for url in [
        "http://127.0.0.1:8080/",
        "http://[::1]:8080/",
        "http://localhost:8080/",
        "http://0.0.0.0:8080/",
        "http://[::ffff:127.0.0.1]:8080/",
    ] {
        let args = [
            "-sS",
            "--http0.9",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            url,
        ];
        let said = lab.node.ok("curl", &args)?;
        assert!(said.contains("GET"), "{url}: {said}");
    }
    // A transfer of some size, both ways.
    let listener = a.tcp_listen(a.v4(), 81)?;
    lab.publish("a", "8081:81")?;
    let script = "import socket, threading\n\
                  s = socket.create_connection(('127.0.0.1', 8081))\n\
                  def send(): s.sendall(b'x' * 4000000); s.shutdown(socket.SHUT_WR)\n\
                  threading.Thread(target=send).start()\n\
                  print(len(s.makefile('rb').read()))";
    let echo = std::thread::spawn(move || -> Result<u64> {
        let (mut from, _) = listener.accept()?;
        let mut to = from.try_clone()?;
        Ok(std::io::copy(&mut from, &mut to)?)
    });
    let said = lab.node.ok("python3", &["-c", script])?;
    assert_eq!(said.trim(), "4000000");
    assert_eq!(echo.join().expect("the echo server")?, 4_000_000);
    Ok(())
}

#[test]
fn the_same_port_of_another_host_stays_reachable() -> Result<()> {
    let lab = Lab::new("other-hosts")?;
    let (web, a) = published(&lab)?;
    let b = lab.endpoint("b", &web)?;
    let _tcp = a.serve_source(Proto::Tcp, 80)?;
    let _udp = a.serve_source(Proto::Udp, 80)?;
    let mut servers = Vec::new();
    for host in [&lab.outside, &*b] {
        for proto in Proto::ALL {
            for own in host.addresses() {
                servers.push(host.serve_source_at(proto, SocketAddr::new(own, 8080))?);
            }
        }
    }
    let outside: Vec<Call> = lab
        .outside
        .addresses()
        .into_iter()
        .flat_map(|own| ways(own, 8080))
        .collect();
    answered(&lab.node, &outside, &[lab.node.v4(), lab.node.v6()])?;
    let endpoint: Vec<Call> = b
        .addresses()
        .into_iter()
        .flat_map(|own| ways(own, 8080))
        .collect();
    answered(
        &lab.node,
        &endpoint,
        &[web.gateway(false)?, web.gateway(true)?],
    )?;
    // And an address that was the node's is another host's at once when it is not any more.
    lab.node.ip("addr add 192.0.2.77/32 dev up0\n")?;
    let own = ways("192.0.2.77", 8080);
    netd_tests::lab::wait::until("the daemon to see the address", || {
        Ok(answered(&lab.node, &own, &[web.gateway(false)?]).ok())
    })?;
    lab.node.ip("addr del 192.0.2.77/32 dev up0\n")?;
    lab.outside.ip("addr add 192.0.2.77/32 dev eth0\n")?;
    let _moved = lab
        .outside
        .serve_source_at(Proto::Tcp, "192.0.2.77:8080".parse()?)?;
    netd_tests::lab::wait::until("the daemon to see that it is gone", || {
        Ok(answered(&lab.node, &own[..1], &[lab.node.v4()]).ok())
    })
}

#[test]
fn processes_of_other_namespaces_are_left_alone() -> Result<()> {
    let lab = Lab::new("other-namespaces")?;
    let (web, a) = published(&lab)?;
    let _tcp = a.serve_source(Proto::Tcp, 80)?;
    let _udp = a.serve_source(Proto::Udp, 80)?;
    let b = lab.endpoint("b", &web)?;
    let mut other = (*b).clone();
    other.cgroup.clone_from(&lab.node.cgroup);
    other.ip("link set lo up\n")?;
    let calls: Vec<Call> = ways("127.0.0.1", 8080)
        .into_iter()
        .chain(ways("::1", 8080))
        .collect();
    fail(&other, &calls, "ECONNREFUSED")?;
    // The published port is free there, and what listens on it is reached.
    let _tcp = other.serve_source(Proto::Tcp, 8080)?;
    let _udp = other.serve_source(Proto::Udp, 8080)?;
    answered(&other, &calls, &["127.0.0.1".parse()?, "::1".parse()?])
}
