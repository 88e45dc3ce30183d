//! Group addresses that are for bridges (IEEE 802.1Q table 8-1).

use super::Window;
use super::eth::{ETH_LEN, Eth};
use crate::addr::Mac;

/// Where bridges send their spanning tree messages.
pub const BRIDGES: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];

/// Whether a frame to this group must not leave the link it was sent on: `01:80:c2:00:00:01` to
/// `0f` (pause frames, LACP, 802.1X, LLDP). `00` is not among them: a bridge that has no spanning
/// tree of its own is a wire to those that have (Linux: `br_handle_frame`).
#[inline(always)]
pub const fn stays_on_its_link(dst: Mac) -> bool {
    let [0x01, 0x80, 0xc2, 0, 0, last] = dst else {
        return false;
    };
    matches!(last, 0x01..=0x0f)
}

/// Whether a frame is a spanning tree message: to [`BRIDGES`], a length instead of an `EtherType`, and
/// LLC of the spanning tree (0x42, unnumbered; IEEE 802.1D section 9.2).
#[inline(always)]
pub fn is_spanning_tree<W: Window + ?Sized>(w: &W, eth: &Eth) -> bool {
    eth.dst == BRIDGES && eth.ethertype <= 1500 && w.load::<3>(ETH_LEN) == Some([0x42, 0x42, 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(last: u8) -> Mac {
        [0x01, 0x80, 0xc2, 0, 0, last]
    }

    #[test]
    fn fifteen_groups_stay_on_their_link() {
        let stay = (0..=255).filter(|n| stays_on_its_link(group(*n)));
        assert_eq!(stay.collect::<Vec<_>>(), (1..=15).collect::<Vec<_>>());
        for at in 0..5 {
            let mut other = group(3);
            other[at] ^= 4;
            assert!(!stays_on_its_link(other), "{other:02x?}");
        }
    }

    #[test]
    fn spanning_tree_is_told_from_what_pretends_to_be() {
        let frame = |dst: Mac, kind: u16, llc: [u8; 3]| {
            let eth = Eth {
                dst,
                src: [2, 0, 0, 0, 0, 1],
                ethertype: kind,
            };
            [&eth.bytes()[..], &llc, &[0; 40]].concat()
        };
        let is = |f: &[u8]| is_spanning_tree(f, &Eth::parse(f).unwrap());
        assert!(is(&frame(BRIDGES, 38, [0x42, 0x42, 3])));
        assert!(is(&frame(BRIDGES, 1500, [0x42, 0x42, 3])));
        assert!(!is(&frame(BRIDGES, 1501, [0x42, 0x42, 3])));
        assert!(!is(&frame(group(1), 38, [0x42, 0x42, 3])));
        assert!(!is(&frame(BRIDGES, 38, [0xaa, 0xaa, 3])));
        assert!(!is(&frame(BRIDGES, 38, [0x42, 0x42, 0])));
        assert!(!is(&frame(BRIDGES, 38, [0x42, 0x42, 3])[..16]));
    }
}
