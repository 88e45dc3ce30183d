//! What the socket hooks need: held ports, and the addresses processes called.

use bytemuck::{Pod, Zeroable};

use crate::addr::{Be16, V6};
use crate::sock::is_v4;

/// Value of `HELD`. Key: [`held_index`](crate::sock::held_index) of a protocol and port of the node.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Held {
    /// Rows of `PUBLISH` with an IPv4 address.
    pub v4: u16,
    /// Rows of `PUBLISH` with an IPv6 address.
    pub v6: u16,
    /// Publishes in the making: no process may bind the port, nothing leads to it yet.
    pub claims: u32,
}

impl Held {
    /// Whether rows of `PUBLISH` of the family of `addr` (16-byte form) are on the port.
    #[inline(always)]
    pub const fn of(&self, addr: V6) -> bool {
        if is_v4(addr) {
            self.v4 > 0
        } else {
            self.v6 > 0
        }
    }
}

/// Key of `CALLED`: a socket of the node and the endpoint port it talks to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct CalledKey {
    /// The socket's cookie; the kernel gives none twice.
    pub cookie: u64,
    /// Endpoint address, IPv4 as `::ffff:a.b.c.d`.
    pub addr: V6,
    /// Endpoint port.
    pub port: Be16,
    /// Zero.
    pub pad: [u8; 6],
}

/// Value of `CALLED`: the node's address that the process named.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Called {
    /// Address, IPv4 as `::ffff:a.b.c.d`.
    pub addr: V6,
    /// Port.
    pub port: Be16,
    /// Zero.
    pub pad: [u8; 2],
}
