//! Uplinks, the deny list, node-wide settings and the counters.

use bytemuck::{Pod, Zeroable};

use crate::addr::{Addr, Be16, V4, V6};

/// Value of `UPLINK`. Key: `u32` ifindex of the uplink.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Uplink {
    /// Source address of masqueraded IPv4; 0: none.
    pub v4: V4,
    /// Source address of masqueraded IPv6; `::`: none.
    pub v6: V6,
    /// First outside port masquerade may take.
    pub port_min: Be16,
    /// Last outside port masquerade may take.
    pub port_max: Be16,
    /// MTU of the device in bytes (L3).
    pub mtu: u32,
}

/// Bits of [`Node::flags`].
pub mod node_flags {
    /// `DENY` has entries.
    pub const DENY: u32 = 1;
}

/// The one value of `NODE`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Node {
    /// [`node_flags`].
    pub flags: u32,
    /// The node's IPv4 address that a server sees where an endpoint calls a published port; 0: the
    /// address that was called.
    pub v4: V4,
    /// The same of IPv6.
    pub v6: V6,
}

/// Key of `DENY`, an LPM trie: a source prefix whose packets die in XDP.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct DenyKey {
    /// Significant bits of `addr`: 96 + the IPv4 prefix length, or the IPv6 prefix length.
    pub prefix_len: u32,
    /// IPv4 as `::ffff:a.b.c.d`.
    pub addr: V6,
}

impl DenyKey {
    /// The key that looks up one address.
    #[inline(always)]
    pub fn lookup<A: Addr>(addr: A) -> Self {
        Self {
            prefix_len: 128,
            addr: addr.to_16(),
        }
    }
}

/// Value of `STATS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Stat {
    /// Packets (a GSO packet counts once).
    pub packets: u64,
    /// Bytes (L2).
    pub bytes: u64,
}
