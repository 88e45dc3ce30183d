//! The thread that ends expired flows: often while a flow table is filling up, else every two seconds.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::datapath::Collector;

/// How often a table is walked that has room.
const CALM: Duration = Duration::from_secs(2);
/// The same from half full on, and from four fifths on.
const FILLING: Duration = Duration::from_millis(500);
const NEARLY_FULL: Duration = Duration::from_millis(100);

/// A walk may take this part of the thread's time: a large table of quiet flows is walked less often.
const SHARE: u32 = 10;

/// The thread; it ends when this value is dropped.
pub struct Collecting {
    _end: mpsc::Sender<()>,
}

/// Starts it.
pub fn spawn(mut collector: Collector) -> anyhow::Result<Collecting> {
    let (end, ended) = mpsc::channel();
    let run = move || {
        let mut pause = CALM;
        while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            let began = Instant::now();
            let percent = match collector.collect(false) {
                Ok(done) => {
                    if done.ended > 0 {
                        tracing::debug!("{} flows expired, {} % full", done.ended, done.percent);
                    }
                    done.percent
                }
                Err(e) => {
                    tracing::warn!("{e}");
                    0
                }
            };
            pause = next(percent, began.elapsed());
        }
    };
    std::thread::Builder::new()
        .name("flows".into())
        .spawn(run)
        .context("cannot start a thread")?;
    Ok(Collecting { _end: end })
}

/// How long to wait after a walk that `took` so long and found the fuller table `percent` full.
fn next(percent: u32, took: Duration) -> Duration {
    let wanted = match percent {
        0..50 => CALM,
        50..80 => FILLING,
        _ => NEARLY_FULL,
    };
    wanted.max(took * SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_fills_up_is_walked_more_often_within_limits() {
        let quick = Duration::from_millis(1);
        assert_eq!([0, 49].map(|p| next(p, quick)), [CALM; 2]);
        assert_eq!([50, 79].map(|p| next(p, quick)), [FILLING; 2]);
        assert_eq!([80, 100].map(|p| next(p, quick)), [NEARLY_FULL; 2]);
        let slow = Duration::from_millis(90);
        assert_eq!(next(100, slow), Duration::from_millis(900));
        assert_eq!(next(0, slow), CALM);
    }
}
