//! Floating IPs: outside addresses that are an endpoint's, one to one.

use bytemuck::{Pod, Zeroable};

use crate::addr::{Mac, V6};

/// Value of `FLOAT`: the endpoint behind a floating address. Key: the address, IPv4 as `::ffff:a.b.c.d`.
/// The way out, from the endpoint to the address it leaves with, is [`Port::float4`](super::Port::float4).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Float {
    /// The endpoint's own first address of the family, IPv4 as `::ffff:a.b.c.d`.
    pub addr: V6,
    /// MAC of the endpoint.
    pub mac: Mac,
    /// MAC of its network's gateway, source of routed frames.
    pub gateway_mac: Mac,
    /// ifindex of its node-side device.
    pub device: u32,
    /// Its number.
    pub endpoint: u32,
    /// Number of its network.
    pub network: u32,
    /// ifindex of the uplink on whose link the address is: ARP and neighbour discovery are answered there;
    /// 0: on none, so a router sends its packets here.
    pub uplink: u32,
    /// MAC of that uplink; zero: none.
    pub uplink_mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
}
