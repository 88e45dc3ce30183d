//! What the daemon tells: objects as the API shows them, status, statistics.

use netd_api::{
    Endpoint as ApiEndpoint, EndpointState, FdbLine, Network as ApiNetwork, Published, StatLine,
    Status, UplinkStatus,
};
use netd_common::maps::HostKind;

use super::core::Core;
use super::error::Result;
use crate::datapath::AttachMode;
use crate::model::masquerade::Options;
use crate::model::name::ShowMac;
use crate::model::overlap::clashes;
use crate::model::{Endpoint, Network, Publish};

impl Core {
    /// A network as the API shows it.
    pub fn show_network(&self, n: &Network) -> ApiNetwork {
        let gateway = n.has_gateway();
        let options = n.options.or(self.desired.masquerade);
        let masquerade = Some(options).filter(|_| n.masquerades());
        ApiNetwork {
            id: n.number,
            name: n.name.clone(),
            kind: n.kind,
            subnets: n.subnets.clone(),
            gateways: n.gateways.clone(),
            ip_range: n.ip_range,
            internal: n.internal,
            masquerade: n.masquerades(),
            masquerade_profile: masquerade.map(Options::profile),
            filtering: masquerade.map(Options::filtering),
            masquerade_ports: masquerade.map(Options::ports),
            isolation: n.isolation,
            any_ethertype: n.any_ethertype,
            mtu: n.mtu,
            aging_s: n.aging,
            storm: n.storm,
            device: gateway.then(|| n.outer()),
            gateway_mac: gateway.then(|| ShowMac(n.gateway_mac).to_string()),
            endpoints: self.desired.endpoints_of(n.number).count() as u32,
            labels: n.labels.clone(),
            owner: n.owner.clone(),
        }
    }

    /// All networks, by name.
    pub fn list_networks(&self) -> Vec<ApiNetwork> {
        let mut all: Vec<_> = self
            .desired
            .networks
            .values()
            .map(|n| self.show_network(n))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// One network.
    pub fn get_network(&self, name: &str) -> Result<ApiNetwork> {
        Ok(self.show_network(self.desired.network(name)?))
    }

    fn state(&self, e: &Endpoint) -> EndpointState {
        match self.actual.devices.get(&e.device()) {
            Some(d) if d.configured => EndpointState::Bound,
            Some(_) => EndpointState::Present,
            None if e.made => EndpointState::Gone,
            None => EndpointState::Reserved,
        }
    }

    pub(super) fn network_name(&self, number: u32) -> &str {
        self.desired
            .networks
            .get(&number)
            .map_or("?", |n| n.name.as_str())
    }

    pub(super) fn endpoint_name(&self, number: u32) -> Option<String> {
        self.desired.endpoints.get(&number).map(|e| e.name.clone())
    }

    /// An endpoint as the API shows it.
    pub fn show_endpoint(&self, e: &Endpoint) -> ApiEndpoint {
        ApiEndpoint {
            id: e.id.clone(),
            number: e.number,
            name: e.name.clone(),
            network: self.network_name(e.network).to_owned(),
            target: e.target.clone(),
            ifname: e.ifname.clone(),
            device: e.device(),
            ifindex: self.actual.ifindex(&e.device()),
            mac: ShowMac(e.mac).to_string(),
            macs: e.macs,
            addresses: e.addresses.clone(),
            gateways: e.gateways.clone(),
            state: self.state(e),
            published: self
                .desired
                .publishes_of(e.number)
                .map(|p| self.show_publish(p))
                .collect(),
            labels: e.labels.clone(),
            owner: e.owner.clone(),
        }
    }

    /// All endpoints, by network and name.
    pub fn list_endpoints(&self) -> Vec<ApiEndpoint> {
        let mut all: Vec<_> = self
            .desired
            .endpoints
            .values()
            .map(|e| self.show_endpoint(e))
            .collect();
        all.sort_by(|a, b| (&a.network, &a.name).cmp(&(&b.network, &b.name)));
        all
    }

    /// One endpoint.
    pub fn get_endpoint(&self, text: &str, network: Option<&str>) -> Result<ApiEndpoint> {
        Ok(self.show_endpoint(self.desired.endpoint(text, network)?))
    }

    /// A publish as the API shows it.
    pub fn show_publish(&self, p: &Publish) -> Published {
        let endpoint = self.desired.endpoints.get(&p.endpoint);
        Published {
            endpoint: endpoint.map(|e| e.name.clone()).unwrap_or_default(),
            network: endpoint
                .map_or("?", |e| self.network_name(e.network))
                .to_owned(),
            spec: p.spec.clone(),
            owner: p.owner.clone(),
        }
    }

    /// Published ports, of one endpoint or of all, by protocol and port.
    pub fn list_published(&self, endpoint: Option<&str>) -> Result<Vec<Published>> {
        let only = endpoint
            .map(|e| self.desired.endpoint(e, None))
            .transpose()?
            .map(|e| e.number);
        let mine = |p: &&Publish| only.is_none_or(|n| p.endpoint == n);
        let mut all: Vec<_> = self
            .desired
            .publishes
            .values()
            .filter(mine)
            .map(|p| self.show_publish(p))
            .collect();
        all.sort_by_key(|p| {
            (
                p.spec.host.host_port,
                p.spec.host.proto,
                p.spec.host.host_ip,
            )
        });
        Ok(all)
    }

    /// The daemon's status.
    pub fn status(&mut self) -> Result<Status> {
        let uplinks = self.uplinks.iter().map(|(ifindex, u)| UplinkStatus {
            device: u.name.clone(),
            ifindex: *ifindex,
            v4: u.v4(),
            v6: u.v6(),
            xdp: u.xdp.name().to_owned(),
            mtu: u.row.mtu,
        });
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.settings.instance.clone(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            attach_mode: match self.node.datapath.attach_mode() {
                AttachMode::Tcx => "tcx".into(),
                AttachMode::Clsact => "clsact".into(),
            },
            run_dir: self.settings.run_dir.to_string_lossy().into_owned(),
            state_dir: self.settings.state_dir.to_string_lossy().into_owned(),
            bpf_dir: self.settings.bpf_dir.to_string_lossy().into_owned(),
            cgroup: self.hooked_cgroup(),
            uplinks: uplinks.collect(),
            networks: self.desired.networks.len() as u32,
            endpoints: self.desired.endpoints.len() as u32,
            published: self.desired.publishes.len() as u32,
            flows: self.node.datapath.flows_count()?,
            problems: self.list_problems(),
        })
    }

