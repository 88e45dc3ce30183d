//! Bytes -> checked headers. Every parser copies fields out, never panics and never reads outside
//! its [`Window`]; what it refuses comes back as the [`DropReason`] to count.

pub mod arp;
mod eth;
pub mod fragment;
pub mod group;
pub mod icmp_error;
mod ip;
mod l4;
pub mod nd;
pub mod options;

pub use eth::{ETH_LEN, Eth, ethertype};
pub use fragment::Fragment;
pub use ip::{Family, Ip, V4_LEN, V6_LEN, v4_forward, v6_forward};
pub use l4::{L4, Packet, Segment, tcp_flag};

/// Somewhere to read a packet's bytes from: a slice on the host, an skb or an XDP frame in the
/// kernel. Offset 0 is the first byte of the Ethernet header.
pub trait Window {
    /// The `N` bytes at `off`, or `None` where the packet ends before.
    fn load<const N: usize>(&self, off: usize) -> Option<[u8; N]>;
    /// Length of the packet in bytes.
    fn len(&self) -> usize;
    /// Whether the packet has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Window for [u8] {
    fn load<const N: usize>(&self, off: usize) -> Option<[u8; N]> {
        self.get(off..)?.first_chunk::<N>().copied()
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

#[cfg(doc)]
use crate::reason::DropReason;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_where_its_bytes_end() {
        let bytes: &[u8] = &[1, 2, 3];
        assert_eq!(Window::len(bytes), 3);
        assert!(!Window::is_empty(bytes));
        assert!(Window::is_empty(&[][..]));
        assert_eq!(bytes.load::<2>(1), Some([2, 3]));
        assert_eq!(bytes.load::<2>(2), None);
        assert_eq!(bytes.load::<0>(3), Some([]));
        assert_eq!(bytes.load::<1>(9), None);
    }
}
