//! The node's own addresses: what a port published on all of them listens on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::core::Core;
use super::error::Result;
use crate::net::route::{self, Address};

impl Core {
    /// Brings the rows of the node's addresses up to what it has now; a failure is a problem.
    pub(super) fn refresh_locals(&mut self) {
        match self.try_refresh_locals() {
            Ok(()) => drop(self.problems.remove("addresses")),
            Err(e) => {
                self.problems
                    .insert("addresses".into(), format!("addresses: {}", e.line));
            }
        }
    }

    fn try_refresh_locals(&mut self) -> Result<()> {
        let addresses = route::addresses(&mut self.node.netlink)?;
        self.node.datapath.locals_set(&locals(&addresses))?;
        Ok(())
    }
}

/// What others may call the node by, with the device that has it. Loopback addresses are every
/// machine's own and link-local ones a link's: neither names this node.
pub(super) fn locals(addresses: &[Address]) -> BTreeMap<IpAddr, u32> {
    let named = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    addresses
        .iter()
        .map(|a| (a.net.addr(), a.ifindex))
        .filter(|(ip, _)| named(ip))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_addresses_name_no_node() {
        let address = |net: &str, ifindex| Address {
            ifindex,
            net: net.parse().unwrap(),
            usable: false,
            own: false,
        };
        let all = [
            address("127.0.0.1/8", 1),
            address("::1/128", 1),
            address("fe80::1/64", 2),
            address("192.0.2.2/24", 2),
            address("169.254.1.1/16", 3),
            address("2001:db8::2/64", 2),
        ];
        let named: Vec<String> = locals(&all).keys().map(ToString::to_string).collect();
        assert_eq!(named, ["169.254.1.1", "192.0.2.2", "2001:db8::2"]);
    }
}