    fn list_problems(&self) -> Vec<String> {
        let mut out = self.conditions();
        out.extend(self.gone_endpoints());
        out
    }

    /// What is not as it should be, but endpoints that are gone: those have events of their own.
    pub(super) fn conditions(&self) -> Vec<String> {
        let mut out: Vec<String> = self.problems.values().cloned().collect();
        out.extend(clashes(&self.desired).map(|c| c.to_string()));
        for name in &self.settings.uplinks {
            if self.uplinks.values().all(|u| u.name != *name) {
                out.push(format!("uplink {name} is not there"));
            }
        }
        if self.uplinks.is_empty() && self.settings.uplinks.is_empty() {
            out.push("no uplink: the node has no default route; add one or give --uplink".into());
        }
        let masked = |v4: bool| {
            let of = |n: &&Network| {
                n.masquerades() && n.subnets.iter().any(|s| s.addr().is_ipv4() == v4)
            };
            self.desired.networks.values().any(|n| of(&n))
        };
        for u in self.uplinks.values() {
            for (family, has, v4) in [("IPv4", u.v4(), true), ("IPv6", u.v6(), false)] {
                if has.is_none() && masked(v4) {
                    out.push(format!(
                        "uplink {} has no {family} address: no {family} goes outside by it",
                        u.name
                    ));
                }
            }
        }
        out
    }

    fn gone_endpoints(&self) -> impl Iterator<Item = String> {
        let all = self.desired.endpoints.values();
        let gone = all.filter(|e| self.state(e) == EndpointState::Gone);
        gone.map(|e| {
            format!(
                "endpoint {} is gone with its namespace or device: `netd detach {}`",
                e.name, e.name
            )
        })
    }

    /// Counters that are not zero.
    pub fn stats(&self) -> Result<Vec<StatLine>> {
        let lines =
            self.node
                .datapath
                .stats()?
                .into_iter()
                .map(|(hook, reason, packets, bytes)| StatLine {
                    hook: hook.name().to_owned(),
                    verdict: if reason.is_some() { "drop" } else { "pass" }.to_owned(),
                    reason: reason.map(|r| r.name().to_owned()),
                    packets,
                    bytes,
                });
        Ok(lines.collect())
    }

    /// Forwarding entries, of one network or of all.
    pub fn list_fdb(&self, network: Option<&str>) -> Result<Vec<FdbLine>> {
        let only = network
            .map(|n| self.desired.network(n))
            .transpose()?
            .map(|n| n.number);
        let device = |ifindex: u32| {
            let found = self
                .actual
                .devices
                .iter()
                .find(|(_, d)| d.ifindex == ifindex);
            found.map_or_else(|| format!("if{ifindex}"), |(name, _)| name.clone())
        };
        let entries = self.node.datapath.fdb()?.into_iter();
        let mut lines: Vec<FdbLine> = entries
            .filter(|(key, _)| only.is_none_or(|n| key.network == n))
            .map(|(key, entry)| FdbLine {
                network: self.network_name(key.network).to_owned(),
                mac: ShowMac(key.mac).to_string(),
                device: device(entry.device),
                kind: match HostKind::from_code(entry.kind) {
                    HostKind::Gateway => "gateway".into(),
                    HostKind::Endpoint => "endpoint".into(),
                },
                endpoint: self.endpoint_name(entry.endpoint),
                fixed: true,
                age_s: None,
            })
            .collect();
        let learned = self.node.datapath.learned()?.into_iter();
        let mine = learned.filter(|l| only.is_none_or(|n| l.network == n));
        lines.extend(mine.map(|l| FdbLine {
            network: self.network_name(l.network).to_owned(),
            mac: ShowMac(l.mac).to_string(),
            device: device(l.device),
            kind: "endpoint".into(),
            endpoint: self.endpoint_name(l.endpoint),
            fixed: false,
            age_s: Some(l.idle_ns / 1_000_000_000),
        }));
        lines.sort_by(|a, b| (&a.network, &a.mac).cmp(&(&b.network, &b.mac)));
        Ok(lines)
    }
}
