//! What switch ports learn and flood. The programs count in a map of their own, the daemon in
//! another, so that neither overwrites what the other has counted meanwhile.

use bytemuck::{Pod, Zeroable};

use super::FdbKey;

/// Value of `LEARNED`: the switch port a MAC was last heard from. Key: [`FdbKey`]. The programs insert,
/// move and refresh; only the daemon removes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Learned {
    /// ifindex of the endpoint's node-side device in the low half, [`FdbKey::tag`] in the high one: a
    /// compare-and-swap of both moves the MAC, and fails on an element that the kernel has given to
    /// another key meanwhile.
    pub owner: u64,
    /// A frame from this MAC, `bpf_ktime_get_ns`; at most [`crate::learn::refresh_due`] older than the
    /// last one.
    pub last_seen: u64,
}

impl Learned {
    /// The owner field of a key behind a device.
    #[inline(always)]
    pub const fn owned_by(device: u32, key: &FdbKey) -> u64 {
        (key.tag() as u64) << 32 | device as u64
    }

    /// ifindex of the device, if the entry is still this key's.
    #[inline(always)]
    pub const fn device(owner: u64, key: &FdbKey) -> Option<u32> {
        if (owner >> 32) as u32 == key.tag() {
            Some(owner as u32)
        } else {
            None
        }
    }
}

impl FdbKey {
    /// A number that differs, with high odds, between two keys.
    #[inline(always)]
    pub const fn tag(&self) -> u32 {
        let [m0, m1, m2, m3, m4, m5] = self.mac;
        let head = u32::from_be_bytes([m0, m1, m2, m3]);
        let tail = u32::from_be_bytes([0, 0, m4, m5]);
        head.wrapping_mul(0x9e37_79b1).rotate_left(15)
            ^ tail.wrapping_mul(0x85eb_ca6b)
            ^ self.network.wrapping_mul(0xc2b2_ae35).rotate_left(7)
    }
}

/// Value of `METER`: what a switch port has done, for its limits. The programs make and write it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Meter {
    /// MACs that were learned here, ever.
    pub gained: u64,
    /// MACs of them that have moved to another switch port since, ever.
    pub lost: u64,
    /// Flooded frames: [`crate::storm::take`]'s time.
    pub flood: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_owner_is_read_back_under_its_own_key_only(
            device: u32, network: u32, mac: [u8; 6], at in 0usize..6, flip in 1u8..,
        ) {
            let key = FdbKey::new(network, mac);
            let owner = Learned::owned_by(device, &key);
            prop_assert_eq!(Learned::device(owner, &key), Some(device));
            let mut other = mac;
            other[at] ^= flip;
            prop_assert_eq!(Learned::device(owner, &FdbKey::new(network, other)), None);
            let elsewhere = FdbKey::new(network ^ u32::from(flip), mac);
            prop_assert_eq!(Learned::device(owner, &elsewhere), None);
        }
    }
}
