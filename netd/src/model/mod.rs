//! The desired state: what was asked for, checked. Pure values: no aya, no netlink, no clock.

pub mod attach;
pub mod desired;
pub mod file;
pub mod floating;
pub mod ipam;
pub mod lookup;
pub mod masquerade;
pub mod name;
pub mod network;
pub mod network_set;
pub mod overlap;
pub mod publish;
pub mod records;
pub mod subnet;
pub mod told;

use std::net::IpAddr;

use ipnet::IpNet;

pub use desired::{Change, Desired, Key, Object};
pub use records::{Behind, Endpoint, Floating, Meta, Netns, Network, Publish};

/// Whose fault a refusal is, for the API's status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request makes no sense.
    Bad,
    /// Something it names is not there.
    Missing,
    /// It collides with what is there.
    Conflict,
}

/// Why a request was refused: one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// A name that is not one.
    #[error("{what} name {name:?} is refused: {why}")]
    Name {
        /// Name of what.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A MAC that is not one, or is taken.
    #[error("MAC {mac:?} is refused: {why}")]
    Mac {
        /// The MAC.
        mac: String,
        /// What is wrong.
        why: String,
    },
    /// A subnet that cannot be.
    #[error("subnet {subnet} is refused: {why}")]
    Subnet {
        /// The subnet.
        subnet: IpNet,
        /// What is wrong.
        why: String,
    },
    /// A subnet that overlaps another network's, or an address or route of the node.
    #[error("subnet {subnet} overlaps {with}; choose another one")]
    Overlap {
        /// The subnet.
        subnet: IpNet,
        /// What it overlaps, in words.
        with: String,
    },
    /// An uplink has an address of the network's.
    #[error(
        "network {network} takes no endpoints while {address} on uplink {uplink} is inside its subnet {subnet}; give the uplink another address, or use a network with another subnet"
    )]
    Clash {
        /// The network.
        network: String,
        /// Its subnet.
        subnet: IpNet,
        /// The uplink.
        uplink: String,
        /// Its address.
        address: IpNet,
    },
    /// A gateway that cannot be.
    #[error("gateway {gateway} is refused: {why}")]
    Gateway {
        /// The gateway.
        gateway: IpAddr,
        /// What is wrong.
        why: String,
    },
    /// A range that cannot be.
    #[error("IP range {range} is refused: {why}")]
    Range {
        /// The range.
        range: IpNet,
        /// What is wrong.
        why: String,
    },
    /// An address an endpoint cannot have.
    #[error("address {address} is refused: {why}")]
    Address {
        /// The address.
        address: IpAddr,
        /// What is wrong.
        why: String,
    },
    /// An address that has an owner.
    #[error("address {address} is taken by {by}; choose another one or leave it out")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        by: String,
    },
    /// No address is left.
    #[error(
        "network {network} has no free address left in {range}; detach an endpoint or make a larger network"
    )]
    Exhausted {
        /// The network.
        network: String,
        /// Where addresses are given out of.
        range: IpNet,
    },
    /// No subnet is left.
    #[error("no free subnet is left in the default pool {pool}; give --subnet")]
    PoolExhausted {
        /// The pool.
        pool: IpNet,
    },
    /// The name is in use.
    #[error("{what} {name} exists already; choose another name")]
    Exists {
        /// What.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// There is no such thing.
    #[error("there is no {what} {name:?}{hint}")]
    Missing {
        /// What.
        what: &'static str,
        /// Its name.
        name: String,
        /// What there is.
        hint: String,
    },
    /// The words fit more than one endpoint.
    #[error("{name:?} has several endpoints: {list}; name one of them")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Which it fits.
        list: String,
    },
    /// The network is in use.
    #[error("network {network} has endpoints ({list}); detach them first")]
    InUse {
        /// The network.
        network: String,
        /// Names of its endpoints.
        list: String,
    },
    /// The endpoint is on that network already.
    #[error("{target} is on network {network} already, as endpoint {endpoint}; detach it first")]
    Attached {
        /// The target.
        target: String,
        /// The network.
        network: String,
        /// The endpoint.
        endpoint: String,
    },
    /// A port somebody else has.
    #[error(
        "port {port} is published already, for endpoint {endpoint}; choose another port or unpublish it"
    )]
    PortTaken {
        /// The outside half of the new spec.
        port: String,
        /// Who has it.
        endpoint: String,
    },
    /// A publish that cannot be.
    #[error("cannot publish {spec}: {why}")]
    Publish {
        /// The spec.
        spec: String,
        /// What is wrong.
        why: String,
    },
    /// An address that cannot be a floating one.
    #[error("floating address {address} is refused: {why}")]
    Floating {
        /// The address.
        address: IpAddr,
        /// What is wrong.
        why: String,
    },
    /// A port that is not published.
    #[error("port {port} is not published{hint}")]
    NotPublished {
        /// The outside half that was asked for.
        port: String,
        /// What comes close.
        hint: String,
    },
    /// Any other value out of its range.
    #[error("{what} {value} is refused: {why}")]
    Value {
        /// Which value.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        why: String,
    },
}

impl ModelError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Missing { .. } | Self::NotPublished { .. } => Fault::Missing,
            Self::Overlap { .. }
            | Self::Clash { .. }
            | Self::Taken { .. }
            | Self::Exhausted { .. }
            | Self::PoolExhausted { .. }
            | Self::Exists { .. }
            | Self::Ambiguous { .. }
            | Self::InUse { .. }
            | Self::Attached { .. }
            | Self::PortTaken { .. } => Fault::Conflict,
            Self::Name { .. }
            | Self::Mac { .. }
            | Self::Subnet { .. }
            | Self::Gateway { .. }
            | Self::Range { .. }
            | Self::Address { .. }
            | Self::Publish { .. }
            | Self::Floating { .. }
            | Self::Value { .. } => Fault::Bad,
        }
    }
}
