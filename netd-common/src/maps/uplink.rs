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
    /// `FLOAT` has entries.
    pub const FLOATS: u32 = 1 << 1;
}

/// Ports, both ends included, in the machine's byte order; 0 to 0: none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Range {
    /// First.
    pub min: u16,
    /// Last, not below `min`.
    pub max: u16,
}

impl Range {
    /// Whether a port is in the range. Port 0 is in none.
    #[inline(always)]
    pub const fn has(self, port: u16) -> bool {
        port != 0 && self.min <= port && port <= self.max
    }
}

/// Ranges in [`Node::silent`].
pub const SILENT: usize = 4;

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
    /// Ports of masquerade at which a TCP SYN that belongs to nothing (no mapping, publish or listener)
    /// is dropped without a word (RFC 5382 REQ-4); elsewhere the node's stack answers.
    pub silent: [Range; SILENT],
}

impl Node {
    /// Whether an unsolicited SYN to a port of the node is dropped without a word.
    #[inline(always)]
    pub const fn silent(&self, port: u16) -> bool {
        let [a, b, c, d] = &self.silent;
        a.has(port) || b.has(port) || c.has(port) || d.has(port)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_silent_in_its_ranges_and_at_port_0_never() {
        let range = |min, max| Range { min, max };
        let node = |silent| Node {
            silent,
            ..Node::zeroed()
        };
        let none = node([Range::default(); SILENT]);
        assert!((0..=u16::MAX).all(|port| !none.silent(port)));
        let four = node([
            range(0, 5),
            range(9, 9),
            range(20, 30),
            range(65_535, 65_535),
        ]);
        let inside: Vec<u16> = (0..=u16::MAX).filter(|p| four.silent(*p)).collect();
        let wanted = [1..=5, 9..=9, 20..=30, 65_535..=65_535];
        assert_eq!(inside, wanted.into_iter().flatten().collect::<Vec<u16>>());
    }
}
