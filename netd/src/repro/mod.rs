//! One packet with all that decided about it, as text: what `netd repro` writes and a test on another host
//! runs again. Pure: rows, frames and names in, text out, and back.
//!
//! | file | owns |
//! |---|---|
//! | `case` | a case as a value |
//! | `text` | its text form, one thing on each line |
//! | `pick` | which rows of the maps a packet needs |
//! | `clock` | times in rows, moved to the clock of another host |
//! | `source` | the Rust test around the text |

mod case;
mod clock;
mod pick;
mod source;
mod text;

pub use case::{Case, Device, Message, Run};
pub use clock::Clock;
pub use pick::{gateways, pick, related};
pub use source::source;
