//! The map rows the desired state asks for, given the devices that are there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netd_api::{Filtering, MasqueradePorts, Profile};
use netd_common::addr::{Addr, Be16, Mac, V4, V6};
use netd_common::maps::{FdbEntry, Float, HostEntry, HostKind, Port, Publish, Target, port_flags};

use super::{Actual, FdbId, FromId, GroupId, PublishId, Scope, in_scope, publishes_in_scope};
use crate::model::publish::listen_on;
use crate::model::{Desired, Endpoint, Network, floating};

/// Rows by map.
#[derive(Debug, Default)]
pub struct Rows {
    /// `PORT`.
    pub ports: BTreeMap<u32, Port>,
    /// `FDB`.
    pub fdb: BTreeMap<FdbId, FdbEntry>,
    /// `HOST4` and `HOST6`.
    pub hosts: BTreeMap<IpAddr, HostEntry>,
    /// `SEGMENT`: by network and slot.
    pub segments: BTreeMap<(u32, u32), Target>,
    /// `PUBLISH`.
    pub published: BTreeMap<PublishId, Publish>,
    /// `FLOAT`.
    pub floats: BTreeMap<IpAddr, Float>,
    /// `FROM`.
    pub from: BTreeMap<FromId, u32>,
    /// Multicast groups.
    pub groups: BTreeMap<GroupId, u32>,
}

/// All rows of a scope. An endpoint or gateway without device has none.
pub fn rows(desired: &Desired, actual: &Actual, scope: Scope) -> Rows {
    let mut rows = Rows::default();
    for network in desired
        .networks
        .values()
        .filter(|n| in_scope(scope, n.number))
    {
        network_rows(desired, actual, network, scope, &mut rows);
    }
    rows
}

fn network_rows(
    desired: &Desired,
    actual: &Actual,
    network: &Network,
    scope: Scope,
    rows: &mut Rows,
) {
    let outer = actual.ifindex(&network.outer());
    let inner = actual.ifindex(&network.inner());
    let gateway = network.has_gateway() && outer != 0 && inner != 0;
    let mut segment = Vec::new();
    if gateway {
        segment.push(Target {
            device: outer,
            kind: HostKind::Gateway.code(),
        });
        gateway_rows(desired, network, outer, rows);
    }
    let mut ports = Vec::new();
    for endpoint in desired.endpoints_of(network.number) {
        let ifindex = actual.ifindex(&endpoint.device());
        if ifindex == 0 {
            continue;
        }
        segment.push(Target {
            device: ifindex,
            kind: HostKind::Endpoint.code(),
        });
        ports.push((
            ifindex,
            endpoint_port(
                desired,
                network,
                endpoint,
                gateway.then_some((outer, inner)),
            ),
        ));
        endpoint_rows(desired, network, endpoint, ifindex, rows);
        float_rows(desired, actual, network, endpoint, rows);
        if publishes_in_scope(scope, endpoint.number) {
            for p in desired.publishes_of(endpoint.number) {
                publish_rows(network, endpoint, ifindex, p, rows);
            }
        }
    }
    if gateway {
        ports.push((inner, gateway_port(desired, network, outer, inner)));
    }
    rows.ports.extend(ports);
    let slots = (0..).zip(segment);
    rows.segments
        .extend(slots.map(|(slot, target)| ((network.number, slot), target)));
}

fn flags(desired: &Desired, network: &Network) -> u32 {
    let masquerades = network.masquerades();
    let options = network.options.or(desired.masquerade);
    let strict = options.profile() == Profile::Strict;
    let filtering = options.filtering();
    [
        (masquerades, port_flags::MASQUERADE),
        (masquerades && strict, port_flags::STRICT),
        (
            masquerades && filtering == Filtering::EndpointIndependent,
            port_flags::FILTER_ANY,
        ),
        (
            masquerades && filtering == Filtering::Address,
            port_flags::FILTER_ADDRESS,
        ),
        (network.internal, port_flags::INTERNAL),
        (!network.isolation, port_flags::NO_ISOLATION),
        (network.any_ethertype, port_flags::ANY_ETHERTYPE),
    ]
    .into_iter()
    .filter(|(on, _)| *on)
    .fold(0, |flags, (_, bit)| flags | bit)
}

fn gateway_mac(network: &Network) -> Mac {
    if network.has_gateway() {
        network.gateway_mac
    } else {
        [0; 6]
    }
}

/// Prefix length of the network's subnet of a family; 0: it has none.
fn prefix_len(network: &Network, v6: bool) -> u8 {
    let mut subnets = network.subnets.iter();
    let subnet = subnets.find(|s| s.addr().is_ipv6() == v6);
    subnet.map_or(0, ipnet::IpNet::prefix_len)
}

fn port(desired: &Desired, network: &Network, outer: u32, inner: u32) -> Port {
    let v4 = network.gateway_v4().map_or([0; 4], |a| a.octets());
    let v6 = network.gateway_v6().map_or([0; 16], |a| a.octets());
    // The daemon's own ports are the uplinks'.
    let ports = network.options.ports.filter(|_| network.masquerades());
    Port {
        network: network.number,
        endpoint: 0,
        flags: flags(desired, network),
        mtu: network.mtu,
        outer,
        inner,
        v4,
        v6,
        mac: gateway_mac(network),
        gateway_mac: gateway_mac(network),
        gateway_v4: v4,
        gateway_v6: v6,
        macs: 0,
        aging: network.aging,
        storm: network.storm,
        bits4: prefix_len(network, false),
        bits6: prefix_len(network, true),
        masq_min: ports.map_or(0, MasqueradePorts::first),
        masq_max: ports.map_or(0, MasqueradePorts::last),
        pad: [0; 2],
        float4: [0; 4],
        float6: [0; 16],
    }
}

