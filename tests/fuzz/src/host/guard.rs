//! What an endpoint may send: the guard's functions in the order `netd_ep_out` calls them, judged by what
//! stands in the frames they let pass.

use bytemuck::Zeroable;
use netd_common::guard::{self, Guarded, Source};
use netd_common::maps::Port;
use netd_common::reason::DropReason;
use netd_common::wire::arp::Arp;
use netd_common::wire::{Eth, Ip, nd};

use super::Subject;
use crate::cast::{ENDPOINT, Who};
use crate::read::{self, L3};

fn port(who: &Who) -> Port {
    Port {
        network: 1,
        endpoint: 1,
        mac: who.mac,
        v4: who.v4,
        v6: who.v6,
        ..Port::zeroed()
    }
}

pub fn check<S: Subject>(subject: &S, frame: &[u8]) -> Result<(), String> {
    if judge(subject, &port(&ENDPOINT), frame).is_ok() {
        allowed(&ENDPOINT, frame)
    } else {
        Ok(())
    }
}

/// As the program does; an address that would have to be asked for is not the endpoint's.
fn judge<S: Subject>(subject: &S, port: &Port, frame: &[u8]) -> Result<(), DropReason> {
    let eth = Eth::parse(frame)?;
    guard::mac(port, eth.src)?;
    let own = |source, reason| match source {
        Source::Own => Ok(()),
        Source::Ask => Err(reason),
    };
    match eth.ethertype {
        0x0800 => packet(subject, port, frame, &subject.v4(frame)?),
        0x86dd => {
            let ip = subject.v6(frame)?;
            let message = nd::parse(frame, &ip)?;
            own(guard::nd(port, eth.src, &message)?, DropReason::SpoofedNd)?;
            packet(subject, port, frame, &ip)
        }
        0x0806 => {
            let arp = Arp::parse(frame)?;
            own(guard::arp(port, eth.src, &arp)?, DropReason::SpoofedArp)
        }
        _ => Err(DropReason::EtherType),
    }
}

fn packet<S: Subject, A: Guarded>(
    subject: &S,
    port: &Port,
    frame: &[u8],
    ip: &Ip<A>,
) -> Result<(), DropReason> {
    if subject.source(port, ip) == Source::Ask {
        return Err(DropReason::SpoofedIp);
    }
    A::options(frame, L3, ip)?;
    guard::dhcp(port, frame, ip)?;
    guard::martian(ip.src, ip.dst).or_else(|reason| {
        // A DHCP client, or one that looks whether an address is free, has none yet.
        if ip.src.is_unspecified() && ip.dst.is_multicast() {
            Ok(())
        } else {
            Err(reason)
        }
    })
}

/// Whether a frame is one that this endpoint may send, by the frame alone.
pub fn allowed(who: &Who, frame: &[u8]) -> Result<(), String> {
    if frame.get(6..12) != Some(&who.mac) {
        return Err("the source MAC is another's".into());
    }
    match read::ethertype(frame) {
        Some(0x0806) => {
            let mac = frame.get(22..28) == Some(&who.mac);
            let ip = frame.get(28..32) == Some(&who.v4) || frame.get(28..32) == Some(&[0; 4]);
            if mac && ip {
                return Ok(());
            }
            return Err("ARP for another".into());
        }
        Some(0x0800 | 0x86dd) => {}
        _ => return Err("neither IP nor ARP".into()),
    }
    let Some(ip) = read::ip(frame) else {
        return Err("no whole IP packet".into());
    };
    if ip.source_route {
        return Err("a source route".into());
    }
    let own = if ip.v6 {
        let link = netd_common::addr::link_local(who.mac);
        ip.src == who.v6 || ip.src == link || (ip.src == [0; 16] && ip.dst[0] == 0xff)
    } else {
        ip.src == who.v4 || (ip.src == [0; 4] && ip.dst == [255; 4])
    };
    if !own {
        return Err(format!("from {:?}", ip.src));
    }
    let client = if ip.v6 { 546 } else { 68 };
    if ip.proto == 17 && !ip.later && dport(frame, &ip) == Some(client) {
        return Err("a DHCP server's words".into());
    }
    let router =
        ip.v6 && ip.proto == 58 && !ip.later && matches!(frame.get(ip.l4), Some(134 | 137));
    if router {
        return Err("a router's words".into());
    }
    Ok(())
}

fn dport(frame: &[u8], ip: &read::Ip) -> Option<u16> {
    let two = frame.get(ip.l4 + 2..ip.l4 + 4)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}
