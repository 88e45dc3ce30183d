//! Endpoint traffic to the outside leaves with the node's address, and never takes a port that is
//! somebody else's.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use netd_tests::both_modes;
use netd_tests::lab::capture::Frame;
use netd_tests::lab::{AttachMode, Host, Lab, Proto, process, wait};

const WANTED: u16 = 5555;

/// The family's wildcard.
fn any(to: SocketAddr) -> std::net::IpAddr {
    if to.is_ipv4() {
        [0u8; 4].into()
    } else {
        [0u8; 16].into()
    }
}

/// Sends a word; the server's view of the sender; and the echo back must reach the sender.
fn exchange(
    client: &UdpSocket,
    server: &UdpSocket,
    to: SocketAddr,
    word: &str,
) -> Result<SocketAddr> {
    let mut buffer = [0; 64];
    client.send_to(word.as_bytes(), to)?;
    let (len, from) = server
        .recv_from(&mut buffer)
        .with_context(|| format!("{word} did not arrive"))?;
    ensure!(
        buffer.get(..len) == Some(word.as_bytes()),
        "the server got something else than {word}"
    );
    server.send_to(word.as_bytes(), from)?;
    let (len, _) = client
        .recv_from(&mut buffer)
        .with_context(|| format!("no answer to {word}"))?;
    ensure!(
        buffer.get(..len) == Some(word.as_bytes()),
        "the answer to {word} was somebody else's"
    );
    Ok(from)
}

