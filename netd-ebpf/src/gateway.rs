//! `netd_gw_out`: what the node sends to a network, as it comes out of the gateway pair's inner end.

use netd_common::addr::{V4, is_group};
use netd_common::reason::DropReason;
use netd_common::wire::{Eth, ethertype};

use crate::family::Net;
use crate::maps::PORT;
use crate::skb::Skb;
use crate::verdict::Verdict;
use crate::{neighbour, switch};

/// A frame from the node.
#[inline(always)]
pub fn out(skb: Skb) -> Result<Verdict, DropReason> {
    // SAFETY: a map value stays readable for the run of the program.
    let port = unsafe { PORT.get(&skb.ifindex()) }.ok_or(DropReason::NoPort)?;
    skb.pull(V4::HEADERS);
    let eth = Eth::parse(&skb)?;
    // Solicitations go to a group; those that check a known neighbour go to the endpoint itself.
    let answer = match eth.ethertype {
        ethertype::ARP => neighbour::arp(skb, port),
        ethertype::IPV6 if is_group(eth.dst) => match neighbour::nd(skb, port) {
            Verdict::ASKED => neighbour::advertise(skb, port),
            decided => decided,
        },
        _ => Verdict::OPEN,
    };
    if answer != Verdict::OPEN {
        return Ok(answer);
    }
    if is_group(eth.dst) {
        Ok(switch::group(skb, port, eth.dst))
    } else {
        switch::forward(skb, port, eth.dst)
    }
}
