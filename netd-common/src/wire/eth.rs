//! Ethernet II.

use super::Window;
use crate::addr::Mac;
use crate::reason::DropReason;

/// Bytes of an Ethernet header.
pub const ETH_LEN: usize = network_types::eth::EthHdr::LEN;

/// `EtherType`s netd knows, as host-order numbers.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// An Ethernet header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eth {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// `EtherType`, host order.
    pub ethertype: u16,
}

impl Eth {
    /// The header at the start of a frame.
    #[inline(always)]
    pub fn parse<W: Window + ?Sized>(w: &W) -> Result<Self, DropReason> {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] =
            w.load::<ETH_LEN>(0).ok_or(DropReason::Truncated)?;
        Ok(Self {
            dst: [d0, d1, d2, d3, d4, d5],
            src: [s0, s1, s2, s3, s4, s5],
            ethertype: u16::from_be_bytes([t0, t1]),
        })
    }

    /// The header's bytes.
    #[inline(always)]
    pub fn bytes(&self) -> [u8; ETH_LEN] {
        let d = self.dst;
        let s = self.src;
        let t = self.ethertype.to_be_bytes();
        [
            d[0], d[1], d[2], d[3], d[4], d[5], s[0], s[1], s[2], s[3], s[4], s[5], t[0], t[1],
        ]
    }
}
