//! Mappings: the outside port held for one inside socket. A mapping is two rows that appear and vanish
//! together, one under each of its sockets.

use bytemuck::{Pod, Zeroable};

use super::pod;
use crate::addr::{Addr, Be16, Mac, V6};
use crate::tuple::Tuple;

/// Bits of [`Mapping::flags`].
pub mod mapping_flags {
    /// Of a network with the strict profile: in quarantine when its last flow has ended.
    pub const STRICT: u8 = 1;
    /// Everybody outside may call the inside socket by it (endpoint-independent filtering).
    pub const FILTER_ANY: u8 = 1 << 1;
    /// So may, from any port, the addresses the inside socket has sent to (address-dependent filtering).
    /// With neither bit only the sockets it has sent to may (address and port-dependent filtering).
    pub const FILTER_ADDRESS: u8 = 1 << 2;
    /// The row is the one under the outside socket.
    pub const OUTSIDE: u8 = 1 << 3;
}

/// Value of `MAP4` and `MAP6`. Key: a [`Tuple`] in which the missing side is zero, [`Mapping::inside`] or
/// [`Mapping::outside`]. Inserting the row under the outside socket is what reserves the port; the row
/// under the inside socket, inserted second and removed last, is the mapping itself: of the other one only
/// `other`, `tag`, `created` and `flags` count.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping<A> {
    /// The other row's key.
    pub other: Tuple<A>,
    /// The first remote address the inside socket has sent to in this mapping's life, IPv4 as
    /// `::ffff:a.b.c.d`. Further ones are in `SENT`.
    pub first: V6,
    /// [`Tuple::tag`] of the row's own key: tells a reader that the kernel reused the element.
    pub tag: u32,
    /// ifindex of the endpoint's node-side device; 0: the node's own mapping.
    pub device: u32,
    /// Number of the endpoint; 0: the node.
    pub endpoint: u32,
    /// Number of its network; 0: the node.
    pub network: u32,
    /// MAC of the endpoint.
    pub dst_mac: Mac,
    /// MAC of its gateway.
    pub src_mac: Mac,
    /// [`mapping_flags`].
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// When it was made, `bpf_ktime_get_ns`: the same in both rows.
    pub created: u64,
    /// When its last flow ended, `bpf_ktime_get_ns`; counts while it has none.
    pub idle: u64,
    /// Generation and references, [`crate::mapping`]. The last field: the kernel copies a value from its
    /// beginning, so whoever sees the word of a new owner of the element sees its tag as well.
    pub word: u64,
}

pod!(Mapping, 16 + 16 + 32 + 24, 40 + 16 + 32 + 24);

impl<A: Addr> Mapping<A> {
    /// The key of an inside socket's row, towards the outside address `outside`. For echo the port is the
    /// identifier.
    #[inline(always)]
    pub const fn inside(addr: A, port: Be16, proto: u8, outside: A) -> Tuple<A> {
        Tuple {
            src: addr,
            dst: outside,
            sport: port,
            dport: Be16([0; 2]),
            proto,
            pad: [0; 3],
        }
    }

    /// The key of an outside socket's row.
    #[inline(always)]
    pub const fn outside(addr: A, port: Be16, proto: u8) -> Tuple<A> {
        Tuple {
            src: A::ZERO,
            dst: addr,
            sport: Be16([0; 2]),
            dport: port,
            proto,
            pad: [0; 3],
        }
    }
}

/// Key of `SENT`: an address that the inside socket of a mapping has sent to, and not as the first; or a
/// socket of the node's address, which is another endpoint's mapping.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct SentKey {
    /// [`crate::mapping::life`] of the mapping: another mapping with the same port has another.
    pub life: u64,
    /// The address, IPv4 as `::ffff:a.b.c.d`.
    pub remote: V6,
    /// The port of the node's address; 0: an address of the outside.
    pub port: Be16,
    /// Zero.
    pub pad: [u8; 6],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::V4;

    #[test]
    fn the_two_keys_of_a_mapping_never_meet() {
        let port = Be16::new(5000);
        let inside = Mapping::<V4>::inside([10, 0, 0, 1], port, 17, [192, 0, 2, 1]);
        let outside = Mapping::<V4>::outside([192, 0, 2, 1], port, 17);
        assert_ne!(inside, outside);
        assert_eq!((inside.sport, inside.dport.get()), (port, 0));
        assert_eq!((outside.src, outside.dport), ([0; 4], port));
        // One socket has a mapping for each outside address, protocol and port.
        for other in [
            Mapping::inside([10, 0, 0, 1], port, 17, [192, 0, 2, 2]),
            Mapping::inside([10, 0, 0, 1], port, 6, [192, 0, 2, 1]),
            Mapping::inside([10, 0, 0, 1], Be16::new(5001), 17, [192, 0, 2, 1]),
            Mapping::inside([10, 0, 0, 2], port, 17, [192, 0, 2, 1]),
        ] {
            assert_ne!(inside, other);
        }
    }
}
