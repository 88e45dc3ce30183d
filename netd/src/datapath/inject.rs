//! Frames that netd itself has to say to a segment: the loaded program is run on them. The copies of a
//! flood are sent for good, the frame itself goes nowhere. No socket, and none of a packet socket's cost:
//! closing one waits for an RCU grace period.

use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunOptions};

use super::error::{Error, Result, chain};
use super::{hooks, load};

/// `sizeof(struct __sk_buff)`, and where its `ifindex` is (`<linux/bpf.h>`).
const SKB: usize = 192;
const IFINDEX: usize = 40;

/// Runs `netd_ep_out` on a frame as if it had come in by a device.
pub(super) fn flood(ebpf: &mut Ebpf, ifindex: u32, frame: &[u8]) -> Result<()> {
    let mut context = [0u8; SKB];
    context[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    let program = load::classifier(ebpf, hooks::EP_OUT.program)?;
    program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        })
        .map(drop)
        .map_err(|e| Error::Inject {
            ifindex,
            why: chain(&e),
        })
}
