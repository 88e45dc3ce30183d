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
    /// 1: only sources that `FROM` has for `number` may come; 0: everybody.
    pub limited: u8,
    /// Zero.
    pub pad: u8,
    /// ifindex of the endpoint's node-side device.
    pub device: u32,
    /// Number of the endpoint.
    pub endpoint: u32,
    /// Number of its network.
    pub network: u32,
    /// Number of the publish, never 0; all rows of a range have the same.
    pub number: u32,
}

/// Key of `FROM`, an LPM trie: sources that may come to a publish. The family is part of it: in 16 bytes
/// `::/0` has every IPv4 address inside.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct FromKey {
    /// Significant bits of what follows.
    pub prefix_len: u32,
    /// Whom, and of which publish.
    pub source: Source,
}

/// The part of a [`FromKey`] that prefixes are of.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Source {
    /// [`Publish::number`].
    pub publish: u32,
    /// 4 or 6.
    pub family: u32,
    /// Address, IPv4 as `::ffff:a.b.c.d`.
    pub addr: V6,
}

impl FromKey {
    /// Bits before the address.
    const HEAD: u32 = 64;

    /// The key of a prefix of `len` bits, at most 32 of IPv4 or 128 of IPv6.
    #[inline(always)]
    pub fn new<A: Addr>(publish: u32, addr: A, len: u8) -> Self {
        let before = if A::IS_V4 { 96 } else { 0 };
        Self {
            prefix_len: Self::HEAD + before + len as u32,
            source: Source {
                publish,
                family: if A::IS_V4 { 4 } else { 6 },
                addr: addr.to_16(),
            },
        }
    }

    /// The key that looks up one address.
    #[inline(always)]
    pub fn lookup<A: Addr>(publish: u32, addr: A) -> Self {
        Self::new(publish, addr, if A::IS_V4 { 32 } else { 128 })
    }

    /// Bits of the prefix as its family counts them.
    pub const fn len(&self) -> u8 {
        let before = if self.source.family == 4 { 96 } else { 0 };
        self.prefix_len.saturating_sub(Self::HEAD + before) as u8
    }

    /// Whether it has every address of its family.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::V4;

    #[test]
    fn prefixes_of_the_two_families_never_meet() {
        let (a, b): (V4, V6) = ([192, 0, 2, 0], [0; 16]);
        let (four, six) = (FromKey::new(7, a, 24), FromKey::new(7, b, 0));
        assert_eq!((four.prefix_len, four.len()), (64 + 96 + 24, 24));
        assert_eq!((six.prefix_len, six.len()), (64, 0));
        assert!(six.is_empty() && !four.is_empty());
        // Within the bits that count, an IPv4 address and `::/0` differ.
        let asked = FromKey::lookup(7, a);
        assert_eq!(asked.prefix_len, 64 + 128);
        assert_ne!(asked.source.family, six.source.family);
        assert_eq!(FromKey::lookup(7, b).prefix_len, 64 + 128);
        assert_eq!(FromKey::new(7, b, 128).len(), 128);
        assert_eq!(four.source.addr[12..], [192, 0, 2, 0]);
    }
}
