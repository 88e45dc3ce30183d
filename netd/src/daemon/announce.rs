//! A new endpoint is made known to its segment: whoever still has the address under another MAC learns
//! the new one at once.

use std::net::IpAddr;

use ipnet::IpNet;
use netd_common::addr::{BROADCAST, V6};
use netd_common::wire::{arp, nd};

use super::core::Core;
use crate::model::Endpoint;

impl Core {
    /// Sends unsolicited ARP and neighbour advertisements for all of an endpoint's addresses (RFC 5227
    /// section 2.3, RFC 4861 section 7.2.6) to the other switch ports. Nobody depends on them.
    pub(super) fn announce(&mut self, endpoint: &Endpoint) {
        let device = self.actual.ifindex(&endpoint.device());
        for ip in endpoint.addresses.iter().map(IpNet::addr) {
            let said = match ip {
                IpAddr::V4(ip) => {
                    let frame = arp::announcement(endpoint.mac, ip.octets());
                    self.node.datapath.flood_from(device, &frame)
                }
                IpAddr::V6(ip) => {
                    let (nobody, mac) = (V6::default(), endpoint.mac);
                    let frame = nd::advertisement(BROADCAST, nobody, ip.octets(), mac, false);
                    self.node.datapath.flood_from(device, &frame)
                }
            };
            if let Err(e) = said {
                tracing::warn!("endpoint {}: {ip} is not announced: {e}", endpoint.name);
            }
        }
    }
}
