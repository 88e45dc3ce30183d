//! Mistakes that the programs make when they are asked to: bits of the global `PLANTED` (`u32`, in `.rodata`).
//! Only tests of the fuzzer set one; the verifier takes the others out.

/// Name of the global.
pub const GLOBAL: &str = "PLANTED";
/// A later fragment with IPv4 options may have any source address.
pub const SOURCE: u32 = 1;
/// What comes from outside for an endpoint and cannot be read goes to the node's stack, which may route it.
pub const UNREAD: u32 = 1 << 1;
