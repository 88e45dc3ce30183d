//! Devices with their other ends and counters, as the kernel tells them. Reads only.
//!
//! A veth's peer is told as a number in the peer's namespace (`IFLA_LINK`), and that namespace as a
//! number of the reader's own (`IFLA_LINK_NETNSID`, absent when both ends are in one namespace).

use std::os::fd::{AsRawFd, BorrowedFd};

use netd_common::addr::Mac;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::{Netlink, Result};

/// What a device has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Received packets that were dropped.
    pub rx_dropped: u64,
    /// Received packets that were broken.
    pub rx_errors: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets to send that were dropped.
    pub tx_dropped: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
}

/// A device and its other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its ifindex.
    pub ifindex: u32,
    /// Whether it is a veth.
    pub veth: bool,
    /// ifindex of the other end in its own namespace; 0: none.
    pub peer: u32,
    /// Number of the other end's namespace, as this namespace counts; none: this one.
    pub nsid: Option<i32>,
    /// Its MAC; none: it has none of six bytes.
    pub mac: Option<Mac>,
    /// L3 MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Up, and its other end too.
    pub carrier: bool,
    /// What it has counted.
    pub counters: Counters,
}

/// All devices of the socket's namespace.
pub fn devices(netlink: &mut Netlink) -> Result<Vec<Device>> {
    let all = netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(all.iter().filter_map(read).collect())
}

fn read(message: &RouteNetlinkMessage) -> Option<Device> {
    let RouteNetlinkMessage::NewLink(m) = message else {
        return None;
    };
    let mut device = Device {
        name: String::new(),
        ifindex: m.header.index,
        veth: false,
        peer: 0,
        nsid: None,
        mac: None,
        mtu: 0,
        up: m.header.flags.contains(LinkFlags::Up),
        carrier: m.header.flags.contains(LinkFlags::LowerUp),
        counters: Counters::default(),
    };
    for attribute in &m.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            device.name.clone_from(name);
        } else if let LinkAttribute::Link(peer) = attribute {
            device.peer = *peer;
        } else if let LinkAttribute::LinkNetNsId(nsid) = attribute {
            device.nsid = Some(*nsid);
        } else if let LinkAttribute::Address(mac) = attribute {
            device.mac = mac.as_slice().try_into().ok();
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            device.mtu = *mtu;
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            device.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
        } else if let LinkAttribute::Stats64(s) = attribute {
            device.counters = Counters {
                rx_packets: s.rx_packets,
                rx_bytes: s.rx_bytes,
                rx_dropped: s.rx_dropped,
                rx_errors: s.rx_errors,
                tx_packets: s.tx_packets,
                tx_bytes: s.tx_bytes,
                tx_dropped: s.tx_dropped,
                tx_errors: s.tx_errors,
            };
        }
    }
    Some(device)
}

/// The number the socket's namespace has for another one; none: it never had to do with it.
pub fn nsid_of(netlink: &mut Netlink, namespace: BorrowedFd<'_>) -> Result<Option<i32>> {
    let mut ask = NsidMessage::default();
    let fd = namespace.as_raw_fd().cast_unsigned();
    ask.attributes.push(NsidAttribute::Fd(fd));
    let Some(RouteNetlinkMessage::NewNsId(answer)) =
        netlink.get(RouteNetlinkMessage::GetNsId(ask))?
    else {
        return Ok(None);
    };
    // -1 (NETNSA_NSID_NOT_ASSIGNED) says that there is none.
    Ok(answer.attributes.iter().find_map(|a| match a {
        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_read_with_its_counters_and_is_no_veth() {
        // Something is counted there at once.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .send_to(&[0; 100], socket.local_addr().unwrap())
            .unwrap();
        let all = devices(&mut Netlink::open().unwrap()).unwrap();
        let lo = all.iter().find(|d| d.name == "lo").unwrap();
        assert_eq!((lo.ifindex, lo.veth, lo.nsid), (1, false, None));
        assert!(lo.counters.rx_packets > 0 && lo.counters.rx_bytes >= 100);
    }

    #[test]
    fn a_namespace_has_no_number_for_itself_unless_one_was_given() {
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let fd = std::os::fd::AsFd::as_fd(&here);
        let mut netlink = Netlink::open().unwrap();
        let first = nsid_of(&mut netlink, fd).unwrap();
        assert_eq!(nsid_of(&mut netlink, fd).unwrap(), first);
    }
}
