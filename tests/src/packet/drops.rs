//! Cases that end in a drop. Each is a test of its own and a row of a table, from which a last test
//! reads that no reason is left unproven.

use netd_common::reason::DropReason;

/// One case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DropCase {
    /// The test.
    pub name: &'static str,
    /// What it proves can be produced: the test fails if its packet dies of anything else.
    pub reason: DropReason,
}

/// Declares cases `fn name(world, family) => Reason { .. }`, whose body gives the
/// [`Outcome`](crate::packet::Outcome) of the packet that must die. Each becomes a test that runs it for
/// one family after the other (once, if it takes the world alone), and a row of `$table`.
#[macro_export]
macro_rules! drop_cases {
    ($table:ident: $(
        $(#[$doc:meta])*
        fn $name:ident($world:ident $(, $family:ident)?) => $reason:ident $body:block
    )+) => {
        /// The cases of this file.
        pub const $table: &[$crate::packet::DropCase] = &[$($crate::packet::DropCase {
            name: stringify!($name),
            reason: netd_common::reason::DropReason::$reason,
        },)+];
        $($(#[$doc])*
        #[test]
        fn $name() {
            $crate::drop_case!($world $(, $family)?; $body, $reason);
        })+
    };
}

/// One case of [`drop_cases`].
#[doc(hidden)]
#[macro_export]
macro_rules! drop_case {
    ($world:ident, $family:ident; $body:block, $reason:ident) => {
        $crate::packet::World::run(|$world| {
            for $family in [$crate::packet::Family::V4, $crate::packet::Family::V6] {
                println!("family: {:?}", $family);
                let outcome: $crate::packet::Outcome = $body;
                outcome.dropped(netd_common::reason::DropReason::$reason);
            }
        })
    };
    ($world:ident; $body:block, $reason:ident) => {
        $crate::packet::World::run(|$world| {
            let outcome: $crate::packet::Outcome = $body;
            outcome.dropped(netd_common::reason::DropReason::$reason);
        })
    };
}
