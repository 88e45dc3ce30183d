//! Published ports.

use bytemuck::{Pod, Zeroable};

use crate::addr::{Addr, Be16, Mac, V6};

/// Key of `PUBLISH`: a socket of the node as the outside addresses it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct PublishKey {
    /// Node address, IPv4 as `::ffff:a.b.c.d`; `::ffff:0.0.0.0` is every IPv4 address, `::` every
    /// IPv6 address of the node.
    pub addr: V6,
    /// Node port.
    pub port: Be16,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: u8,
}

impl PublishKey {
    /// The key for one node address.
    #[inline(always)]
    pub fn new<A: Addr>(addr: A, port: Be16, proto: u8) -> Self {
        Self {
            addr: addr.to_16(),
            port,
            proto,
            pad: 0,
        }
    }
}

/// Value of `PUBLISH`: the endpoint port behind it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Publish {
    /// Endpoint address, IPv4 as `::ffff:a.b.c.d`.
    pub addr: V6,
    /// Endpoint port.
    pub port: Be16,
    /// MAC of the endpoint.
    pub mac: Mac,
    /// MAC of its gateway, source of the frames it gets.
    pub gateway_mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
    /// ifindex of the endpoint's node-side device.
    pub device: u32,
    /// Number of the endpoint.
    pub endpoint: u32,
    /// Number of its network.
    pub network: u32,
    /// Number of the publish, never 0; all rows of a range have the same.
    pub number: u32,
}
