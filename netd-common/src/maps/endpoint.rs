//! Endpoints, gateways and the segments they form.

use bytemuck::{Pod, Zeroable};

use crate::addr::{Mac, V4, V6};

/// Bits of [`Port::flags`].
pub mod port_flags {
    /// The device is a gateway pair's inner end; else an endpoint's node-side device.
    pub const GATEWAY: u32 = 1;
    /// The network's traffic to the outside is masqueraded.
    pub const MASQUERADE: u32 = 1 << 1;
    /// The network has no outside.
    pub const INTERNAL: u32 = 1 << 2;
    /// The network and others that also carry this bit may talk.
    pub const NO_ISOLATION: u32 = 1 << 3;
    /// The endpoint may send with any source address (a router, a VM with bridges).
    pub const FORWARDS: u32 = 1 << 4;
    /// Frames of every `EtherType`, VLAN-tagged ones too, are switched by their MACs.
    pub const ANY_ETHERTYPE: u32 = 1 << 5;
    /// Masquerade profile `strict`: one outside socket for each inside socket whatever it talks to, and
    /// never the same for two (RFC 4787 REQ-1); else `balanced`, which shares ports when they run short.
    pub const STRICT: u32 = 1 << 6;
    /// Mappings let in packets from anybody (RFC 4787 section 5, endpoint-independent filtering). With
    /// neither this nor [`FILTER_ADDRESS`]: only from the sockets that were talked to.
    pub const FILTER_ANY: u32 = 1 << 7;
    /// Mappings let in packets from the addresses that were talked to, from any port of theirs.
    pub const FILTER_ADDRESS: u32 = 1 << 8;
}

/// Value of `PORT`: all a program needs about the device a frame came from, and about its network,
/// in one look-up. Key: `u32` ifindex of the device.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Port {
    /// Number of the network, never 0.
    pub network: u32,
    /// Number of the endpoint, never 0; 0 for a gateway.
    pub endpoint: u32,
    /// [`port_flags`].
    pub flags: u32,
    /// MTU of the network in bytes (L3).
    pub mtu: u32,
    /// ifindex of the gateway pair's outer end (holds the addresses); 0: network without gateway.
    pub outer: u32,
    /// ifindex of the gateway pair's inner end (forwarding is on there); 0: without gateway.
    pub inner: u32,
    /// First IPv4 address of the endpoint (or gateway); 0: none. More are in `HOST4`.
    pub v4: V4,
    /// First IPv6 address of the endpoint (or gateway); `::`: none. More are in `HOST6`.
    pub v6: V6,
    /// MAC of the endpoint (or of the gateway's outer end).
    pub mac: Mac,
    /// MAC of the network's gateway (outer end); zero: none.
    pub gateway_mac: Mac,
    /// IPv4 address of the gateway; 0: none.
    pub gateway_v4: V4,
    /// IPv6 address of the gateway; `::`: none.
    pub gateway_v6: V6,
    /// MACs beyond its own that may be behind this switch port; 0: it does not learn.
    pub macs: u32,
    /// Seconds after which a learned MAC that says nothing is forgotten; the same on the whole network.
    pub aging: u32,
    /// Frames a second that this switch port may have flooded; 0: any number.
    pub storm: u32,
    /// Prefix length of the network's IPv4 subnet; 0: it has none.
    pub bits4: u8,
    /// Prefix length of the network's IPv6 subnet; 0: it has none.
    pub bits6: u8,
    /// First outside port masquerade may take for the network, in the machine's byte order; 0: the
    /// uplink's range.
    pub masq_min: u16,
    /// Last outside port masquerade may take for the network; 0 as `masq_min`.
    pub masq_max: u16,
    /// Zero.
    pub pad: [u8; 2],
    /// Floating IPv4 address that what the endpoint's first address sends leaves with; 0: none.
    pub float4: V4,
    /// The same of IPv6; `::`: none.
    pub float6: V6,
}

/// What has an address or a MAC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostKind {
    /// An endpoint.
    Endpoint,
    /// The gateway of a network.
    Gateway,
}

impl HostKind {
    /// From the code in a map; anything but the gateway's is an endpoint.
    #[inline(always)]
    pub const fn from_code(code: u32) -> Self {
        if code == 1 {
            Self::Gateway
        } else {
            Self::Endpoint
        }
    }

    /// The code in a map.
    #[inline(always)]
    pub const fn code(self) -> u32 {
        match self {
            Self::Endpoint => 0,
            Self::Gateway => 1,
        }
    }
}

/// Value of `HOST4` and `HOST6`: who has an address. Key: the address, 4 or 16 bytes. Subnets do
/// not overlap on a node, so the address alone is enough.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct HostEntry {
    /// Number of the network.
    pub network: u32,
    /// Number of the endpoint; 0 for a gateway.
    pub endpoint: u32,
    /// ifindex frames go out by: the endpoint's node-side device, or the gateway's outer end.
    pub device: u32,
    /// [`HostKind::code`].
    pub kind: u32,
    /// Its MAC.
    pub mac: Mac,
    /// MAC of the network's gateway, source of routed frames.
    pub gateway_mac: Mac,
    /// [`port_flags`] of the network.
    pub flags: u32,
}

/// Key of `FDB` and `LEARNED`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct FdbKey {
    /// Number of the network.
    pub network: u32,
    /// The MAC.
    pub mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
}

impl FdbKey {
    /// The key of a MAC on a network.
    #[inline(always)]
    pub const fn new(network: u32, mac: Mac) -> Self {
        Self {
            network,
            mac,
            pad: [0; 2],
        }
    }
}

/// Value of `FDB`: the switch port a MAC is behind because the control plane says so.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct FdbEntry {
    /// ifindex of the endpoint's node-side device, or of the gateway's outer end.
    pub device: u32,
    /// [`HostKind::code`].
    pub kind: u32,
    /// Number of the endpoint; 0 for a gateway.
    pub endpoint: u32,
}

/// Key of `SEGMENT`: the switch ports of a network in slots 0..count.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct SegmentKey {
    /// Number of the network.
    pub network: u32,
    /// From 0 on, without a hole.
    pub slot: u32,
}

/// Value of `SEGMENT`: one switch port a flood goes to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Target {
    /// ifindex of the endpoint's node-side device, or of the gateway's outer end.
    pub device: u32,
    /// [`HostKind::code`].
    pub kind: u32,
}
