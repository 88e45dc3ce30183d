//! The same traffic over two nodes of the same addresses: kernel bridge, routing and netfilter on one, netd
//! on the other. What each host receives must be the same, save for the differences that [`differences`]
//! names and gives reasons for.
//!
//! | file | owns |
//! |---|---|
//! | `side` | the topology, and both nodes |
//! | `probe` | one crafted packet, and making them from a seed |
//! | `outcome` | what hosts received, in words that are the same on both sides |
//! | [`differences`] | what may differ, and why |
//! | `talks` | conversations of real sockets |

#![expect(
    clippy::missing_panics_doc,
    reason = "what goes wrong here fails a test: by a panic"
)]

pub mod differences;
mod outcome;
mod probe;
mod side;
mod talks;

pub use outcome::Outcome;
pub use probe::{Dest, Kind, Probe};
pub use side::{Side, Sides, Who};
pub use talks::{TALKS, Talk};
