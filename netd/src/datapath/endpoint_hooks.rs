//! Hooks of endpoint devices. Attaching by TCX waits for an RCU grace period with the RTNL held (10 to
//! 20 ms), by clsact for expedited ones (0.1 ms); but a packet through a clsact filter costs more. So an
//! endpoint begins with clsact and, when the daemon has nothing else to do, what it sends moves on to a
//! TCX link. A program that always decides runs first on the TCX side: there is no moment without, and
//! none with both.

use std::collections::VecDeque;

use aya::Ebpf;

use super::AttachMode;
use super::error::Result;
use super::hooks::{self, EP_IN, EP_OUT};
use super::load::Pins;

/// How endpoint devices are hooked, and which have yet to move.
pub(super) struct EndpointHooks {
    first: AttachMode,
    moves: bool,
    waiting: VecDeque<String>,
}

impl EndpointHooks {
    /// `asked`: what the user wants, else the best of both, where the kernel `has_tcx`.
    pub fn new(asked: Option<AttachMode>, has_tcx: bool) -> Self {
        Self {
            first: asked.unwrap_or(AttachMode::Clsact),
            moves: asked.is_none() && has_tcx,
            waiting: VecDeque::new(),
        }
    }

    /// Hooks both programs on a device. Idempotent.
    pub fn hook(&mut self, ebpf: &mut Ebpf, pins: &Pins, device: &str) -> Result<()> {
        if !self.moves {
            return hooks::tc(ebpf, pins, self.first, device, &[EP_OUT, EP_IN]).map(drop);
        }
        // What has moved stays there.
        if !hooks::adopt(ebpf, pins, device, EP_OUT)? {
            hooks::tc(ebpf, pins, self.first, device, &[EP_OUT])?;
            if !self.waiting.iter().any(|d| d == device) {
                self.waiting.push_back(device.into());
            }
        }
        hooks::tc(ebpf, pins, self.first, device, &[EP_IN]).map(drop)
    }

    /// Whether a device has yet to move.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Moves the device that has waited longest. One that fails keeps its filter.
    pub fn move_one(&mut self, ebpf: &mut Ebpf, pins: &Pins) -> Result<()> {
        match self.waiting.pop_front() {
            Some(device) => hooks::tc(ebpf, pins, AttachMode::Tcx, &device, &[EP_OUT]).map(drop),
            None => Ok(()),
        }
    }

    /// The device goes.
    pub fn forget(&mut self, device: &str) {
        self.waiting.retain(|d| d != device);
    }
}
