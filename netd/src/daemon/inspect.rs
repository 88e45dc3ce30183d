//! An endpoint seen from both sides. The core tells what it has; the kernel is asked on a thread
//! beside it, because a namespace may hold as many routes as it likes and nobody shall wait for them.

use std::path::Path;

use netd_api::{
    DeviceCounters, DeviceEnd, EndpointDetails, FlowUse, InsideView, NamespaceView, NeighbourLine,
    RouteLine,
};

use super::core::Handle;
use super::error::{Result, ServiceError};
use crate::model::Endpoint;
use crate::model::name::ShowMac;
use crate::net::inspect::{self, Inside};
use crate::net::survey::names_of;
use crate::net::veth::{self, Device};
use crate::net::{Netlink, NetnsFile};

/// Where namespaces have names.
const NAMES: &str = "/run/netns";

/// An endpoint as the daemon has it, and as the kernel has it now.
pub async fn details(
    handle: &Handle,
    text: String,
    network: Option<String>,
) -> Result<EndpointDetails> {
    let (shown, record, flows) = handle
        .call(move |core| {
            let record = core.desired.endpoint(&text, network.as_deref())?.clone();
            let (used, limit) = core.node.datapath.flow_use(record.number)?;
            let flows = FlowUse { used, limit };
            Ok((core.show_endpoint(&record), record, flows))
        })
        .await?;
    let read = tokio::task::spawn_blocking(move || look(shown, &record, flows)).await;
    read.map_err(|e| ServiceError::node(format!("the thread that looks at it died: {e}")))?
}

fn look(
    endpoint: netd_api::Endpoint,
    record: &Endpoint,
    flows: FlowUse,
) -> Result<EndpointDetails> {
    let here = veth::devices(&mut Netlink::open()?)?;
    let node_side = here.iter().find(|d| d.name == endpoint.device);
    let (inside, gone) = match read_inside(record) {
        Ok(inside) => (Some(inside), None),
        Err(why) => (None, Some(why)),
    };
    Ok(EndpointDetails {
        namespace: NamespaceView {
            inode: record.netns.ino,
            names: names_of(Path::new(NAMES), (record.netns.dev, record.netns.ino)),
            nsid: node_side.and_then(|d| d.nsid),
            gone,
        },
        inside: inside.map(|all| view(&all, record, node_side)),
        flows,
        node_side: node_side.map(end),
        endpoint,
    })
}

/// Reads the namespace the endpoint was attached to; else says why not: its target may name another
/// one by now, or none.
fn read_inside(record: &Endpoint) -> std::result::Result<Inside, String> {
    let ns = NetnsFile::open(&record.target).map_err(|e| e.to_string())?;
    if ns.id != record.netns {
        return Err(format!(
            "target {:?} is another namespace now",
            record.target
        ));
    }
    ns.run(Netlink::open)
        .and_then(|opened| inspect::read(&mut opened?))
        .map_err(|e| e.to_string())
}

/// Somebody may have renamed the device inside: then the node side tells which it is.
fn view(all: &Inside, record: &Endpoint, node_side: Option<&Device>) -> InsideView {
    let peer = node_side.map(|d| d.peer);
    let device = all
        .devices
        .iter()
        .find(|d| d.veth && Some(d.ifindex) == peer)
        .or_else(|| all.devices.iter().find(|d| d.name == record.ifname));
    let name = |ifindex: u32| {
        let found = all.devices.iter().find(|d| d.ifindex == ifindex);
        found.map(|d| d.name.clone())
    };
    InsideView {
        addresses: all
            .addresses
            .iter()
            .filter(|a| device.is_some_and(|d| d.ifindex == a.ifindex))
            .map(|a| a.net)
            .collect(),
        routes: all
            .routes
            .iter()
            .map(|r| RouteLine {
                to: r.to,
                kind: r.kind.into(),
                via: r.via,
                device: name(r.device),
                source: r.source,
                metric: r.metric,
                table: r.table,
            })
            .collect(),
        neighbours: all
            .neighbours
            .iter()
            .map(|n| NeighbourLine {
                address: n.ip,
                mac: n.mac.map(|mac| ShowMac(mac).to_string()),
                device: name(n.device).unwrap_or_else(|| format!("if{}", n.device)),
                state: n.state.into(),
            })
            .collect(),
        device: device.map(end),
    }
}

fn end(d: &Device) -> DeviceEnd {
    let c = &d.counters;
    DeviceEnd {
        name: d.name.clone(),
        ifindex: d.ifindex,
        peer_ifindex: d.peer,
        mac: d.mac.map(|mac| ShowMac(mac).to_string()),
        mtu: d.mtu,
        up: d.up,
        carrier: d.carrier,
        counters: DeviceCounters {
            rx_packets: c.rx_packets,
            rx_bytes: c.rx_bytes,
            rx_dropped: c.rx_dropped,
            rx_errors: c.rx_errors,
            tx_packets: c.tx_packets,
            tx_bytes: c.tx_bytes,
            tx_dropped: c.tx_dropped,
            tx_errors: c.tx_errors,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::tests::{empty, endpoint, network};

    fn device(name: &str, ifindex: u32, peer: u32) -> Device {
        Device {
            name: name.into(),
            ifindex,
            veth: true,
            peer,
            nsid: Some(0),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            carrier: true,
            counters: veth::Counters::default(),
        }
    }

    #[test]
    fn a_device_that_was_renamed_inside_is_found_by_its_peer() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24"]);
        let number = endpoint(&mut d, "a", web, &["10.0.0.2/24"]);
        let record = &d.endpoints[&number];
        let all = Inside {
            devices: vec![device("eth0", 5, 99), device("lan", 2, 7)],
            ..Inside::default()
        };
        let node_side = device("nde", 7, 2);
        let name = |v: InsideView| v.device.map(|d| d.name);
        assert_eq!(
            name(view(&all, record, Some(&node_side))).as_deref(),
            Some("lan")
        );
        assert_eq!(name(view(&all, record, None)).as_deref(), Some("eth0"));
    }
}
