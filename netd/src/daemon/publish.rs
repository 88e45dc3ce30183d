//! Publishing and unpublishing ports.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;

use netd_api::{HostSpec, Proto, PublishSpec, Published};

use super::core::Core;
use super::error::{Result, ServiceError};
use crate::datapath::Datapath;
use crate::model::floating;
use crate::model::publish::{self, listen_on, overlaps};
use crate::model::{Change, Desired, Endpoint, Key, ModelError, Object, Publish};
use crate::net::{NetError, ports};
use crate::plan::Scope;

/// Where "any free port" is looked for: the dynamic ports (RFC 6335 section 6).
const DYNAMIC: std::ops::RangeInclusive<u16> = 49_152..=65_535;

impl Core {
    /// Publishes ports of an endpoint, all or none.
    pub fn publish(&mut self, text: &str, specs: &[PublishSpec]) -> Result<Vec<Published>> {
        let endpoint = self.desired.endpoint(text, None)?.clone();
        let put = self.resolve_publishes(&endpoint, specs, "cli")?;
        let numbers: Vec<u32> = put.iter().filter_map(number).collect();
        self.transact(
            &Change {
                put,
                remove: vec![],
            },
            Scope::Endpoint {
                network: endpoint.network,
                endpoint: endpoint.number,
            },
        )?;
        let new = numbers.iter().filter_map(|n| self.desired.publishes.get(n));
        Ok(new.map(|p| self.show_publish(p)).collect())
    }

    /// Ends publishes, all or none.
    pub fn unpublish(&mut self, hosts: &[HostSpec]) -> Result<()> {
        let mut found = Vec::new();
        for host in hosts {
            let these = publish::find(&self.desired, &self.settings.publish_addresses, host)?;
            found.extend(these.iter().map(|p| (p.number, p.endpoint)));
        }
        let remove = found.iter().map(|(n, _)| Key::Publish(*n)).collect();
        let endpoints: BTreeSet<u32> = found.iter().map(|(_, e)| *e).collect();
        let mut endpoints = endpoints
            .iter()
            .filter_map(|e| self.desired.endpoints.get(e));
        let scope = match (endpoints.next(), endpoints.next()) {
            (Some(one), None) => Scope::Endpoint {
                network: one.network,
                endpoint: one.number,
            },
            _ => Scope::All,
        };
        let put = vec![];
        self.remove(&Change { put, remove }, scope)
    }

    /// Checks specs, each also against the ones before it, and finds ports where any will do. Their
    /// ports are claimed until the transaction is over.
    pub(super) fn resolve_publishes(
        &mut self,
        endpoint: &Endpoint,
        specs: &[PublishSpec],
        owner: &str,
    ) -> Result<Vec<Object>> {
        let resolved = self.resolve(endpoint, specs, owner);
        if resolved.is_err() {
            self.release_claims();
        }
        resolved
    }

    pub(super) fn release_claims(&mut self) {
        if let Err(e) = self.node.datapath.release_claims() {
            tracing::warn!("{e}");
        }
    }

    fn resolve(
        &mut self,
        endpoint: &Endpoint,
        specs: &[PublishSpec],
        owner: &str,
    ) -> Result<Vec<Object>> {
        let mut chosen: Vec<PublishSpec> = Vec::new();
        for spec in specs {
            let group = publish::expand(&self.settings.publish_addresses, endpoint, spec)?;
            for spec in &group {
                publish::check(&self.desired, endpoint, spec)?;
                if spec.host.host_port != 0 && chosen.iter().any(|o| overlaps(&o.host, &spec.host))
                {
                    let why = "another port of the same request overlaps it".into();
                    return Err(ModelError::Publish {
                        spec: spec.to_string(),
                        why,
                    }
                    .into());
                }
            }
            let free = |host: &HostSpec| {
                publish::taken_by(&self.desired, host).is_none()
                    && !chosen.iter().any(|o| overlaps(&o.host, host))
            };
            let found = claim_ports(
                &mut self.node.datapath,
                &self.desired,
                endpoint,
                &group,
                &free,
            )?;
            chosen.extend(found);
        }
        let records = chosen.into_iter().map(|spec| {
            let number = self.desired.take_number();
            Object::Publish(Publish {
                number,
                endpoint: endpoint.number,
                spec,
                owner: owner.to_owned(),
            })
        });
        Ok(records.collect())
    }
}

