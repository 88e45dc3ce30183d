//! Programs in which others go on, by a tail call.

use crate::addr::Addr;
use crate::wire::{L4, icmp_error};

macro_rules! stages {
    ($($(#[$doc:meta])* $variant:ident = $slot:literal, $program:literal;)+) => {
        /// A program that no hook calls: another one goes on in it, with the packet as it has read and left
        /// it. It has a stack and a verifier's budget of its own, so what few packets need is kept out of
        /// the program that all of them meet.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Stage {
            $($(#[$doc])* $variant = $slot,)+
        }

        impl Stage {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Name of the program.
            pub const fn program(self) -> &'static str {
                match self {
                    $(Self::$variant => $program,)+
                }
            }
        }
    };
}

stages! {
    /// From [`crate::reason::Hook::EpOut`]: for the gateway, and of no flow netd knows.
    EpNew = 0, "netd_ep_new";
    /// From [`crate::reason::Hook::UpIn`]: of no flow netd knows.
    UpNew = 1, "netd_up_new";
    /// From [`crate::reason::Hook::UpOut`]: of no flow netd knows.
    UpOwn = 2, "netd_up_own";
    /// From [`crate::reason::Hook::EpOut`]: a fragment for the gateway.
    EpFrag = 3, "netd_ep_frag";
    /// From [`crate::reason::Hook::UpIn`]: a fragment.
    UpFrag = 4, "netd_up_frag";
    /// From [`crate::reason::Hook::UpOut`]: a fragment.
    OwnFrag = 5, "netd_own_frag";
    /// From any of these, with a first fragment that is about to go: the others of its datagram follow it.
    First = 6, "netd_frag_first";
    /// From the hooks of the first three: an ICMP error, which belongs to the flow of the packet it quotes.
    Icmp = 7, "netd_icmp";
    /// From [`crate::reason::Hook::EpOut`] and [`crate::reason::Hook::UpIn`]: a packet that is dropped, of which its
    /// sender may be told.
    Answer = 8, "netd_answer";
    /// From [`crate::reason::Hook::EpOut`]: for a floating address, and of no flow.
    EpFloat = 9, "netd_ep_float";
    /// From [`crate::reason::Hook::UpIn`]: for a floating address, and of no flow, or asking who has one.
    UpFloat = 10, "netd_up_float";
    /// From [`crate::reason::Hook::UpOut`]: the same.
    OwnFloat = 11, "netd_own_float";
    /// From [`crate::reason::Hook::EpOut`]: an IPv4 packet that is too big for its exit and may be cut.
    Split = 12, "netd_split";
}

/// Where a packet goes on that is of no flow: `stage`, unless it is an ICMP error, which may be about one.
#[inline(always)]
pub const fn without_flow<A: Addr>(l4: L4, stage: Stage) -> Stage {
    if icmp_error::of::<A>(l4) {
        Stage::Icmp
    } else {
        stage
    }
}

/// Slots of the map that holds them.
pub const SLOTS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_a_slot_and_a_program_of_its_own() {
        for (i, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(*stage as usize, i);
            assert!((*stage as u32) < SLOTS);
            let same = |other: &&Stage| other.program() == stage.program();
            assert_eq!(Stage::ALL.iter().filter(same).count(), 1);
            assert!(stage.program().len() <= 15, "the kernel cuts longer names");
        }
    }
}
