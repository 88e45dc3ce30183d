//! What the programs tell while somebody watches. While nobody does, `WATCH` is 0 and the verifier, which
//! knows that, takes it all out.

use aya_ebpf::Global;

/// What is told, [`netd_common::maps::watch`]; set by the loader.
#[unsafe(no_mangle)]
static WATCH: Global<u32> = Global::new(0);

/// Whether one of `bits` is told. What it guards costs nothing where it is not.
#[inline(always)]
pub fn on(bits: u32) -> bool {
    WATCH.load() & bits != 0
}
