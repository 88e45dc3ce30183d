//! What a program decided, and how it is counted.

use aya_ebpf::bindings::TC_ACT_SHOT;
use netd_common::maps::{Outcome, Stat};
use netd_common::reason::{DropReason, Hook};
use netd_common::stage::Stage;

use crate::ending;
use crate::maps::STATS;

/// Mark on packets that netd's programs send out of a device, for the program on that device's
/// egress, which takes it off again.
pub const SENT_BY_NETD: u32 = 0x6e64_0001;

/// How a TC program ends: a number of which every bit is defined. Functions that are not inlined return
/// it in place of a `Result<_, DropReason>`, of which some bits are not: the verifier would see there
/// whatever the register held before, a pointer for instance.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Verdict(u64);

impl Verdict {
    /// Not netd's, or done: on to the next program and the stack.
    pub const NEXT: Self = Self(1 << 32);
    /// Copies were sent; the packet itself is over.
    pub const COPIED: Self = Self(2 << 32);
    /// Nobody has decided yet.
    pub const OPEN: Self = Self(4 << 32);
    /// A question that netd answers itself.
    pub const ASKED: Self = Self(5 << 32);
    /// For an address of the node.
    pub const NODE: Self = Self(6 << 32);
    const REDIRECT: u64 = 3 << 32;
    const STAGE: u64 = 7 << 32;
    const KIND: u64 = 0xffff_ffff << 32;

    /// A redirect helper was called; `action` is what it returned.
    #[inline(always)]
    pub const fn redirect(action: i32) -> Self {
        Self(Self::REDIRECT | action.cast_unsigned() as u64)
    }

    /// Another program goes on with the packet.
    #[inline(always)]
    pub const fn stage(stage: Stage) -> Self {
        Self(Self::STAGE | stage as u64)
    }

    /// Its slot; `None`: the packet's way ends here.
    #[inline(always)]
    pub const fn slot(self) -> Option<u32> {
        if self.0 & Self::KIND == Self::STAGE {
            Some(self.0 as u32)
        } else {
            None
        }
    }

    /// The verdict, or the drop.
    #[inline(always)]
    pub fn of(outcome: Result<Self, DropReason>) -> Self {
        match outcome {
            Ok(verdict) => verdict,
            Err(reason) => Self(reason as u64),
        }
    }
}

impl Verdict {
    /// The drop whose reason has this code.
    #[inline(always)]
    pub const fn drop_by(code: u8) -> Self {
        Self(code as u64)
    }

    /// What a redirect helper returned; `None`: none was called.
    #[inline(always)]
    pub const fn sent(self) -> Option<i32> {
        if self.0 & Self::KIND == Self::REDIRECT {
            Some((self.0 as u32).cast_signed())
        } else {
            None
        }
    }

    /// What became of the packet, for a watcher.
    #[inline(always)]
    pub fn outcome(self) -> Outcome {
        match self.0 & Self::KIND {
            0 => Outcome::Dropped,
            Self::REDIRECT => Outcome::Redirected,
            _ if self == Self::COPIED => Outcome::Copied,
            _ => Outcome::Passed,
        }
    }

    /// The code of the drop reason; `None`: not a drop.
    #[inline(always)]
    pub const fn dropped(self) -> Option<u8> {
        if self.0 & Self::KIND == 0 {
            Some(self.0 as u8)
        } else {
            None
        }
    }
}

impl Verdict {
    /// The verdict of a packet that goes on by this TC action.
    #[inline(always)]
    pub const fn acts(action: i32) -> Self {
        if action == NEXT {
            Self::NEXT
        } else {
            Self::redirect(action)
        }
    }

    /// The TC action of a verdict that is none of another program's.
    #[inline(always)]
    pub fn action(self) -> i32 {
        match self.0 & Self::KIND {
            0 => TC_ACT_SHOT,
            Self::REDIRECT => (self.0 as u32).cast_signed(),
            _ if self == Self::COPIED => TC_ACT_SHOT,
            _ => NEXT,
        }
    }
}

/// `TCX_NEXT`, and `TC_ACT_UNSPEC` for clsact: other programs on the hook see the packet as well.
pub const NEXT: i32 = -1;

/// Counts a verdict at a hook and turns it into the TC action.
#[inline(always)]
pub fn finish(hook: Hook, bytes: usize, verdict: Verdict) -> i32 {
    if matches!(hook, Hook::EpOut | Hook::UpIn | Hook::UpOut) {
        // Here, where every way through a program ends: below the search for a port it would be one more
        // thing on its stack, and on each of the ways there.
        let no_room = [
            DropReason::FlowTableFull,
            DropReason::FlowLimit,
            DropReason::NoPortFree,
        ];
        if no_room.iter().any(|r| verdict.0 == *r as u64) {
            ending::make_room();
        }
    }
    let code = verdict.dropped().map_or(0, u32::from);
    count_at(hook.stat(None) + code, bytes);
    verdict.action()
}

/// Counts one packet.
#[inline(always)]
pub fn count(hook: Hook, reason: Option<DropReason>, bytes: usize) {
    count_at(hook.stat(reason), bytes);
}

#[inline(always)]
fn count_at(index: u32, bytes: usize) {
    if let Some(stat) = STATS.get_ptr_mut(index) {
        let stat: *mut Stat = stat;
        // SAFETY: the pointer is to this CPU's value, which only programs on this CPU write.
        unsafe {
            (*stat).packets += 1;
            (*stat).bytes += bytes as u64;
        }
    }
}
