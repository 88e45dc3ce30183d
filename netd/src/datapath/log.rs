//! Log lines of the programs, decoded by aya-log, as `tracing` events.

use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya_log::EbpfLogger;

use super::error::{Error, Result, chain};

/// The reading end of the programs' log.
pub(super) struct Log(EbpfLogger<Bridge>);

impl Log {
    /// Takes the log's ring buffer out of a loaded object.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self> {
        EbpfLogger::init_with_logger(ebpf, Bridge)
            .map(Self)
            .map_err(|e| Error::Load(format!("program log: {}", chain(&e))))
    }

    /// Readable when there are lines.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Hands all lines on.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

/// From `log`, which aya-log speaks, to `tracing`.
struct Bridge;

impl log::Log for Bridge {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args();
        match record.level() {
            log::Level::Error => tracing::error!(target: "netd::bpf", "{text}"),
            log::Level::Warn => tracing::warn!(target: "netd::bpf", "{text}"),
            log::Level::Info => tracing::info!(target: "netd::bpf", "{text}"),
            log::Level::Debug | log::Level::Trace => tracing::debug!(target: "netd::bpf", "{text}"),
        }
    }

    fn flush(&self) {}
}
