//! Waiting with a deadline for what announces itself by no event.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything in the lab may take. Generous: emulated machines are slow, and no test passes
/// or fails by time.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Asks `ready` again and again until it has an answer; `what` is named when it never has.
pub fn until<T>(what: &str, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = ready()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("waited {} s in vain for {what}", PATIENCE.as_secs());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
