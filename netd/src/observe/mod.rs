//! What the node tells while it happens: from the records of the programs to the lines of the API. Owns no
//! hook and asks for none; the core decides when the programs tell.
//!
//! | file | owns |
//! |---|---|
//! | [`hub`] | who listens, to what, and what each has missed |
//! | [`names`] | names for the numbers in records |
//! | [`ends`] | who speaks to whom in a frame |
//! | `tell` | a record as a line |
//! | [`reader`] | the thread that reads the records |

pub mod ends;
pub mod hub;
pub mod names;
pub mod reader;
mod tell;
