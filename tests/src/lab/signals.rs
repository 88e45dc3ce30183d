//! SIGINT, SIGTERM and SIGHUP remove the labs of this process before it ends.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::cleanup;
use super::names::LabId;

static LABS: Mutex<Vec<LabId>> = Mutex::new(Vec::new());
static PIPE: AtomicI32 = AtomicI32::new(-1);
static ONCE: Once = Once::new();

/// Has a lab removed if a signal ends this process.
pub fn watch(id: &LabId) -> Result<()> {
    let mut installed = Ok(());
    ONCE.call_once(|| installed = install());
    installed?;
    LABS.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(id.clone());
    Ok(())
}

/// The lab is gone, or is to stay.
pub fn forget(id: &LabId) {
    LABS.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|l| l != id);
}

/// Blocks until a signal ends the process: the labs are removed then.
pub fn wait_forever() -> ! {
    loop {
        thread::park();
    }
}

extern "C" fn handler(signal: libc::c_int) {
    let byte = signal.to_ne_bytes()[0]; // a signal's number is below 65
    // SAFETY: write(2) of one byte: async-signal-safe. The descriptor is open for ever.
    unsafe { libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
}

fn install() -> Result<()> {
    let (mut read, write) = UnixStream::pair().context("cannot make a pipe")?;
    // Commands inherit blocked signals but not handlers: so a handler and a pipe, not a mask.
    let write: OwnedFd = write.into();
    PIPE.store(write.as_raw_fd(), Ordering::Relaxed);
    std::mem::forget(write);
    let action = SigAction::new(
        SigHandler::Handler(handler),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only loads an atomic and writes to a pipe.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot catch {signal}"))?;
    }
    thread::spawn(move || {
        let mut byte = [0u8];
        if read.read_exact(&mut byte).is_ok() {
            let labs = std::mem::take(&mut *LABS.lock().unwrap_or_else(PoisonError::into_inner));
            for id in labs {
                if let Err(e) = cleanup::remove(&id) {
                    let _ = writeln!(std::io::stderr(), "netd-lab: {e:#}");
                }
            }
            std::process::exit(128 + i32::from(byte[0]));
        }
    });
    Ok(())
}
