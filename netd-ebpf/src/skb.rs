//! The one place that touches an skb: reading, writing and the helpers that take one.

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM,
    bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_check_mtu_flags::BPF_MTU_CHK_SEGS,
};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_check_mtu, bpf_clone_redirect, bpf_redirect, bpf_redirect_peer, bpf_skb_adjust_room,
    bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_load_bytes, bpf_skb_pull_data,
    bpf_skb_store_bytes,
};
use netd_common::reason::{DropReason, Hook, REASONS};
use netd_common::trace::Point;
use netd_common::wire::Window;

use crate::trace::{trace, tracing};
use crate::watch::goes;

/// `pkt_type` of a frame that is for this host.
const PACKET_HOST: u32 = 0;

/// Headers end well below this offset; it bounds what the verifier has to believe.
const MAX_OFFSET: usize = 0x3fff;

/// An skb a TC program was called with.
#[derive(Clone, Copy)]
pub struct Skb {
    raw: *mut __sk_buff,
}

macro_rules! field {
    ($(#[$doc:meta])* $name:ident) => {
        field!($(#[$doc])* $name, $name);
    };
    ($(#[$doc:meta])* $name:ident, $field:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(self) -> u32 {
            // Volatile: LLVM must not fold this load with another into one from a computed pointer,
            // which the verifier refuses for a context.
            // SAFETY: `raw` is the context the kernel called the program with.
            unsafe { core::ptr::read_volatile(&raw const (*self.raw).$field) }
        }
    };
}

impl Skb {
    /// Wraps the context of a TC program.
    #[inline(always)]
    pub const fn new(raw: *mut __sk_buff) -> Self {
        Self { raw }
    }

    /// The context pointer, for helpers.
    #[inline(always)]
    pub const fn raw(self) -> *mut __sk_buff {
        self.raw
    }

    field!(
        /// ifindex of the device the program is hooked on.
        ifindex
    );
    field!(
        /// The packet's mark.
        mark
    );
    field!(
        /// How the link layer saw the destination: 0 is "this host".
        pkt_type
    );
    field!(
        /// Length of the whole packet.
        bytes,
        len
    );
    field!(
        /// Address of the first byte.
        data
    );
    field!(
        /// Address behind the last byte that lies in one piece.
        data_end
    );
    field!(
        /// 1: the frame carried a VLAN tag, which the kernel has moved out of its bytes.
        vlan_present
    );
    field!(
        /// That tag: priority and VLAN id.
        vlan_tci
    );
    field!(
        /// Its EtherType, in network order.
        vlan_proto
    );
    field!(
        /// Payload bytes of a segment; 0: not a GSO packet.
        gso_size
    );

    /// VLAN id of the tag; 0 is no VLAN but a priority (IEEE 802.1Q section 9.6): a receiver takes the
    /// frame as if it had no tag.
    #[inline(always)]
    pub fn vlan_id(self) -> u32 {
        self.vlan_tci() & 0xfff
    }

    /// Sets the packet's mark.
    #[inline(always)]
    pub fn set_mark(self, mark: u32) {
        // SAFETY: as in `field!`; TC programs may write `mark`.
        unsafe { core::ptr::write_volatile(&raw mut (*self.raw).mark, mark) }
    }

    /// Notes which hook the packet is at, for the program that goes on with it.
    #[inline(always)]
    pub fn set_hook(self, hook: Hook) {
        // SAFETY: as in `field!`; TC programs may write `cb`, their own scratch.
        unsafe { core::ptr::write_volatile(&raw mut (*self.raw).cb[0], hook as u32) };
        self.set_first(false);
    }

    /// The hook the packet is at, in a program that goes on with it.
    #[inline(always)]
    pub fn hook(self) -> u32 {
        // SAFETY: as in `field!`.
        unsafe { core::ptr::read_volatile(&raw const (*self.raw).cb[0]) }
    }

    /// Notes whether the packet is the first fragment of a datagram, which others follow.
    #[inline(always)]
    pub fn set_first(self, first: bool) {
        // SAFETY: as in `set_hook`.
        unsafe { core::ptr::write_volatile(&raw mut (*self.raw).cb[2], u32::from(first)) }
    }

    /// Whether it is, in a program that goes on with it.
    #[inline(always)]
    pub fn is_first(self) -> bool {
        // SAFETY: as in `field!`.
        unsafe { core::ptr::read_volatile(&raw const (*self.raw).cb[2]) == 1 }
    }

    /// Notes that the packet is a fragment that has followed its first one, and is not noted there yet.
    #[inline(always)]
    pub fn set_later(self) {
        // SAFETY: as in `set_hook`.
        unsafe { core::ptr::write_volatile(&raw mut (*self.raw).cb[2], 2) }
    }

    /// Whether it is, in a program that goes on with it.
    #[inline(always)]
    pub fn is_later(self) -> bool {
        // SAFETY: as in `field!`.
        unsafe { core::ptr::read_volatile(&raw const (*self.raw).cb[2]) == 2 }
    }

    /// Notes the TC action that has been decided.
    #[inline(always)]
    pub fn set_action(self, action: i32) {
        // SAFETY: as in `set_hook`.
        unsafe { core::ptr::write_volatile(&raw mut (*self.raw).cb[3], action.cast_unsigned()) }
    }

    /// That action.
    #[inline(always)]
    pub fn action(self) -> i32 {
        // SAFETY: as in `field!`.
        unsafe { core::ptr::read_volatile(&raw const (*self.raw).cb[3]).cast_signed() }
    }

    /// Notes where a watched packet is noted; the programs that go on with it find it there.
    #[inline(always)]
    pub fn set_place(self, place: u32) {
        // SAFETY: as in `set_hook`.
        unsafe { core::ptr::write_volatile(&raw mut (*self.raw).cb[4], place) }
    }

    /// Where it is noted.
    #[inline(always)]
    pub fn place(self) -> u32 {
        // SAFETY: as in `field!`.
        unsafe { core::ptr::read_volatile(&raw const (*self.raw).cb[4]) }
    }

    /// Notes why the packet is dropped, for the program that tells its sender.
    #[inline(always)]
    pub fn set_reason(self, code: u8) {
        // SAFETY: as in `set_hook`.
        unsafe { core::ptr::write_volatile(&raw mut (*self.raw).cb[1], u32::from(code)) }
    }

    /// The code of the reason that [`Self::set_reason`] has noted.
    #[inline(always)]
    pub fn reason(self) -> u8 {
        // SAFETY: as in `field!`.
        let code = unsafe { core::ptr::read_volatile(&raw const (*self.raw).cb[1]) };
        (code & (REASONS - 1)) as u8
    }

    /// Whether the link layer addressed the frame to this host.
    #[inline(always)]
    pub fn is_for_host(self) -> bool {
        self.pkt_type() == PACKET_HOST
    }

    /// Writes `bytes` at `off`. The checksums of the packet are the caller's business.
    #[inline(always)]
    pub fn store<const N: usize>(self, off: usize, bytes: &[u8; N]) -> Result<(), DropReason> {
        self.store_with(off, bytes, 0)
    }

    /// The same with flags of the helper.
    #[inline(always)]
    pub fn store_with<const N: usize>(
        self,
        off: usize,
        bytes: &[u8; N],
        flags: u64,
    ) -> Result<(), DropReason> {
        // SAFETY: `raw` is the context, `bytes` has N readable bytes.
        let rc = unsafe {
            bpf_skb_store_bytes(
                self.raw,
                off as u32,
                bytes.as_ptr().cast::<c_void>(),
                N as u32,
                flags,
            )
        };
        if rc == 0 {
            Ok(())
        } else {
            Err(DropReason::Helper)
        }
    }

    /// Makes sure that the first `need` bytes, if there are that many, lie in one piece, where [`Window`]
    /// can read them. Headers nearly always do; a packet built of page fragments may need the pull.
    #[inline(always)]
    pub fn pull(self, need: u32) {
        /// Once it has to be done: headers with options and extensions as well.
        const ENOUGH: u32 = 192;
        let linear = self.data_end() - self.data();
        if linear < need && linear < self.bytes() {
            let want = if self.bytes() < ENOUGH {
                self.bytes()
            } else {
                ENOUGH
            };
            // SAFETY: `raw` is the context. If it fails, a parser finds the packet truncated.
            unsafe { bpf_skb_pull_data(self.raw, want) };
        }
    }

    /// Reads `len` bytes at `off` into `to`, which has room for them.
    #[inline(always)]
    pub fn read(self, off: usize, to: *mut u8, len: usize) -> bool {
        // SAFETY: `raw` is the context; the room is the caller's word, which the verifier checks.
        unsafe {
            bpf_skb_load_bytes(self.raw.cast(), off as u32, to.cast::<c_void>(), len as u32) == 0
        }
    }

    /// Writes `len` bytes from `from` at `off`, behind the Ethernet header, as bytes the packet did not have: a
    /// sum that a device has made of all of it changes with them.
    #[inline(always)]
    pub fn write(self, off: usize, from: *const u8, len: usize) -> bool {
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        // SAFETY: as above.
        unsafe {
            bpf_skb_store_bytes(
                self.raw,
                off as u32,
                from.cast::<c_void>(),
                len as u32,
                flags,
            ) == 0
        }
    }

    /// The same with an array.
    #[inline(always)]
    pub fn put<const N: usize>(self, off: usize, bytes: &[u8; N]) -> Result<(), DropReason> {
        if self.write(off, bytes.as_ptr(), N) {
            Ok(())
        } else {
            Err(DropReason::Helper)
        }
    }

    /// Makes the packet `len` bytes long, and one packet if it was many segments.
    #[inline(always)]
    pub fn reduce(self, len: usize) -> bool {
        // SAFETY: `raw` is the context.
        unsafe { bpf_skb_change_tail(self.raw, len as u32, 0) == 0 }
    }

    /// Moves what is behind the Ethernet header: `by` bytes are cut off there, or, if it is more than 0, made.
    #[inline(always)]
    pub fn shift(self, by: i32) -> bool {
        // SAFETY: `raw` is the context.
        unsafe { bpf_skb_adjust_room(self.raw, by, BPF_ADJ_ROOM_MAC, 0) == 0 }
    }

    /// Makes each of many segments of TCP `by` bytes smaller, at most [`Self::STEP`]; nothing else changes. The kernel
    /// takes room that is made from the segments, and does not give it back if it is told not to.
    #[inline(always)]
    pub fn less(self, by: i32) -> bool {
        let keep = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
        // SAFETY: `raw` is the context.
        self.shift(by) && unsafe { bpf_skb_adjust_room(self.raw, -by, BPF_ADJ_ROOM_MAC, keep) == 0 }
    }

    /// Bytes by which the kernel moves at most.
    pub const STEP: u32 = 0xfff;

    /// The MTU of a device if that is too small for the packet, or for its segments; 0: it is large enough.
    #[inline(always)]
    pub fn too_big_for(self, device: u32) -> u32 {
        let mut mtu = 0u32;
        let flags = if self.gso_size() == 0 {
            0
        } else {
            u64::from(BPF_MTU_CHK_SEGS)
        };
        // SAFETY: `raw` is the context, `mtu` a number to be written.
        let rc = unsafe { bpf_check_mtu(self.raw.cast(), device, &raw mut mtu, 0, flags) };
        if rc > 0 { mtu } else { 0 }
    }

    /// The same, if it is not that long.
    #[inline(always)]
    pub fn resize(self, len: usize) -> Result<(), DropReason> {
        if self.len() == len {
            return Ok(());
        }
        if self.reduce(len) {
            Ok(())
        } else {
            Err(DropReason::Helper)
        }
    }

    /// Lets the other end of a veth, in another namespace, receive the packet at once. Only from
    /// ingress hooks.
    #[inline(always)]
    pub fn peer(self, device: u32) -> i32 {
        goes(Point::Peer, device);
        if self.pkt_type() != PACKET_HOST {
            // The frame was addressed to the peer, not to the device it came in on; before Linux 6.15
            // `bpf_redirect_peer` leaves PACKET_OTHERHOST in place and IP drops it.
            // SAFETY: plain helper calls.
            unsafe { bpf_skb_change_type(self.raw, PACKET_HOST) };
        }
        // SAFETY: a plain helper call.
        unsafe { bpf_redirect_peer(device, 0) as i32 }
    }

    /// Sends a copy out of a device. Not while the packet is only traced: this helper sends for good.
    #[inline(always)]
    pub fn copy_out(self, device: u32) {
        if tracing() {
            trace(Point::Copy, device, 0);
            return;
        }
        // SAFETY: `raw` is the context. A copy that cannot be made is lost, as on a full queue.
        unsafe { bpf_clone_redirect(self.raw, device, 0) };
    }

    /// Lets the node's stack receive a copy from a device; not while the packet is only traced.
    #[inline(always)]
    pub fn copy_receive(self, device: u32) {
        if tracing() {
            trace(Point::Copy, device, 1);
            return;
        }
        // SAFETY: as above.
        unsafe { bpf_clone_redirect(self.raw, device, u64::from(BPF_F_INGRESS)) };
    }
}

/// Sends the packet out of a device.
#[inline(always)]
pub fn send(device: u32) -> i32 {
    goes(Point::Send, device);
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(device, 0) as i32 }
}

/// Lets the node's stack receive the packet from a device. Its destination MAC must be the device's.
#[inline(always)]
pub fn receive(device: u32) -> i32 {
    goes(Point::Receive, device);
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(device, u64::from(BPF_F_INGRESS)) as i32 }
}

impl Window for Skb {
    #[inline(always)]
    fn load<const N: usize>(&self, off: usize) -> Option<[u8; N]> {
        if off > MAX_OFFSET {
            return None;
        }
        let (data, end) = (self.data() as usize, self.data_end() as usize);
        let at = data + off;
        if at + N <= end {
            // SAFETY: the N bytes at `at` lie between `data` and `data_end`.
            return Some(unsafe { (at as *const [u8; N]).read_unaligned() });
        }
        None
    }

    #[inline(always)]
    fn len(&self) -> usize {
        Skb::bytes(*self) as usize
    }
}
