//! Attaching and detaching endpoints.

use std::net::IpAddr;

use ipnet::IpNet;
use netd_api::{Attach, Endpoint as ApiEndpoint};

use super::core::Core;
use super::error::Result;
use crate::model::attach::{self, Target};
use crate::model::{Change, Desired, Endpoint, Netns, Object};
use crate::net::reaper::Reaper;
use crate::net::{NetError, NetnsFile, inside, neighbour, ports};
use crate::plan::Scope;

impl Core {
    /// Attaches a workload: when this returns, traffic flows and the endpoint is stored.
    pub fn attach(&mut self, request: &Attach) -> Result<ApiEndpoint> {
        attach::check(&self.desired, request)?;
        let ns = NetnsFile::open(&request.target)?;
        wait_for_leaving(&self.node.reaper, &mut self.leaving, ns.id);
        let ifname = inside::free_device(&ns, request.ifname.as_deref())?;
        let target = Target {
            netns: ns.id,
            ifname,
        };
        let mut endpoint =
            attach::build(&self.desired, request, &target, &free_id(&self.desired)?)?;
        drop(ns);
        endpoint.number = self.desired.take_number();
        self.forget_neighbours(&endpoint);
        let owner = endpoint.owner.clone();
        let mut put = self.resolve_publishes(&endpoint, &request.publish, &owner)?;
        let number = endpoint.number;
        let scope = Scope::Endpoint {
            network: endpoint.network,
            endpoint: number,
        };
        put.insert(0, Object::Endpoint(endpoint));
        self.transact(
            &Change {
                put,
                remove: vec![],
            },
            scope,
        )?;
        self.note_made(number);
        let made = self.desired.endpoints[&number].clone();
        self.announce(&made);
        Ok(self.show_endpoint(&self.desired.endpoints[&number]))
    }

    /// Detaches an endpoint: nothing reaches it any more when this returns; its device goes a
    /// moment later.
    pub fn detach(&mut self, text: &str, network: Option<&str>) -> Result<()> {
        let endpoint = self.desired.endpoint(text, network)?.clone();
        let device = self.actual.ifindex(&endpoint.device());
        let remove = self.desired.all_of(endpoint.number);
        let put = vec![];
        let scope = Scope::Endpoint {
            network: endpoint.network,
            endpoint: endpoint.number,
        };
        self.remove(&Change { put, remove }, scope)?;
        self.forget_neighbours(&endpoint);
        if device != 0 {
            self.leaving.push((endpoint.netns, device));
        }
        Ok(())
    }

    /// The node must not send to whoever had the addresses before.
    pub(super) fn forget_neighbours(&mut self, endpoint: &Endpoint) {
        let network = self.desired.networks.get(&endpoint.network);
        let outer = network.map_or(0, |n| self.actual.ifindex(&n.outer()));
        let ips: Vec<IpAddr> = endpoint.addresses.iter().map(IpNet::addr).collect();
        if outer != 0
            && let Err(e) = neighbour::forget(&mut self.node.netlink, outer, &ips)
        {
            tracing::warn!("{e}");
        }
    }
}

/// The device names of a namespace are free again only when the kernel is done with the devices
/// that leave it.
pub(super) fn wait_for_leaving(reaper: &Reaper, leaving: &mut Vec<(Netns, u32)>, ns: Netns) {
    leaving.retain(|(_, ifindex)| reaper.has(*ifindex));
    if leaving.iter().any(|(leaving, _)| *leaving == ns) {
        reaper.wait();
        leaving.clear();
    }
}

/// An id that no endpoint has.
pub(super) fn free_id(desired: &Desired) -> Result<String> {
    loop {
        let bytes = ports::random::<6>().map_err(|e| NetError::io("no random bytes", e))?;
        let id = bytes
            .iter()
            .fold(String::new(), |text, b| format!("{text}{b:02x}"));
        if desired.endpoints.values().all(|e| e.id != id) {
            return Ok(id);
        }
    }
}
