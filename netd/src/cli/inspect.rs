//! What `netd endpoint inspect` prints: the endpoint, both ends of its veth, and what its namespace has
//! for itself. Prints only; the daemon has read all of it.

use netd_api::{DeviceEnd, EndpointDetails, InsideView, NamespaceView};

use super::endpoint::state;
use super::output::{fields, labels, list, table};

/// The whole page.
pub fn page(d: &EndpointDetails) -> String {
    let e = &d.endpoint;
    let mut text = fields([
        ("name", e.name.clone()),
        ("id", e.id.clone()),
        ("number", e.number.to_string()),
        ("network", e.network.clone()),
        ("state", state(e.state).into()),
        ("target", e.target.clone()),
        ("namespace", namespace(&d.namespace)),
        ("mac", e.mac.clone()),
        ("macs", e.macs.to_string()),
        ("addresses", list(&e.addresses)),
        ("gateways", list(&e.gateways)),
        ("published", list(e.published.iter().map(|p| &p.spec))),
        ("flows", format!("{} of {}", d.flows.used, d.flows.limit)),
        ("labels", labels(&e.labels)),
        ("owner", e.owner.clone()),
    ]);
    text += "\n";
    text += &ends(d);
    if let Some(inside) = &d.inside {
        text += "\n";
        text += &routes(inside);
        text += "\n";
        text += &neighbours(inside);
    }
    text
}

fn namespace(n: &NamespaceView) -> String {
    let names = if n.names.is_empty() {
        "no name".into()
    } else {
        n.names.join(", ")
    };
    match &n.gone {
        Some(why) => format!("gone: {why}"),
        None => format!(
            "{names} (inode {}, nsid {})",
            n.inode,
            n.nsid.map_or_else(|| "-".into(), |id| id.to_string())
        ),
    }
}

fn ends(d: &EndpointDetails) -> String {
    let inside = d.inside.as_ref().and_then(|i| i.device.as_ref());
    let here = d.node_side.as_ref();
    let name = |end: Option<&DeviceEnd>| end.map_or_else(|| "?".into(), |e| e.name.clone());
    let rows = [
        ("node", here, inside, &d.endpoint.device),
        ("inside", inside, here, &d.endpoint.ifname),
    ];
    table(
        &[
            "SIDE", "DEVICE", "IFINDEX", "PEER", "MAC", "MTU", "LINK", "RX PKTS", "RX BYTES",
            "RX DROP", "TX PKTS", "TX BYTES", "TX DROP",
        ],
        &[2, 5, 7, 8, 9, 10, 11, 12],
        rows.into_iter().map(|(side, end, other, called)| {
            let missing = || {
                // Without a look inside nothing is known of that end.
                let unknown = side == "inside" && d.inside.is_none();
                let mut line = vec![side.to_owned(), called.clone()];
                line.resize(6, "-".into());
                line.push(if unknown { "?" } else { "gone" }.into());
                line.resize(13, "-".into());
                line
            };
            end.map_or_else(missing, |end| line(side, end, &name(other)))
        }),
    )
}

fn line(side: &str, end: &DeviceEnd, peer: &str) -> Vec<String> {
    let c = &end.counters;
    let link = match (end.up, end.carrier) {
        (false, _) => "down",
        (true, false) => "no carrier",
        (true, true) => "up",
    };
    vec![
        side.into(),
        end.name.clone(),
        end.ifindex.to_string(),
        format!("{peer} ({})", end.peer_ifindex),
        end.mac.clone().unwrap_or_else(|| "-".into()),
        end.mtu.to_string(),
        link.into(),
        c.rx_packets.to_string(),
        c.rx_bytes.to_string(),
        c.rx_dropped.to_string(),
        c.tx_packets.to_string(),
        c.tx_bytes.to_string(),
        c.tx_dropped.to_string(),
    ]
}

fn routes(inside: &InsideView) -> String {
    table(
        &["ROUTE INSIDE", "VIA", "DEVICE", "SOURCE", "METRIC", "TABLE"],
        &[4],
        inside.routes.iter().map(|r| {
            let to = match r.kind.as_str() {
                "unicast" => r.to.to_string(),
                kind => format!("{kind} {}", r.to),
            };
            vec![
                to,
                list(r.via),
                list(&r.device),
                list(r.source),
                r.metric.to_string(),
                match r.table {
                    254 => "main".into(),
                    table => table.to_string(),
                },
            ]
        }),
    )
}