fn gateway_port(desired: &Desired, network: &Network, outer: u32, inner: u32) -> Port {
    let base = port(desired, network, outer, inner);
    Port {
        flags: base.flags | port_flags::GATEWAY,
        ..base
    }
}

fn endpoint_port(
    desired: &Desired,
    network: &Network,
    endpoint: &Endpoint,
    pair: Option<(u32, u32)>,
) -> Port {
    let (outer, inner) = pair.unwrap_or_default();
    Port {
        endpoint: endpoint.number,
        v4: endpoint.v4().map_or([0; 4], |a| a.octets()),
        v6: endpoint.v6().map_or([0; 16], |a| a.octets()),
        mac: endpoint.mac,
        macs: endpoint.macs.others(),
        float4: V4::from_16(float(desired, endpoint, false)),
        float6: float(desired, endpoint, true),
        ..port(desired, network, outer, inner)
    }
}

fn gateway_rows(desired: &Desired, network: &Network, outer: u32, rows: &mut Rows) {
    let kind = HostKind::Gateway.code();
    rows.fdb.insert(
        (network.number, network.gateway_mac),
        FdbEntry {
            device: outer,
            kind,
            endpoint: 0,
        },
    );
    for ip in &network.gateways {
        let entry = HostEntry {
            network: network.number,
            endpoint: 0,
            device: outer,
            kind,
            mac: network.gateway_mac,
            gateway_mac: network.gateway_mac,
            flags: flags(desired, network),
        };
        rows.hosts.insert(*ip, entry);
    }
}

fn endpoint_rows(
    desired: &Desired,
    network: &Network,
    endpoint: &Endpoint,
    ifindex: u32,
    rows: &mut Rows,
) {
    let kind = HostKind::Endpoint.code();
    rows.fdb.insert(
        (network.number, endpoint.mac),
        FdbEntry {
            device: ifindex,
            kind,
            endpoint: endpoint.number,
        },
    );
    for net in &endpoint.addresses {
        let entry = HostEntry {
            network: network.number,
            endpoint: endpoint.number,
            device: ifindex,
            kind,
            mac: endpoint.mac,
            gateway_mac: gateway_mac(network),
            flags: flags(desired, network),
        };
        rows.hosts.insert(net.addr(), entry);
    }
}

fn float_rows(
    desired: &Desired,
    actual: &Actual,
    network: &Network,
    endpoint: &Endpoint,
    rows: &mut Rows,
) {
    for f in desired.floating_of(endpoint.number) {
        let inside = match f.address {
            IpAddr::V4(_) => endpoint.v4().map(IpAddr::V4),
            IpAddr::V6(_) => endpoint.v6().map(IpAddr::V6),
        };
        let Some(inside) = inside else { continue };
        let uplink = actual.uplink_of(f.address);
        let value = Float {
            addr: wide(inside),
            mac: endpoint.mac,
            gateway_mac: gateway_mac(network),
            device: actual.ifindex(&endpoint.device()),
            endpoint: endpoint.number,
            network: network.number,
            uplink: uplink.map_or(0, |u| u.ifindex),
            uplink_mac: uplink.map_or([0; 6], |u| u.mac),
            pad: [0; 2],
        };
        rows.floats.insert(f.address, value);
        if let (IpAddr::V6(ip), Some(uplink)) = (f.address, uplink) {
            rows.groups.insert((uplink.ifindex, ip), network.number);
        }
    }
}

/// The address what an endpoint sends leaves with, as a row has it; zero: none.
fn float(desired: &Desired, endpoint: &Endpoint, v6: bool) -> V6 {
    let first = floating::outgoing(desired, endpoint.number, v6);
    first.map_or([0; 16], |f| wide(f.address))
}

fn wide(ip: IpAddr) -> V6 {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_16(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn publish_rows(
    network: &Network,
    endpoint: &Endpoint,
    ifindex: u32,
    publish: &crate::model::Publish,
    rows: &mut Rows,
) {
    let spec = &publish.spec;
    let from = spec.from.iter().map(IpNet::trunc);
    rows.from
        .extend(from.map(|net| ((publish.number, net), network.number)));
    for listen in listen_on(endpoint, &spec.host) {
        let to = match listen {
            IpAddr::V4(_) => endpoint.v4().map(IpAddr::V4),
            IpAddr::V6(_) => endpoint.v6().map(IpAddr::V6),
        };
        let Some(to) = to else { continue };
        let inside = spec.port..=spec.end;
        for (host, port) in (spec.host.host_port..=spec.host.host_end).zip(inside) {
            let value = Publish {
                addr: wide(to),
                port: Be16::new(port),
                mac: endpoint.mac,
                gateway_mac: gateway_mac(network),
                limited: u8::from(!spec.from.is_empty()),
                pad: 0,
                device: ifindex,
                endpoint: endpoint.number,
                network: network.number,
                number: publish.number,
            };
            let id = (
                endpoint.number,
                wide(listen),
                host,
                spec.host.proto.number(),
            );
            rows.published.insert(id, value);
        }
    }
}
