//! An endpoint seen from both sides: its devices, and what its namespace has for itself.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Endpoint;
use crate::schema::Prefix;

/// `GET /v1/endpoints/{ep}/inspect`: the endpoint as the daemon has it, and as the kernel has it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointDetails {
    /// The endpoint; its fields stand beside the others.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Its flows.
    pub flows: FlowUse,
    /// The node-side end; none: it is gone.
    pub node_side: Option<DeviceEnd>,
    /// Its namespace.
    pub namespace: NamespaceView,
    /// The inside; none: the namespace is gone.
    pub inside: Option<InsideView>,
}

/// How many flows an endpoint has, of both families: those it began, and those it was called by from
/// outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowUse {
    /// So many.
    pub used: u64,
    /// So many it may have at a time.
    pub limit: u64,
}

/// One end of a veth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceEnd {
    /// Device name.
    pub name: String,
    /// ifindex in its own namespace.
    pub ifindex: u32,
    /// ifindex of the other end in the other end's namespace.
    pub peer_ifindex: u32,
    /// MAC as `aa:bb:cc:dd:ee:ff`.
    pub mac: Option<String>,
    /// L3 MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Both ends are up.
    pub carrier: bool,
    /// What it has counted.
    pub counters: DeviceCounters,
}

/// What the kernel counts for a device; *received* and *sent* are the device's own view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Received packets that were dropped.
    pub rx_dropped: u64,
    /// Received packets that were broken.
    pub rx_errors: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets to send that were dropped.
    pub tx_dropped: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
}

/// The namespace of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceView {
    /// Inode of the namespace the endpoint was attached to.
    pub inode: u64,
    /// Its names in `/run/netns`.
    pub names: Vec<String>,
    /// The node's number for it (`IFLA_LINK_NETNSID` of the node-side device).
    pub nsid: Option<i32>,
    /// Why it cannot be looked into; none: it can.
    pub gone: Option<String>,
}

/// What a namespace has for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InsideView {
    /// The endpoint's device; none: it is gone.
    pub device: Option<DeviceEnd>,
    /// Addresses of that device.
    #[schemars(with = "Vec<Prefix>")]
    pub addresses: Vec<IpNet>,
    /// Routes of the whole namespace but the local table.
    pub routes: Vec<RouteLine>,
    /// Neighbours of the whole namespace.
    pub neighbours: Vec<NeighbourLine>,
}

/// A route; one of several next hops is a line of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteLine {
    /// Where to.
    #[schemars(with = "Prefix")]
    pub to: IpNet,
    /// `unicast`, `blackhole`, `unreachable`, `prohibit` or `throw`.
    pub kind: String,
    /// Next hop; none: the destination itself.
    pub via: Option<IpAddr>,
    /// Device.
    pub device: Option<String>,
    /// Preferred source.
    pub source: Option<IpAddr>,
    /// Priority; the lowest wins.
    pub metric: u32,
    /// Routing table; 254 is the main one.
    pub table: u32,
}

/// A neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NeighbourLine {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC; none: not known.
    pub mac: Option<String>,
    /// Device.
    pub device: String,
    /// `reachable`, `stale`, `delay`, `probe`, `failed`, `incomplete`, `permanent` or `none`.
    pub state: String,
}