/// Claims the ports of one request's specs on the node; where any will do, one that is `free` on all
/// of their addresses.
pub(super) fn claim_ports(
    datapath: &mut Datapath,
    desired: &Desired,
    endpoint: &Endpoint,
    group: &[PublishSpec],
    free: &dyn Fn(&HostSpec) -> bool,
) -> Result<Vec<PublishSpec>> {
    if group.iter().any(|spec| spec.host.host_port == 0) {
        return any_port(datapath, desired, endpoint, group, free);
    }
    for spec in group {
        for port in spec.host.host_port..=spec.host.host_end {
            claim_free(datapath, desired, endpoint, &spec.host, port)?;
        }
    }
    Ok(group.to_vec())
}

/// No process can take a port between the look at it and the row that publishes it: the claim
/// comes first.
fn claim_free(
    datapath: &mut Datapath,
    desired: &Desired,
    endpoint: &Endpoint,
    host: &HostSpec,
    port: u16,
) -> Result<()> {
    datapath.claim(host.proto.number(), port)?;
    // No process of the node can have a port of a floating address.
    let ip = host.host_ip;
    if ip.is_some_and(|ip| floating::find(desired, ip).is_some()) {
        return Ok(());
    }
    probe(endpoint, host, port)
}

/// The same specs with a port that is free on all of their addresses.
fn any_port(
    datapath: &mut Datapath,
    desired: &Desired,
    endpoint: &Endpoint,
    group: &[PublishSpec],
    free: &dyn Fn(&HostSpec) -> bool,
) -> Result<Vec<PublishSpec>> {
    let random = ports::random::<2>().map_err(|e| NetError::io("no random bytes", e))?;
    let (first, count) = (*DYNAMIC.start(), DYNAMIC.end() - DYNAMIC.start() + 1);
    let start = u16::from_ne_bytes(random) % count;
    let all = (0..count).map(|i| first + (start + i) % count);
    // A published port that the kernel gives to sockets by itself would be two things at once.
    let ephemeral = ports::ephemeral();
    let (apart, among): (Vec<u16>, Vec<u16>) = all.partition(|p| !ephemeral.contains(p));
    for port in apart.into_iter().chain(among) {
        let with_port = |spec: &PublishSpec| PublishSpec {
            host: HostSpec {
                host_port: port,
                host_end: port,
                ..spec.host
            },
            ..spec.clone()
        };
        let group: Vec<PublishSpec> = group.iter().map(with_port).collect();
        if group.iter().all(|spec| free(&spec.host))
            && group
                .iter()
                .all(|spec| claim_free(datapath, desired, endpoint, &spec.host, port).is_ok())
        {
            return Ok(group);
        }
    }
    let spec = group.first().map_or(String::new(), ToString::to_string);
    Err(ServiceError::conflict(format!(
        "cannot publish {spec}: no port is free"
    )))
}

fn number(object: &Object) -> Option<u32> {
    match object {
        Object::Publish(p) => Some(p.number),
        Object::Network(_) | Object::Endpoint(_) | Object::Floating(_) => None,
    }
}

/// Checks that no process of the node has a port, on every address it would be published on.
fn probe(endpoint: &Endpoint, host: &HostSpec, port: u16) -> Result<()> {
    let udp = host.proto == Proto::Udp;
    for ip in listen_on(endpoint, host) {
        let Err(e) = ports::probe(udp, ip, port) else {
            continue;
        };
        let proto = host.proto;
        return Err(match e.kind() {
            ErrorKind::AddrInUse => {
                let who =
                    ports::holder(udp, port).unwrap_or_else(|| "a process of the node".into());
                let at = at(ip, port);
                ServiceError::conflict(format!(
                    "cannot publish {at}/{proto}: {who} has this port open on the node; choose another port or stop it"
                ))
            }
            ErrorKind::AddrNotAvailable => ModelError::Publish {
                spec: host.to_string(),
                why: format!("{ip} is not an address of this node"),
            }
            .into(),
            // A node without IPv6 has nobody there to ask for the port.
            _ if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => continue,
            _ => NetError::io(format!("cannot try port {port}/{proto} on {ip}"), e).into(),
        });
    }
    Ok(())
}

fn at(ip: IpAddr, port: u16) -> String {
    if ip.is_unspecified() {
        format!("port {port}")
    } else {
        std::net::SocketAddr::new(ip, port).to_string()
    }
}