fn the_outside_sees_the_nodes_address(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("masquerade", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let outside = &lab.outside;
    let wire = outside.capture(&outside.device)?;
    for (to, node, own) in [
        (outside.v4(), lab.node.v4(), a.v4()),
        (outside.v6(), lab.node.v6(), a.v6()),
    ] {
        a.ping(to)?;
        for proto in Proto::ALL {
            assert_eq!(a.source_seen_by(proto, outside, to, 8080)?.ip(), node);
        }
        let to = SocketAddr::new(to, 9000);
        a.bulk_tcp(outside, to, to, 4)?;
        assert_eq!(a.udp_echo(outside, to, to, 1400)?.ip(), node);
        let leaked = wire
            .drain()?
            .iter()
            .filter_map(Frame::packet)
            .find(|p| p.src == own || p.dst == own);
        assert_eq!(leaked, None, "an endpoint's own address was on the wire");
    }
    Ok(())
}

fn two_endpoints_use_the_same_source_port_at_the_same_time(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("collision", mode)?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    for to in [lab.outside.v4(), lab.outside.v6()] {
        let to = SocketAddr::new(to, 9000);
        let server = lab.outside.udp_bind(to.ip(), to.port())?;
        let (from_a, from_b) = (a.udp_bind(any(to), WANTED)?, b.udp_bind(any(to), WANTED)?);
        let first = exchange(&from_a, &server, to, "udp of a")?;
        let second = exchange(&from_b, &server, to, "udp of b")?;
        assert_eq!(first.port(), WANTED, "a free port is kept");
        assert_ne!(first, second);
        // Both still stand, in any order.
        assert_eq!(exchange(&from_a, &server, to, "again a")?, first);
        assert_eq!(exchange(&from_b, &server, to, "again b")?, second);

        let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
        let mut streams = Vec::new();
        for endpoint in [&a, &b] {
            let client = endpoint.tcp_connect_from(WANTED, to)?;
            let (server, from) = listener.accept()?;
            streams.push((client, server, from));
        }
        for (i, (client, server, _)) in streams.iter_mut().enumerate() {
            let word = [i as u8 + 1; 100];
            let mut got = [0; 100];
            client.write_all(&word)?;
            server.read_exact(&mut got)?;
            assert_eq!(got, word);
        }
        let [(_, _, first), (_, _, second)] = streams.as_slice() else {
            anyhow::bail!("two streams")
        };
        assert_ne!(first, second);
        assert_eq!(first.port(), WANTED);
    }
    Ok(())
}

fn pings_with_the_same_identifier_are_told_apart(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("echo-id", mode)?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    for to in [lab.outside.v4(), lab.outside.v6()] {
        let family = if to.is_ipv4() { "-4" } else { "-6" };
        let ping = |host: &Host| {
            let mut command = host.command("ping");
            command.args([
                family,
                "-e",
                "77",
                "-c",
                "5",
                "-i",
                "0.05",
                "-W",
                "5",
                &to.to_string(),
            ]);
            process::run(&mut command)?.success()
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| ping(&b));
            let mine = ping(&a)?;
            let other = other.join().map_err(|_| anyhow::anyhow!("panicked"))??;
            for text in [mine, other] {
                ensure!(text.contains(" 0% packet loss"), "{text}");
                ensure!(!text.contains("DUP"), "{text}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn a_port_the_node_listens_on_is_never_taken(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("listener", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    for to in [lab.outside.v4(), lab.outside.v6()] {
        let to = SocketAddr::new(to, 9000);
        let _udp = lab.node.udp_bind(any(to), WANTED)?;
        let _tcp = lab.node.tcp_listen(any(to), WANTED)?;
        let server = lab.outside.udp_bind(to.ip(), to.port())?;
        let seen = exchange(&a.udp_bind(any(to), WANTED)?, &server, to, "mine")?;
        assert_ne!(seen.port(), WANTED, "UDP {to}");
        let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
        let _client = a.tcp_connect_from(WANTED, to)?;
        assert_ne!(listener.accept()?.1.port(), WANTED, "TCP {to}");
    }
    Ok(())
}

fn a_flow_of_the_node_and_a_mapping_never_share_a_port(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("node-flow", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    for to in [lab.outside.v4(), lab.outside.v6()] {
        // The node was first: the endpoint has to move.
        let to = SocketAddr::new(to, 9000);
        let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
        let mut node = lab.node.tcp_connect_from(WANTED, to)?;
        let (mut node_peer, node_seen) = listener.accept()?;
        let mut endpoint = a.tcp_connect_from(WANTED, to)?;
        let (mut endpoint_peer, seen) = listener.accept()?;
        assert_eq!(
            node_seen.port(),
            WANTED,
            "the node's own flow keeps its port"
        );
        assert_ne!(seen, node_seen);
        for (from, at, word) in [
            (&mut node, &mut node_peer, b"node"),
            (&mut endpoint, &mut endpoint_peer, b"endp"),
        ] {
            let mut got = [0; 4];
            from.write_all(word)?;
            at.read_exact(&mut got)?;
            assert_eq!(&got, word);
            at.write_all(word)?;
            from.read_exact(&mut got)?;
            assert_eq!(&got, word);
        }

        // The endpoint was first: the node's packets leave by another port, both are answered.
        let to = SocketAddr::new(to.ip(), 9001);
        let server = lab.outside.udp_bind(to.ip(), to.port())?;
        let (from_a, from_node) = (
            a.udp_bind(any(to), WANTED + 1)?,
            lab.node.udp_bind(any(to), WANTED + 1),
        );
        let mapped = match from_node {
            Ok(socket) => {
                let mapped = exchange(&from_a, &server, to, "endpoint")?;
                let own = exchange(&socket, &server, to, "the node")?;
                assert_ne!(mapped, own);
                mapped
            }
            Err(e) => return Err(e),
        };
        assert_eq!(exchange(&from_a, &server, to, "endpoint")?, mapped);
    }
    Ok(())
}

fn a_published_port_is_never_taken(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("published-port", mode)?;
    let web = lab.network("web")?;
    let (a, _b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.publish("b", &format!("{WANTED}:80/udp"))?;
    lab.publish("b", &format!("{WANTED}:80/tcp"))?;
    for to in [lab.outside.v4(), lab.outside.v6()] {
        let to = SocketAddr::new(to, 9000);
        let server = lab.outside.udp_bind(to.ip(), to.port())?;
        let seen = exchange(&a.udp_bind(any(to), WANTED)?, &server, to, "mine")?;
        assert_ne!(seen.port(), WANTED);
        let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
        let _client = a.tcp_connect_from(WANTED, to)?;
        assert_ne!(listener.accept()?.1.port(), WANTED);
    }
    Ok(())
}

fn the_node_with_a_gateways_address_is_answered(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("gateway-source", mode)?;
    let web = lab.network("web")?;
    let _a = lab.endpoint("a", &web)?;
    for gateway in &web.gateways {
        let (to, node) = if gateway.is_ipv4() {
            (lab.outside.v4(), lab.node.v4())
        } else {
            (lab.outside.v6(), lab.node.v6())
        };
        let wire = lab.outside.capture(&lab.outside.device)?;
        let from = gateway.to_string();
        lab.node
            .ping_with(to, &["-c", "1", "-W", "5", "-I", &from])?;
        let leaked = wire.drain()?.iter().any(|f| holds(f, *gateway));
        ensure!(!leaked, "the outside saw {gateway}");
        assert_ne!(node, *gateway);
    }
    Ok(())
}

/// Whether the bytes of an address are anywhere in an IP packet. (In ARP they may be: the kernel asks for
/// the next hop with the address of the packet that waits.)
fn holds(frame: &Frame, address: std::net::IpAddr) -> bool {
    let bytes = match address {
        std::net::IpAddr::V4(a) => a.octets().to_vec(),
        std::net::IpAddr::V6(a) => a.octets().to_vec(),
    };
    let arp = frame.bytes.get(12..14) == Some(&[0x08, 0x06]);
    !arp && frame.bytes.windows(bytes.len()).any(|w| w == bytes)
}

both_modes! {
    the_node_with_a_gateways_address_is_answered;
    the_outside_sees_the_nodes_address;
    two_endpoints_use_the_same_source_port_at_the_same_time;
    pings_with_the_same_identifier_are_told_apart;
    a_port_the_node_listens_on_is_never_taken;
    a_flow_of_the_node_and_a_mapping_never_share_a_port;
    a_published_port_is_never_taken;
}

#[test]
fn many_flows_each_get_a_port_of_their_own() -> Result<()> {
    let lab = Lab::new("many")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let to = SocketAddr::new(lab.outside.v4(), 9000);
    let server = lab.outside.udp_bind(to.ip(), to.port())?;
    let mut seen = std::collections::BTreeSet::new();
    let mut sockets = Vec::new();
    for port in 20_000..20_250 {
        for host in [&a, &b] {
            let socket = host.udp_bind(any(to), port)?;
            seen.insert(exchange(
                &socket,
                &server,
                to,
                &format!("{} {port}", host.name),
            )?);
            sockets.push(socket);
        }
    }
    assert_eq!(seen.len(), 500);
    let flows: Vec<netd_api::FlowLine> = lab.node.netd_json(&["flow", "ls", "--proto", "udp"])?;
    assert_eq!(flows.iter().filter(|f| f.dport == 9000).count(), 500);
    Ok(())
}

#[test]
fn the_flow_table_shows_and_ends_flows() -> Result<()> {
    let lab = Lab::new("flows")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let to = SocketAddr::new(lab.outside.v4(), 9000);
    let listener = lab.outside.tcp_listen(to.ip(), to.port())?;
    let mut client = a.tcp_connect(to)?;
    let (mut server, seen) = listener.accept()?;
    client.write_all(b"ping")?;
    server.read_exact(&mut [0; 4])?;
    server.write_all(b"pong")?;
    client.read_exact(&mut [0; 4])?;
    let list = |args: &[&str]| -> Result<Vec<netd_api::FlowLine>> {
        lab.node.netd_json(&[&["flow", "ls"], args].concat())
    };
    let flows = list(&["--proto", "tcp", "--endpoint", "a"])?;
    let [flow] = flows.as_slice() else {
        anyhow::bail!("not one flow: {flows:?}")
    };
    assert_eq!(flow.kind, "masquerade");
    assert_eq!(
        (flow.src, flow.dst, flow.dport),
        (a.v4(), to.ip(), to.port())
    );
    assert_eq!((flow.nat_src, flow.nat_sport), (seen.ip(), seen.port()));
    assert!(flow.packets >= 3 && flow.reply_packets >= 2, "{flow:?}");
    assert!(list(&["--port", "9999"])?.is_empty());

    lab.node.netd_ok(&["flow", "flush", "--endpoint", "a"])?;
    assert!(list(&[])?.is_empty());
    // A segment in the middle of a connection nobody knows is dropped, and the reason counted.
    client.write_all(b"lost")?;
    wait::until("tcp_no_flow to be counted", || {
        Ok((lab.node.stat("ep_out", Some("tcp_no_flow"))? > 0).then_some(()))
    })
}

#[test]
fn without_masquerade_nothing_leaves_with_a_private_source() -> Result<()> {
    let lab = Lab::new("no-masquerade")?;
    let plain = lab.network_with("plain", &["--no-masquerade"])?;
    let a = lab.endpoint("a", &plain)?;
    let subnet = plain
        .subnets
        .iter()
        .find(|s| s.addr().is_ipv4())
        .context("no IPv4 subnet")?;
    let gateway = lab.node.v4().to_string();
    lab.outside.ok(
        "ip",
        &["route", "add", &subnet.trunc().to_string(), "via", &gateway],
    )?;
    let wire = lab.outside.capture(&lab.outside.device)?;
    // Routed as it is: the outside sees the endpoint's own address.
    let _ = a.ping_with(lab.outside.v4(), &["-c", "1", "-W", "2"]);
    wire.wait_for("the echo request with its own source", |f| {
        f.packet()
            .filter(|p| p.is_echo_request() && p.src == a.v4())
            .map(drop)
    })
}
