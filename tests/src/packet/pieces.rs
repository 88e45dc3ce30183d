//! Datagrams in fragments: cutting one up, and putting what came out together again. Owes nothing to netd.

use etherparse::{Ipv4HeaderSlice, checksum};

use super::frame::Packet;
use super::hosts::Family;

/// Bytes of an Ethernet header, and of the headers behind it.
const ETH: usize = 14;
const V4: usize = 20;
const V6: usize = 40;
const HEADER: usize = 8;

impl Packet {
    /// The packet, without options or extension headers, as fragments of at most `size` bytes of payload (a
    /// multiple of eight) with this identification.
    pub fn pieces(&self, id: u32, size: usize) -> Vec<Vec<u8>> {
        cut(&self.bytes(), id, size)
    }

    /// One fragment with any offset (bytes) and flag; `part`: its payload.
    pub fn piece(&self, id: u32, offset: usize, more: bool, part: &[u8]) -> Vec<u8> {
        let whole = self.bytes();
        piece(&whole[..ETH + self.header()], id, offset, more, part)
    }

    /// What is behind its IP header.
    pub fn content(&self) -> Vec<u8> {
        self.bytes().split_off(ETH + self.header())
    }

    fn header(&self) -> usize {
        match self.family() {
            Family::V4 => V4,
            Family::V6 => V6,
        }
    }
}

/// A frame without IPv4 options or extension headers as fragments of at most `size` bytes of payload (a
/// multiple of eight) with this identification.
#[track_caller]
pub fn cut(whole: &[u8], id: u32, size: usize) -> Vec<Vec<u8>> {
    assert!(size.is_multiple_of(8), "no fragment but the last");
    let header = if whole[12..14] == [8, 0] { V4 } else { V6 };
    let (head, body) = whole.split_at(ETH + header);
    let last = body.len().div_ceil(size) - 1;
    let cut = |(n, part): (usize, &[u8])| piece(head, id, n * size, n < last, part);
    body.chunks(size).enumerate().map(cut).collect()
}

fn piece(head: &[u8], id: u32, offset: usize, more: bool, part: &[u8]) -> Vec<u8> {
    let mut head = head.to_vec();
    let mut between = Vec::new();
    if head[12..14] == [8, 0] {
        head[16..18].copy_from_slice(&((V4 + part.len()) as u16).to_be_bytes());
        head[18..20].copy_from_slice(&(id as u16).to_be_bytes());
        let word = (offset / 8) as u16 | u16::from(more) << 13;
        head[20..22].copy_from_slice(&word.to_be_bytes());
        sum_header(&mut head);
    } else {
        head[18..20].copy_from_slice(&((HEADER + part.len()) as u16).to_be_bytes());
        between.extend([head[20], 0]);
        between.extend((offset as u16 | u16::from(more)).to_be_bytes());
        between.extend(id.to_be_bytes());
        head[20] = 44;
    }
    [head, between, part.to_vec()].concat()
}

fn sum_header(frame: &mut [u8]) {
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = checksum::Sum16BitWords::new().add_slice(&frame[ETH..ETH + V4]);
    frame[24..26].copy_from_slice(&sum.ones_complement().to_ne_bytes());
}

/// The identification of a fragment, and whether its header is right.
#[track_caller]
pub fn id_of(frame: &[u8]) -> u32 {
    if frame[12..14] == [8, 0] {
        let ip = Ipv4HeaderSlice::from_slice(&frame[ETH..]).expect("an IPv4 header");
        let right = ip.to_header().calc_header_checksum();
        assert_eq!(
            ip.header_checksum(),
            right,
            "header checksum of {frame:02x?}"
        );
        u32::from(ip.identification())
    } else {
        assert_eq!(frame[20], 44, "a fragment header in {frame:02x?}");
        u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]])
    }
}

/// Puts a datagram together, as its receiver would, and gives the frame it would have been in one piece:
/// comparable with [`Packet::bytes`]. The fragments may be in any order.
#[track_caller]
pub fn join(frames: &[Vec<u8>]) -> Vec<u8> {
    let v4 = frames[0][12..14] == [8, 0];
    let mut parts = std::collections::BTreeMap::new();
    let mut end = None;
    for frame in frames {
        let like = |range: std::ops::Range<usize>| {
            assert_eq!(frame[range.clone()], frames[0][range], "headers alike");
        };
        like(0..14);
        assert_eq!(id_of(frame), id_of(&frames[0]), "one identification");
        let (offset, more, part) = if v4 {
            like(22..24);
            like(26..34);
            let word = u16::from_be_bytes([frame[20], frame[21]]);
            let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            let offset = usize::from(word & 0x1fff) * 8;
            (offset, word & 0x2000 != 0, &frame[ETH + V4..ETH + total])
        } else {
            like(14..18);
            like(21..55);
            let word = u16::from_be_bytes([frame[56], frame[57]]);
            let length = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
            let end = ETH + V6 + length;
            let part = &frame[ETH + V6 + HEADER..end];
            (usize::from(word & 0xfff8), word & 1 != 0, part)
        };
        let before = parts.insert(offset, part.to_vec());
        assert_eq!(before, None, "no fragment came twice");
        if !more {
            end = Some(offset + part.len());
        }
    }
    let body: Vec<u8> = parts.values().flatten().copied().collect();
    let mut at = 0;
    for (offset, part) in &parts {
        assert_eq!(*offset, at, "no gap");
        at += part.len();
    }
    assert_eq!(Some(body.len()), end, "to the end");
    let mut head = frames[0][..ETH + if v4 { V4 } else { V6 }].to_vec();
    if v4 {
        head[16..18].copy_from_slice(&((V4 + body.len()) as u16).to_be_bytes());
        // As a packet that was never cut.
        head[18..20].copy_from_slice(&0x1234_u16.to_be_bytes());
        head[20..22].copy_from_slice(&0x4000_u16.to_be_bytes());
        sum_header(&mut head);
    } else {
        head[18..20].copy_from_slice(&(body.len() as u16).to_be_bytes());
        head[20] = frames[0][54];
    }
    [head, body].concat()
}
