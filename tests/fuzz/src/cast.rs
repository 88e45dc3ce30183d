//! Who may be in a frame: addresses that mean something to the node under test.

/// Somebody with a MAC and an address of each family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who {
    /// Its MAC; of those outside, the router's.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub v4: [u8; 4],
    /// Its IPv6 address.
    pub v6: [u8; 16],
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cast {
    /// Endpoints: two of network 1, one of network 2.
    pub endpoints: [Who; 3],
    /// The gateways of both networks.
    pub gateways: [Who; 2],
    /// The node at its uplink, by the address masquerade uses and by another.
    pub node: [Who; 2],
    /// Hosts outside: two who are reached by the uplink, one who is denied, one behind a device that is no
    /// uplink, one that no route leads to.
    pub outside: [Who; 5],
    /// Ports that are published, and ports flows of the prologue use.
    pub ports: Vec<u16>,
    /// Source and destination port of answers on the prologue's flows, from the first outside to the node.
    pub flow: (u16, u16),
}

const fn who(mac: [u8; 2], v4: [u8; 4], [a, b, c, d]: [u16; 4]) -> Who {
    let (a, b, c, d) = (
        a.to_be_bytes(),
        b.to_be_bytes(),
        c.to_be_bytes(),
        d.to_be_bytes(),
    );
    Who {
        mac: [2, 0, 0, 0, mac[0], mac[1]],
        v4,
        v6: [
            a[0], a[1], b[0], b[1], c[0], c[1], 0, 0, 0, 0, 0, 0, 0, 0, d[0], d[1],
        ],
    }
}

/// The endpoint whose frames the host targets judge.
pub const ENDPOINT: Who = who([1, 0x0a], [10, 1, 0, 10], [0xfd00, 1, 0, 0xa]);

/// The address they translate to.
pub const NODE: Who = who([0, 2], [192, 0, 2, 2], [0x2001, 0xdb8, 1, 2]);

impl Cast {
    /// The hosts of the packet suite's world.
    pub fn new() -> Self {
        Self {
            endpoints: [
                ENDPOINT,
                who([1, 0x0b], [10, 1, 0, 11], [0xfd00, 1, 0, 0xb]),
                who([2, 0x0a], [10, 2, 0, 10], [0xfd00, 2, 0, 0xa]),
            ],
            gateways: [
                who([1, 1], [10, 1, 0, 1], [0xfd00, 1, 0, 1]),
                who([2, 1], [10, 2, 0, 1], [0xfd00, 2, 0, 1]),
            ],
            node: [NODE, who([0, 2], [192, 0, 2, 3], [0x2001, 0xdb8, 1, 3])],
            outside: [
                who([0, 1], [203, 0, 113, 9], [0x2001, 0xdb8, 9, 9]),
                who([0, 1], [203, 0, 113, 10], [0x2001, 0xdb8, 9, 0x10]),
                who([0, 1], [198, 51, 100, 66], [0x2001, 0xdb8, 0x66, 6]),
                who([0, 1], [198, 18, 0, 9], [0x2001, 0xdb8, 0x1800, 9]),
                who([0, 1], [198, 18, 1, 9], [0x2001, 0xdb8, 0x1801, 9]),
            ],
            flow: (80, 20_100),
            ports: vec![
                53, 67, 68, 80, 443, 546, 547, 8080, 8081, 20_000, 20_100, 40_000,
            ],
        }
    }

    /// Everybody.
    pub fn all(&self) -> impl Iterator<Item = &Who> {
        let inside = self.endpoints.iter().chain(&self.gateways);
        inside.chain(&self.node).chain(&self.outside)
    }

    /// One of them.
    pub fn any(&self, rng: &mut fastrand::Rng) -> Who {
        let n = rng.usize(..self.all().count());
        *self.all().nth(n).expect("so many are there")
    }

    /// A port that may mean something.
    pub fn port(&self, rng: &mut fastrand::Rng) -> u16 {
        if rng.u8(..8) == 0 {
            rng.u16(..)
        } else {
            *rng.choice(&self.ports).expect("there are ports")
        }
    }
}

impl Default for Cast {
    fn default() -> Self {
        Self::new()
    }
}
