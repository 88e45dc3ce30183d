//! Networks.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Prefix;
use crate::{Filtering, Labels, MasqueradePorts, Owner, Profile};

/// What a network is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// An L2 segment with a gateway and masquerade.
    #[default]
    Bridge,
}

/// `POST /v1/networks`: a network that is asked for. What is left out gets a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the wire format"
)]
pub struct NetworkCreate {
    /// Its name: 1-63 of `[a-zA-Z0-9_.-]`, beginning with a letter or digit.
    pub name: String,
    /// Its kind.
    pub kind: NetworkKind,
    /// At most one subnet of each family; none: the next free one of both default pools.
    #[schemars(with = "Vec<Prefix>")]
    pub subnets: Vec<IpNet>,
    /// Gateway addresses, at most one for each subnet; left out: the first address of each subnet.
    pub gateways: Option<Vec<IpAddr>>,
    /// No gateway at all: a segment of its own, without node and outside (`--gateway none`).
    pub no_gateway: bool,
    /// Addresses are given out of this part of the subnet.
    #[schemars(with = "Option<Prefix>")]
    pub ip_range: Option<IpNet>,
    /// No outside.
    pub internal: bool,
    /// No masquerade to the outside.
    pub no_masquerade: bool,
    /// How masquerade gives out outside ports; left out: as the daemon does.
    pub masquerade_profile: Option<Profile>,
    /// From whom outside ports take packets; left out: as the daemon says, else as the profile has it.
    pub filtering: Option<Filtering>,
    /// Outside ports of masquerade; left out: the daemon's.
    pub masquerade_ports: Option<MasqueradePorts>,
    /// May talk to other networks that say so too.
    pub no_isolation: bool,
    /// Switches frames of every `EtherType`, VLAN-tagged ones too, without a look at what is inside.
    pub any_ethertype: bool,
    /// L3 MTU in bytes; left out: the uplink's, else 1500.
    pub mtu: Option<u32>,
    /// Seconds after which a learned MAC that says nothing is forgotten, from 1 on; left out: 300.
    pub aging_s: Option<u32>,
    /// Broadcast, multicast and unknown frames a second that each switch port may have flooded; 0: any
    /// number; left out: 2000.
    pub storm: Option<u32>,
    /// Labels.
    pub labels: Labels,
    /// Who asks; left out: `cli`.
    pub owner: Option<Owner>,
}

/// `PATCH /v1/networks/{name}`: what is to change of a network; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSet {
    /// Gateway addresses for subnets that have none yet. Endpoints get default routes by them, where
    /// they have none of the family.
    pub gateways: Vec<IpAddr>,
    /// MTU of the gateway and of every endpoint, inside and out; as [`NetworkCreate::mtu`].
    pub mtu: Option<u32>,
    /// As [`NetworkCreate::aging_s`].
    pub aging_s: Option<u32>,
    /// As [`NetworkCreate::storm`].
    pub storm: Option<u32>,
    /// As [`NetworkCreate::masquerade_profile`]; for new flows, like the next two.
    pub masquerade_profile: Option<Profile>,
    /// As [`NetworkCreate::filtering`].
    pub filtering: Option<Filtering>,
    /// As [`NetworkCreate::masquerade_ports`].
    pub masquerade_ports: Option<MasqueradePorts>,
}

/// A network as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent option of the wire format"
)]
pub struct Network {
    /// Number the data path knows it by, never 0.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: NetworkKind,
    /// Its subnets.
    #[schemars(with = "Vec<Prefix>")]
    pub subnets: Vec<IpNet>,
    /// Its gateway addresses; empty: no gateway.
    pub gateways: Vec<IpAddr>,
    /// Addresses are given out of this part of the subnet.
    #[schemars(with = "Option<Prefix>")]
    pub ip_range: Option<IpNet>,
    /// No outside.
    pub internal: bool,
    /// Traffic to the outside is masqueraded.
    pub masquerade: bool,
    /// How masquerade gives out outside ports, the network's own wish or the daemon's; none, like the next
    /// two: no masquerade.
    pub masquerade_profile: Option<Profile>,
    /// From whom outside ports take packets.
    pub filtering: Option<Filtering>,
    /// Outside ports of masquerade.
    pub masquerade_ports: Option<MasqueradePorts>,
    /// Closed against other networks.
    pub isolation: bool,
    /// Switches frames of every `EtherType`, VLAN-tagged ones too, without a look at what is inside.
    pub any_ethertype: bool,
    /// L3 MTU in bytes.
    pub mtu: u32,
    /// Seconds after which a learned MAC that says nothing is forgotten.
    pub aging_s: u32,
    /// Frames a second that each switch port may have flooded; 0: any number.
    pub storm: u32,
    /// The node's device with the gateway addresses; none: no gateway.
    pub device: Option<String>,
    /// MAC of that device, as `aa:bb:cc:dd:ee:ff`.
    pub gateway_mac: Option<String>,
    /// Endpoints attached.
    pub endpoints: u32,
    /// Labels.
    pub labels: Labels,
    /// Who asked for it.
    pub owner: Owner,
}
