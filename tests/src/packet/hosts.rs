//! Who is who: endpoints `A` and `B` on network 1, `C` on network 2, the gateways of both, the node's
//! uplink, and hosts outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Somebody with a MAC and an address of each family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its MAC; for hosts outside, the one the uplink sees: the router's.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// The device of the node a program runs on for it: an endpoint's node-side device, a gateway
    /// pair's inner end, the uplink.
    pub device: &'static str,
    /// The other end of that veth pair.
    pub peer: &'static str,
    /// Number of the network; 0: none.
    pub network: u32,
    /// Number of the endpoint; 0: none.
    pub endpoint: u32,
}

impl Host {
    /// Its address of a family.
    pub const fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

const fn v6(a: u16, b: u16, c: u16, d: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, 0, 0, 0, 0, d)
}

const fn host(
    last_of_mac: [u8; 2],
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    (device, peer): (&'static str, &'static str),
    network: u32,
    endpoint: u32,
) -> Host {
    let mac = [2, 0, 0, 0, last_of_mac[0], last_of_mac[1]];
    Host {
        mac,
        v4,
        v6,
        device,
        peer,
        network,
        endpoint,
    }
}

/// An endpoint of network 1.
pub const A: Host = host(
    [1, 0x0a],
    v4(10, 1, 0, 10),
    v6(0xfd00, 1, 0, 0xa),
    ("epa", "epa1"),
    1,
    1,
);
/// Another endpoint of network 1.
pub const B: Host = host(
    [1, 0x0b],
    v4(10, 1, 0, 11),
    v6(0xfd00, 1, 0, 0xb),
    ("epb", "epb1"),
    1,
    2,
);
/// An endpoint of network 2.
pub const C: Host = host(
    [2, 0x0a],
    v4(10, 2, 0, 10),
    v6(0xfd00, 2, 0, 0xa),
    ("epc", "epc1"),
    2,
    3,
);
/// The gateway of network 1; its device is the inner end, the peer the outer one.
pub const GATEWAY: Host = host(
    [1, 1],
    v4(10, 1, 0, 1),
    v6(0xfd00, 1, 0, 1),
    ("gwi", "gwo"),
    1,
    0,
);
/// The gateway of network 2.
pub const GATEWAY2: Host = host(
    [2, 1],
    v4(10, 2, 0, 1),
    v6(0xfd00, 2, 0, 1),
    ("gwi2", "gwo2"),
    2,
    0,
);
/// The node at its uplink.
pub const NODE: Host = host(
    [0, 2],
    v4(192, 0, 2, 2),
    v6(0x2001, 0xdb8, 1, 2),
    ("up0", "up1"),
    0,
    0,
);
/// Another address of the node at the same uplink; masquerade does not use it.
pub const NODE_TWO: Host = host(
    [0, 2],
    v4(192, 0, 2, 3),
    v6(0x2001, 0xdb8, 1, 3),
    ("up0", "up1"),
    0,
    0,
);
/// A host behind the router.
pub const OUTSIDE: Host = host(
    [0, 1],
    v4(203, 0, 113, 9),
    v6(0x2001, 0xdb8, 9, 9),
    ("up0", "up1"),
    0,
    0,
);
/// Another host behind the router.
pub const OUTSIDE_TWO: Host = host(
    [0, 1],
    v4(203, 0, 113, 10),
    v6(0x2001, 0xdb8, 9, 0x10),
    ("up0", "up1"),
    0,
    0,
);
/// Nobody's own address: 127.0.0.1 and `::1`, as a wire must not have them.
pub const LOOPBACK: Host = Host {
    v4: Ipv4Addr::LOCALHOST,
    v6: Ipv6Addr::LOCALHOST,
    ..NODE
};
/// A host outside that the deny list names, where a case has set it.
pub const DENIED: Host = host(
    [0, 1],
    v4(198, 51, 100, 66),
    v6(0x2001, 0xdb8, 0x66, 6),
    ("up0", "up1"),
    0,
    0,
);

/// First outside port masquerade may take.
pub const PORT_MIN: u16 = 20_000;
/// Last outside port masquerade may take.
pub const PORT_MAX: u16 = 20_999;
