//! The fuzzer: frames that are valid, frames that were valid until something was changed, and what must
//! hold whatever comes of them. What it knows of headers it knows by itself ([`read`]): a mistake in netd's
//! parsers is not repeated here.
//!
//! | module | owns |
//! |---|---|
//! | [`cast`] | who may be in a frame |
//! | [`build`] | headers and their checksums, as bytes |
//! | [`case`] | one case: a hook, a frame; its text form |
//! | [`generate`] | valid frames |
//! | [`mutate`] | what is changed in them |
//! | [`read`] | headers as this crate reads them |
//! | [`minimise`](mod@minimise) | a failing input made small |
//! | [`corpus`] | inputs that are kept, and where failing ones are written |
//! | [`run`] | running cases under a budget |
//! | [`host`] | the targets that need no kernel |

#![expect(
    clippy::missing_panics_doc,
    reason = "what goes wrong here fails a test: by a panic"
)]

pub mod build;
pub mod case;
pub mod cast;
pub mod corpus;
pub mod generate;
pub mod host;
pub mod minimise;
pub mod mutate;
pub mod read;
pub mod run;
