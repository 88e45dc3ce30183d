//! Floating IPs.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Owner;

/// `POST /v1/floating`: an outside address that is to be an endpoint's, one to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FloatingAdd {
    /// The address; not the node's, nor of any network.
    pub address: IpAddr,
    /// The endpoint: name, id, unique prefix of the id, or a target with exactly one.
    pub endpoint: String,
    /// Who asks; left out: `cli`.
    #[serde(default)]
    pub owner: Option<Owner>,
}

/// A floating IP as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Floating {
    /// The address.
    pub address: IpAddr,
    /// Name of the endpoint.
    pub endpoint: String,
    /// Name of its network.
    pub network: String,
    /// The endpoint's own address behind it.
    pub inside: Option<IpAddr>,
    /// What the endpoint sends to the outside leaves with it: of several the one that was added first.
    pub outgoing: bool,
    /// The uplink on whose link it is, where ARP and neighbour discovery are answered; none: its packets
    /// have to be routed to the node.
    pub uplink: Option<String>,
    /// Who asked for it.
    pub owner: Owner,
}
