//! Log lines of the programs, decoded by aya-log, as `tracing` events.

use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya_log::EbpfLogger;
use netd_common::reason::{DropReason, Hook};

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
        let text = named(&record.args().to_string());
        match record.level() {
            log::Level::Error => tracing::error!(target: "netd::bpf", "{text}"),
            log::Level::Warn => tracing::warn!(target: "netd::bpf", "{text}"),
            log::Level::Info => tracing::info!(target: "netd::bpf", "{text}"),
            log::Level::Debug | log::Level::Trace => tracing::debug!(target: "netd::bpf", "{text}"),
        }
    }

    fn flush(&self) {}
}

/// Puts names in the place of the codes of hooks and drop reasons: the programs have no strings for them.
fn named(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let name = |i: usize| -> Option<&'static str> {
        let code = words.get(i)?.parse().ok()?;
        match *words.get(i.checked_sub(1)?)? {
            "hook" => Hook::from_code(code).map(Hook::name),
            "reason" => DropReason::from_code(code).map(DropReason::name),
            _ => None,
        }
    };
    let named: Vec<&str> = words
        .iter()
        .enumerate()
        .map(|(i, w)| name(i).unwrap_or(w))
        .collect();
    named.join(" ")
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn codes_get_their_names() {
        assert_eq!(
            named("drop: hook 0 reason 7"),
            "drop: hook ep_out reason spoofed_ip"
        );
        assert_eq!(named("drop: hook 99 reason 0"), "drop: hook 99 reason 0");
        assert_eq!(named("reason"), "reason");
    }
}
