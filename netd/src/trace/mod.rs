//! What becomes of a packet, in words. Pure: frames, notes and names in, text out.
//!
//! | file | owns |
//! |---|---|
//! | `frame` | a packet in words to a frame, and frames to words |
//! | [`names`] | what numbers of the data path are called |
//! | `explain` | notes of the programs to steps, and to one sentence |

mod explain;
mod frame;
pub mod names;

pub use explain::{End, end, steps};
pub use frame::{Ends, build, fixed_mac, summary};
