//! Endpoints.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Prefix;
use crate::{Labels, Macs, Owner, PublishSpec, Published};

/// `POST /v1/endpoints`: attach a workload to a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Attach {
    /// The workload's network namespace: `NAME` (of `/run/netns`), `/path` or `pid:N`.
    pub target: String,
    /// Name of the network.
    pub network: String,
    /// Name of the endpoint, 1-63 of `[a-zA-Z0-9_.-]`; left out: made from the target and the network.
    pub name: Option<String>,
    /// Addresses, at most one per subnet; left out: the next free one.
    pub ips: Vec<IpAddr>,
    /// MAC as `aa:bb:cc:dd:ee:ff`; left out: made from the id.
    pub mac: Option<String>,
    /// MACs it may hold, its own included; left out: its own alone.
    pub macs: Option<Macs>,
    /// Device name inside, 1-15 characters; left out: the first free of eth0, eth1, ...
    pub ifname: Option<String>,
    /// Ports to publish at once.
    pub publish: Vec<PublishSpec>,
    /// Labels.
    pub labels: Labels,
    /// Who asks; left out: `cli`.
    pub owner: Option<Owner>,
}

/// Where an endpoint is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// Stored, addresses held, nothing made yet.
    Reserved,
    /// Its device exists.
    Present,
    /// Device, addresses and map entries are in place: traffic flows.
    Bound,
    /// Its namespace or device is gone.
    Gone,
}

/// An endpoint as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Its id: 12 hexadecimal digits.
    pub id: String,
    /// Number the data path knows it by, never 0.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Name of its network.
    pub network: String,
    /// The target it was attached with.
    pub target: String,
    /// Device name inside.
    pub ifname: String,
    /// The node-side device.
    pub device: String,
    /// ifindex of the node-side device; 0: gone.
    pub ifindex: u32,
    /// MAC as `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// MACs it may hold, its own included.
    pub macs: Macs,
    /// Addresses with the prefix length of their subnets.
    #[schemars(with = "Vec<Prefix>")]
    pub addresses: Vec<IpNet>,
    /// Next hops of its default routes.
    pub gateways: Vec<IpAddr>,
    /// State.
    pub state: EndpointState,
    /// Its published ports.
    pub published: Vec<Published>,
    /// Labels.
    pub labels: Labels,
    /// Who asked for it.
    pub owner: Owner,
}
