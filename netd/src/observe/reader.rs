//! The thread that reads the records of the programs, and ends when it is dropped.

use std::io::PipeWriter;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};

use super::hub::Hub;
use super::tell::Clock;
use crate::datapath::Events;

/// Records that are read before it is looked how many were lost meanwhile, and whether this is the end.
const TURN: usize = 4_096;

/// The thread.
pub struct Reader {
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts it.
    pub fn start(mut events: Events, hub: Arc<Hub>) -> anyhow::Result<Self> {
        let (ended, end) = std::io::pipe().context("cannot make a pipe")?;
        let run = move || {
            let mut lost = events.lost();
            loop {
                let clock = clock();
                events.read(TURN, |event, frame| hub.tell(event, frame, clock));
                let now = events.lost();
                if now > lost {
                    hub.lose(now - lost);
                    lost = now;
                }
                let mut fds = [
                    PollFd::new(events.fd(), PollFlags::POLLIN),
                    PollFd::new(ended.as_fd(), PollFlags::POLLIN),
                ];
                let polled = poll(&mut fds, PollTimeout::NONE);
                let over = fds[1].any().unwrap_or(true);
                if over || matches!(polled, Err(e) if e != nix::errno::Errno::EINTR) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("events".into())
            .spawn(run)
            .context("cannot start a thread")?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that reads events has panicked");
        }
    }
}

/// Between the clock of records and the time of day.
fn clock() -> Clock {
    let ns = |id| {
        clock_gettime(id).map_or(0, |t| {
            i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec())
        })
    };
    Clock(ns(ClockId::CLOCK_REALTIME) - ns(ClockId::CLOCK_MONOTONIC))
}
