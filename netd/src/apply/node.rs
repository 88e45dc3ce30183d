//! Runs steps on this node: devices by `net`, hooks and rows by `datapath`.

use super::effect::Outcome;
use super::{ApplyError, Executor};
use crate::datapath::Datapath;
use crate::failpoint;
use crate::net::netns::NetnsFile;
use crate::net::reaper::Reaper;
use crate::net::{Netlink, device, inside, link, neighbour};
use crate::plan::{EndpointPlan, Step, fdb_key, publish_key};

/// The node: its sockets and its data path.
pub struct Node {
    /// Instance name, part of every alias.
    pub instance: String,
    /// A socket in the node's namespace.
    pub netlink: Netlink,
    /// Programs and maps.
    pub datapath: Datapath,
    /// Deletes devices in the background.
    pub reaper: Reaper,
}

impl Node {
    fn namespace(plan: &EndpointPlan) -> Result<NetnsFile, ApplyError> {
        let ns = NetnsFile::open(&plan.target)?;
        if ns.id != plan.netns {
            return Err(ApplyError::Moved(plan.target.clone()));
        }
        Ok(ns)
    }
}

impl Executor for Node {
    fn execute(&mut self, step: &Step) -> Result<Outcome, ApplyError> {
        tracing::trace!(?step, "step");
        match step {
            Step::MakeGateway(plan) => {
                let (outer, inner) = device::make_gateway(&mut self.netlink, &self.instance, plan)?;
                return Ok(Outcome::Gateway(outer, inner));
            }
            Step::MakeEndpoint(plan) => {
                let ns = Self::namespace(plan)?;
                let ifindex = device::make_endpoint(&mut self.netlink, &self.instance, plan, &ns)?;
                return Ok(Outcome::Endpoint(ifindex));
            }
            Step::FinishEndpoint(plan) => {
                inside::finish(&Self::namespace(plan)?, plan)?;
                device::mark_whole(&mut self.netlink, &self.instance, plan)?;
            }
            Step::Down { device, .. } => {
                let down = link::Set::new(device).down().request().or(libc::ENODEV);
                self.netlink.batch(vec![down])?;
            }
            Step::Up { device } => {
                self.netlink
                    .batch(vec![link::Set::new(device).up().request()])?;
            }
            Step::Delete {
                device,
                ifindex,
                later: true,
            } => self.reaper.delete(device, *ifindex),
            Step::Delete {
                device,
                ifindex,
                later: false,
            } => {
                self.netlink.batch(vec![link::delete(device, *ifindex)])?;
            }
            Step::HookEndpoint(device) => self.datapath.hook_endpoint(device)?,
            Step::HookGateway(device) => self.datapath.hook_gateway(device)?,
            Step::Unhook(device) => self.datapath.unhook(device)?,
            Step::EndFlows(ended) => {
                failpoint::step("ending flows");
                self.datapath.flows_remove(&|flow| {
                    ended.cuts(flow.publish, flow.endpoint, flow.client)
                        || flow.is_by_floating(&ended.floating)
                })?;
                for endpoint in &ended.endpoints {
                    self.datapath.flow_use_remove(*endpoint)?;
                }
            }
            Step::Port(k, Some(v)) => self.datapath.port_set(*k, v)?,
            Step::Port(k, None) => self.datapath.port_remove(*k)?,
            Step::Fdb(k, Some(v)) => self.datapath.fdb_set(fdb_key(*k), v)?,
            Step::Fdb(k, None) => self.datapath.fdb_remove(fdb_key(*k))?,
            Step::Host(k, Some(v)) => self.datapath.host_set(*k, v)?,
            Step::Host(k, None) => self.datapath.host_remove(*k)?,
            Step::Slot(k, Some(v)) => self.datapath.slot_set(*k, v)?,
            Step::Slot(k, None) => self.datapath.slot_remove(*k)?,
            Step::Publish(k, Some(v)) => self.datapath.publish_set(publish_key(*k), v)?,
            Step::Float(k, Some(v)) => self.datapath.float_set(*k, v)?,
            Step::Float(k, None) => self.datapath.float_remove(*k)?,
            Step::Group(k, network) => {
                let request = match network {
                    Some(_) => neighbour::join(k.0, k.1),
                    None => neighbour::leave(k.0, k.1),
                };
                self.netlink.batch(vec![request])?;
            }
            Step::From(k, Some(network)) => self.datapath.from_set(*k, *network)?,
            Step::From(k, None) => self.datapath.from_remove(*k)?,
            Step::Publish(k, None) => self.datapath.publish_remove(publish_key(*k))?,
        }
        Ok(Outcome::Done)
    }
}
