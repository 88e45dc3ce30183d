//! Signals that `netd run` takes in as events instead of dying of them.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What is passed on to the command.
const FORWARDED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The signals, blocked in this thread since before the fork, so that none is lost in between.
pub struct Blocked {
    signals: SigSet,
    before: SigSet,
}

impl Blocked {
    /// Blocks them.
    pub fn new() -> nix::Result<Self> {
        let mut signals: SigSet = FORWARDED.into_iter().collect();
        signals.add(Signal::SIGCHLD);
        let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { signals, before })
    }

    /// Gives this thread the mask it had: for the command, which inherits it.
    pub fn restore(&self) {
        let _ = self.before.thread_set_mask();
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The child ended, stopped or went on.
    ChildChanged,
    /// To be passed on to the command.
    Forward(Signal),
    /// The terminal sent it to the whole process group: the command has it already.
    Ignore(Signal),
}

/// The blocked signals as a stream of events.
pub struct Signals {
    fd: AsyncFd<SignalFd>,
}

impl Signals {
    /// Must be made inside the runtime.
    pub fn new(blocked: &Blocked) -> io::Result<Self> {
        let fd = SignalFd::with_flags(
            &blocked.signals,
            SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
        )?;
        // SAFETY: the `SignalFd` owns its descriptor, which stays open and the same until it is dropped
        // with the `AsyncFd`; nobody else closes or replaces it.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { fd })
    }

    /// The next event.
    pub async fn next(&self) -> io::Result<Event> {
        loop {
            let mut ready = self.fd.readable().await?;
            match self.fd.get_ref().read_signal()? {
                Some(info) => return event(info.ssi_signo, info.ssi_code),
                None => ready.clear_ready(),
            }
        }
    }
}

fn event(number: u32, code: i32) -> io::Result<Event> {
    let signal = Signal::try_from(number.cast_signed())?;
    Ok(match signal {
        Signal::SIGCHLD => Event::ChildChanged,
        _ if code == libc::SI_KERNEL => Event::Ignore(signal),
        _ => Event::Forward(signal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_passed_on_unless_the_terminal_gave_it_to_the_command_too() {
        let of = |signal: Signal, code| event(signal as u32, code).unwrap();
        assert_eq!(
            of(Signal::SIGTERM, libc::SI_USER),
            Event::Forward(Signal::SIGTERM)
        );
        assert_eq!(
            of(Signal::SIGINT, libc::SI_USER),
            Event::Forward(Signal::SIGINT)
        );
        assert_eq!(
            of(Signal::SIGINT, libc::SI_KERNEL),
            Event::Ignore(Signal::SIGINT)
        );
        assert_eq!(of(Signal::SIGCHLD, libc::SI_KERNEL), Event::ChildChanged);
    }
}
