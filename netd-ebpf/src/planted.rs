//! Mistakes that are there on purpose: the fuzzer is only believed because it finds them. `PLANTED` is 0 in
//! every load that is hooked, and the verifier, which knows that, takes them out.

use aya_ebpf::Global;

/// Which of [`netd_common::planted`] are there; set by the loader.
#[unsafe(no_mangle)]
static PLANTED: Global<u32> = Global::new(0);

/// Whether a mistake is made.
#[inline(always)]
pub fn is(mistake: u32) -> bool {
    PLANTED.load() & mistake != 0
}