fn neighbours(inside: &InsideView) -> String {
    table(
        &["NEIGHBOUR INSIDE", "MAC", "DEVICE", "STATE"],
        &[],
        inside.neighbours.iter().map(|n| {
            vec![
                n.address.to_string(),
                list(&n.mac),
                n.device.clone(),
                n.state.clone(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use netd_api::{DeviceCounters, Endpoint, EndpointState, Labels, NeighbourLine, RouteLine};

    use super::*;

    fn end(name: &str, ifindex: u32, peer: u32) -> DeviceEnd {
        DeviceEnd {
            name: name.into(),
            ifindex,
            peer_ifindex: peer,
            mac: Some("02:00:00:00:00:07".into()),
            mtu: 1500,
            up: true,
            carrier: true,
            counters: DeviceCounters {
                rx_packets: 42,
                tx_dropped: 7,
                ..DeviceCounters::default()
            },
        }
    }

    fn details() -> EndpointDetails {
        EndpointDetails {
            endpoint: Endpoint {
                id: "0a1b2c3d4e5f".into(),
                number: 1,
                name: "a".into(),
                network: "web".into(),
                target: "box".into(),
                ifname: "eth0".into(),
                device: "nde0a1b2c3d4e5f".into(),
                ifindex: 7,
                macs: netd_api::Macs::default(),
                mac: "02:00:00:00:00:07".into(),
                addresses: vec!["10.210.0.2/24".parse().unwrap()],
                gateways: vec![],
                state: EndpointState::Bound,
                published: vec![],
                labels: Labels::default(),
                owner: "cli".into(),
            },
            flows: netd_api::FlowUse {
                used: 3,
                limit: 100,
            },
            node_side: Some(end("nde0a1b2c3d4e5f", 7, 2)),
            namespace: NamespaceView {
                inode: 4_026_532_233,
                names: vec!["box".into()],
                nsid: Some(3),
                gone: None,
            },
            inside: Some(InsideView {
                device: Some(end("lan", 2, 7)),
                addresses: vec![],
                routes: vec![RouteLine {
                    to: "0.0.0.0/0".parse().unwrap(),
                    kind: "unicast".into(),
                    via: Some("10.210.0.1".parse().unwrap()),
                    device: Some("lan".into()),
                    source: None,
                    metric: 0,
                    table: 254,
                }],
                neighbours: vec![NeighbourLine {
                    address: "fe80::1".parse().unwrap(),
                    mac: None,
                    device: "lan".into(),
                    state: "failed".into(),
                }],
            }),
        }
    }

    fn row<'a>(text: &'a str, begins: &str) -> Vec<&'a str> {
        let line = text.lines().find(|l| l.starts_with(begins)).unwrap();
        line.split_whitespace().collect()
    }

    #[test]
    fn both_ends_name_each_other_and_show_what_they_counted() {
        let text = page(&details());
        let node = row(&text, "node ");
        assert_eq!(node[1..5], ["nde0a1b2c3d4e5f", "7", "lan", "(2)"]);
        assert_eq!((node[7], node[8], node[13]), ("up", "42", "7"));
        let inside = row(&text, "inside ");
        assert_eq!(inside[1..5], ["lan", "2", "nde0a1b2c3d4e5f", "(7)"]);
        assert!(text.contains("box (inode 4026532233, nsid 3)"), "{text}");
        assert_eq!(row(&text, "0.0.0.0/0")[1..3], ["10.210.0.1", "lan"]);
        assert_eq!(row(&text, "fe80::1")[1..], ["-", "lan", "failed"]);
    }

    #[test]
    fn a_namespace_that_is_gone_is_said_so_and_nothing_is_made_up() {
        let mut d = details();
        d.inside = None;
        d.node_side = None;
        d.namespace.gone = Some("target \"box\": there is no /run/netns/box".into());
        let text = page(&d);
        assert!(text.contains("gone: target \"box\""), "{text}");
        assert_eq!(row(&text, "node ")[6], "gone");
        assert_eq!(row(&text, "inside ")[6], "?");
        assert!(!text.contains("ROUTE"), "{text}");
    }
}
