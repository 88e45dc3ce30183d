//! From the state back to what asks for it.

use netd_api::{Attach, FloatingAdd, Manifest, NetworkCreate, PublishOf};

use crate::model::name::ShowMac;
use crate::model::{Desired, Endpoint, Network};

/// Everything that is there, or what one owner has: applied under that owner's name it changes nothing.
pub fn export(desired: &Desired, owner: Option<&str>) -> Manifest {
    let mine = |o: &str| owner.is_none_or(|owner| owner == o);
    let networks = desired.networks.values().filter(|n| mine(&n.owner));
    let endpoints = desired.endpoints.values().filter(|e| mine(&e.owner));
    let mut publishes = Vec::new();
    for publish in desired.publishes.values().filter(|p| mine(&p.owner)) {
        let Some(endpoint) = desired.endpoints.get(&publish.endpoint) else {
            continue;
        };
        if !mine(&endpoint.owner) {
            publishes.push(PublishOf {
                endpoint: endpoint.name.clone(),
                spec: publish.spec.clone(),
            });
        }
    }
    let mut floating: Vec<_> = desired.floating.values().collect();
    // In the order they were added: of an endpoint's the first one counts.
    floating.sort_by_key(|f| f.number);
    let floating = floating.into_iter().filter(|f| mine(&f.owner));
    let floating = floating.filter_map(|f| {
        Some(FloatingAdd {
            address: f.address,
            endpoint: desired.endpoints.get(&f.endpoint)?.name.clone(),
            owner: None,
        })
    });
    let source = owner.and_then(|o| o.strip_prefix("file:"));
    Manifest {
        name: source.unwrap_or_default().into(),
        networks: networks.map(network).collect(),
        endpoints: endpoints.map(|e| endpoint(desired, e, &mine)).collect(),
        publishes,
        floating: floating.collect(),
        prune: false,
        force: false,
    }
}

fn network(n: &Network) -> NetworkCreate {
    NetworkCreate {
        name: n.name.clone(),
        kind: n.kind,
        subnets: n.subnets.clone(),
        gateways: n.has_gateway().then(|| n.gateways.clone()),
        no_gateway: !n.has_gateway(),
        ip_range: n.ip_range,
        internal: n.internal,
        no_masquerade: !n.masquerade && !n.internal,
        masquerade_profile: n.options.profile,
        filtering: n.options.filtering,
        masquerade_ports: n.options.ports,
        no_isolation: !n.isolation,
        any_ethertype: n.any_ethertype,
        mtu: Some(n.mtu),
        aging_s: Some(n.aging),
        storm: Some(n.storm),
        labels: n.labels.clone(),
        owner: None,
    }
}

fn endpoint(desired: &Desired, e: &Endpoint, mine: &dyn Fn(&str) -> bool) -> Attach {
    let network = desired.networks.get(&e.network);
    let published = desired.publishes_of(e.number).filter(|p| mine(&p.owner));
    Attach {
        target: e.target.clone(),
        network: network.map_or_else(String::new, |n| n.name.clone()),
        name: Some(e.name.clone()),
        ips: e.addresses.iter().map(ipnet::IpNet::addr).collect(),
        mac: Some(ShowMac(e.mac).to_string()),
        macs: Some(e.macs),
        ifname: Some(e.ifname.clone()),
        publish: published.map(|p| p.spec.clone()).collect(),
        labels: e.labels.clone(),
        owner: None,
    }
}
