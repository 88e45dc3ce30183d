//! What netd's eBPF programs and its user space share: every type that crosses a map, and every
//! decision that needs only bytes and values.
//!
//! The crate is `no_std`, allocates nothing and knows neither aya nor the kernel: the very same
//! code is unit-tested on the host and runs inside the kernel. It must not depend on `aya-ebpf`.
//!
//! | module | owns |
//! |---|---|
//! | [`addr`] | MAC and IP addresses, prefixes, big-endian ports |
//! | [`answer`] | what a router tells the sender of a packet it could not pass on |
//! | [`maps`] | keys and values of the BPF maps (the binary contract) |
//! | [`reason`] | hooks and drop reasons |
//! | [`wire`] | bytes -> checked headers |
//! | [`checksum`] | one's complement updates (RFC 1624) |
//! | [`mod@tuple`] | flow keys and their reversal |
//! | [`nat`] | port choice and the rewrite plan |
//! | [`flow`] | flow life: TCP state, time-outs, expiry |
//! | [`tcp`] | what a direction has said, and which resets are believed |
//! | [`mapping`] | mapping life: references, quarantine, filters |
//! | [`guard`] | what an endpoint may send |
//! | [`planted`] | mistakes that the fuzzer must find |
//! | [`publish`] | which packets may be for a published port |
//! | [`learn`] | MACs beyond its own behind a switch port |
//! | [`split`] | cutting IPv4 packets to fragments |
//! | [`stage`] | programs in which others go on |
//! | [`storm`] | how much a switch port may have flooded |
//! | [`trace`] | what the programs note while a packet is traced |
//! | [`sock`] | calls of the node's own processes to published ports, and refused binds |
#![cfg_attr(not(test), no_std)]
#![deny(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]
#![cfg_attr(
    test,
    expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )
)]

pub mod addr;
pub mod answer;
pub mod checksum;
pub mod flow;
pub mod guard;
pub mod learn;
pub mod mapping;
pub mod maps;
pub mod nat;
pub mod planted;
pub mod publish;
pub mod reason;
pub mod sock;
pub mod split;
pub mod stage;
pub mod storm;
pub mod tcp;
pub mod trace;
pub mod tuple;
pub mod wire;
