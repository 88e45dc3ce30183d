//! The demo's traffic: every pair that must reach each other, by ping, TCP and UDP, IPv4 and IPv6.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail, ensure};

use super::Scene;
use crate::lab::{Host, Proto};

/// One line of the table.
pub struct Line {
    /// What is shown.
    pub what: &'static str,
    /// Who asks.
    pub from: String,
    /// Whom.
    pub to: String,
    /// With which tool.
    pub tool: &'static str,
    /// The source the other end saw.
    pub seen: Option<IpAddr>,
    /// Why it failed; none: it works.
    pub failure: Option<String>,
}

/// A pair of hosts, and the source the other end must see.
struct Pair<'a> {
    what: &'static str,
    from: &'a Host,
    server: &'a Host,
    to: IpAddr,
    source: IpAddr,
}

pub(super) fn run(scene: &Scene) -> Vec<Line> {
    let mut lines = Vec::new();
    for v6 in [false, true] {
        match pairs(scene, v6) {
            Ok(pairs) => {
                for pair in &pairs {
                    lines.push(ping(pair));
                    for proto in Proto::ALL {
                        lines.push(ask(pair, proto, scene.port, scene.port));
                    }
                }
                lines.extend(published(scene, v6));
            }
            Err(e) => lines.push(Line {
                what: "addresses",
                from: String::new(),
                to: String::new(),
                tool: "",
                seen: None,
                failure: Some(format!("{e:#}")),
            }),
        }
    }
    lines
}

fn family(host: &Host, v6: bool) -> Result<IpAddr> {
    let found = host.addresses().into_iter().find(|a| a.is_ipv6() == v6);
    found.ok_or_else(|| {
        anyhow::anyhow!("{} has no IPv{} address", host.name, if v6 { 6 } else { 4 })
    })
}

fn pairs(scene: &Scene, v6: bool) -> Result<Vec<Pair<'_>>> {
    let [a, b, c] = scene.endpoints.as_slice() else {
        bail!("the demo has three endpoints")
    };
    let (node, outside) = (&*scene.lab.node, &scene.lab.outside);
    let gateway = scene.network.gateway(v6)?;
    let (addr_a, addr_b, addr_c) = (family(a, v6)?, family(b, v6)?, family(c, v6)?);
    let uplink = family(node, v6)?;
    Ok(vec![
        Pair {
            what: "endpoint → endpoint",
            from: a,
            server: b,
            to: addr_b,
            source: addr_a,
        },
        Pair {
            what: "endpoint → endpoint",
            from: c,
            server: a,
            to: addr_a,
            source: addr_c,
        },
        Pair {
            what: "endpoint → node",
            from: b,
            server: node,
            to: gateway,
            source: addr_b,
        },
        Pair {
            what: "endpoint → uplink",
            from: b,
            server: node,
            to: uplink,
            source: addr_b,
        },
        Pair {
            what: "node → endpoint",
            from: node,
            server: c,
            to: addr_c,
            source: gateway,
        },
        Pair {
            what: "endpoint → outside",
            from: a,
            server: outside,
            to: family(outside, v6)?,
            source: uplink,
        },
    ])
}

fn published(scene: &Scene, v6: bool) -> Vec<Line> {
    let (node, outside) = (&*scene.lab.node, &scene.lab.outside);
    let (Ok(to), Ok(source), Some(server)) = (
        family(node, v6),
        family(outside, v6),
        scene.endpoints.first(),
    ) else {
        return Vec::new();
    };
    let pair = Pair {
        what: "outside → published",
        from: outside,
        server,
        to,
        source,
    };
    Proto::ALL
        .iter()
        .map(|proto| ask(&pair, *proto, scene.port, scene.published))
        .collect()
}

fn line(pair: &Pair<'_>, to: &str, tool: &'static str, result: Result<IpAddr>) -> Line {
    let checked = result.and_then(|seen| {
        ensure!(
            seen == pair.source,
            "the other end saw {seen}, not {}",
            pair.source
        );
        Ok(seen)
    });
    Line {
        what: pair.what,
        from: pair.from.name.clone(),
        to: format!("{} {to}", pair.server.name),
        tool,
        seen: checked.as_ref().ok().copied(),
        failure: checked.err().map(|e| format!("{e:#}")),
    }
}

fn ping(pair: &Pair<'_>) -> Line {
    let asked = || {
        // The answering side's device tells the source; the node's gateway device is not asked for
        // by name, so its own addresses are watched on every device that could carry them.
        let device = receiving_device(pair)?;
        let capture = pair.server.capture(&device)?;
        pair.from.ping(pair.to)?;
        capture.wait_for("the echo request", |frame| {
            let packet = frame.packet()?;
            (packet.dst == pair.to && packet.is_echo_request()).then_some(packet.src)
        })
    };
    line(pair, &pair.to.to_string(), "ping", asked())
}

/// The device of the server that gets the echo request.
fn receiving_device(pair: &Pair<'_>) -> Result<String> {
    if pair.server.name != "node" {
        return Ok(pair.server.device.clone());
    }
    let route = pair
        .server
        .ok("ip", &["-o", "route", "get", &pair.source.to_string()])?;
    let mut words = route.split_whitespace().skip_while(|w| *w != "dev").skip(1);
    match words.next() {
        Some(device) => Ok(device.to_owned()),
        None => bail!("the node has no route to {}", pair.source),
    }
}

fn ask(pair: &Pair<'_>, proto: Proto, serve: u16, port: u16) -> Line {
    let asked = || {
        // A published port is another address of another host: the server's own is any of its.
        let _server = if serve == port {
            pair.server
                .serve_source_at(proto, SocketAddr::new(pair.to, port))?
        } else {
            pair.server.serve_source(proto, serve)?
        };
        Ok(pair
            .from
            .ask_source(proto, SocketAddr::new(pair.to, port))?
            .ip())
    };
    let tool = match proto {
        Proto::Tcp => "socat tcp",
        Proto::Udp => "socat udp",
    };
    line(
        pair,
        &SocketAddr::new(pair.to, port).to_string(),
        tool,
        asked(),
    )
}
