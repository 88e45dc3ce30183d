//! Frames of one's own making, for what no tool sends: spoofed, malformed, unknown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail};
use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType, PacketBuilder};

/// A MAC address.
pub type Mac = [u8; 6];

/// Everybody.
pub const BROADCAST: Mac = [0xff; 6];

/// Reads `aa:bb:cc:dd:ee:ff`.
pub fn mac(text: &str) -> Result<Mac> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).with_context(|| format!("{text:?} is not a MAC")))
        .collect::<Result<_>>()?;
    bytes
        .try_into()
        .map_err(|_| anyhow::anyhow!("{text:?} is not a MAC"))
}

/// A UDP datagram in an Ethernet frame.
pub fn udp(
    src_mac: Mac,
    dst_mac: Mac,
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    payload: &[u8],
) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(src_mac, dst_mac);
    let ip = match (src.0, dst.0) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(s.octets(), d.octets(), 64),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(s.octets(), d.octets(), 64),
        _ => bail!("{} and {} are not of one family", src.0, dst.0),
    };
    let builder = ip.udp(src.1, dst.1);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload)?;
    Ok(frame)
}

/// The first segment of a TCP connection.
pub fn tcp_syn(
    src_mac: Mac,
    dst_mac: Mac,
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(src_mac, dst_mac);
    let ip = match (src.0, dst.0) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(s.octets(), d.octets(), 64),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(s.octets(), d.octets(), 64),
        _ => bail!("{} and {} are not of one family", src.0, dst.0),
    };
    let mut frame = Vec::new();
    ip.tcp(src.1, dst.1, 1, 1024).syn().write(&mut frame, &[])?;
    Ok(frame)
}

/// A TCP segment that begins nothing: an ACK out of the blue.
pub fn tcp_ack(
    src_mac: Mac,
    dst_mac: Mac,
    src: (Ipv4Addr, u16),
    dst: (Ipv4Addr, u16),
) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(src_mac, dst_mac)
        .ipv4(src.0.octets(), dst.0.octets(), 64)
        .tcp(src.1, dst.1, 1, 1024)
        .ack(1);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[])?;
    Ok(frame)
}

/// An ARP packet: `operation` request or reply, from `sender` to `target`.
pub fn arp(
    src_mac: Mac,
    dst_mac: Mac,
    operation: ArpOperation,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
) -> Result<Vec<u8>> {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: sender.0,
        sender_ipv4: sender.1.octets(),
        target_mac: target.0,
        target_ipv4: target.1.octets(),
    };
    let builder = PacketBuilder::ethernet2(src_mac, dst_mac).arp(packet.into());
    let mut frame = Vec::new();
    builder.write(&mut frame)?;
    Ok(frame)
}

/// An Ethernet frame with any type and payload.
pub fn ethernet(src_mac: Mac, dst_mac: Mac, ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    [
        &dst_mac[..],
        &src_mac[..],
        &ether_type.0.to_be_bytes()[..],
        payload,
    ]
    .concat()
}

/// An ICMPv6 message of neighbour discovery: hop limit 255.
pub fn icmpv6(
    src_mac: Mac,
    dst_mac: Mac,
    (src, dst): (Ipv6Addr, Ipv6Addr),
    kind: u8,
    word: [u8; 4],
    rest: &[u8],
) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(src_mac, dst_mac)
        .ipv6(src.octets(), dst.octets(), 255)
        .icmpv6_raw(kind, 0, word);
    let mut frame = Vec::new();
    builder.write(&mut frame, rest)?;
    Ok(frame)
}

/// An unsolicited neighbour advertisement: `target` is at `mac`.
pub fn advertisement(src_mac: Mac, src: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> Result<Vec<u8>> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let rest = [&target.octets()[..], &[2, 1], &mac].concat();
    icmpv6(
        src_mac,
        ALL_NODES_MAC,
        (src, all_nodes),
        136,
        [0x20, 0, 0, 0],
        &rest,
    )
}

/// A router advertisement.
pub fn router_advertisement(src_mac: Mac, src: Ipv6Addr) -> Result<Vec<u8>> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    icmpv6(
        src_mac,
        ALL_NODES_MAC,
        (src, all_nodes),
        134,
        [64, 0, 7, 8],
        &[0; 8],
    )
}

const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
