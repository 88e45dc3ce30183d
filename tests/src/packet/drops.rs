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

/// Declares cases `fn name(world, family) => Reason { .. }`, whose body gives the [`Outcome`](super::Outcome)
/// of the packet that must die. Each becomes a test that runs it for both families, and a row of `$table`.
#[macro_export]
macro_rules! drop_cases {
    ($table:ident: $($(#[$doc:meta])* fn $name:ident($world:ident, $family:ident) => $reason:ident $body:block)+) => {
        /// The cases of this file.
        pub const $table: &[$crate::packet::DropCase] = &[$($crate::packet::DropCase {
            name: stringify!($name),
            reason: netd_common::reason::DropReason::$reason,
        },)+];
        $($(#[$doc])*
        #[test]
        fn $name() {
            $crate::packet::World::both(|$world, $family| {
                let outcome: $crate::packet::Outcome = $body;
                outcome.dropped(netd_common::reason::DropReason::$reason);
            });
        })+
    };
}
