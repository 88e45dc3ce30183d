//! Running cases under a budget: how many, from which seed, and what is said of the first that fails.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::{Duration, Instant};

/// How much is run. `NETD_FUZZ_CASES`, `NETD_FUZZ_MINUTES` and `NETD_FUZZ_SEED` change it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Cases; with a time, the least.
    pub cases: u64,
    /// How long cases go on; `None`: until they are all run.
    pub time: Option<Duration>,
    /// Case `n` has the generator of `seed` and `n`: each can be run alone.
    pub seed: u64,
}

/// Seed of the ordinary suite: the same run each time.
const SEED: u64 = 1;

impl Budget {
    /// What the environment asks for, else so many cases from the usual seed.
    ///
    /// # Panics
    /// A variable is no number.
    pub fn of(cases: u64) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            let number = text.parse::<u64>();
            Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
        };
        let minutes = number("NETD_FUZZ_MINUTES").map(|m| Duration::from_secs(60 * m));
        let asked = number("NETD_FUZZ_CASES");
        Self {
            cases: match (asked, minutes) {
                (Some(n), _) => n,
                (None, Some(_)) => 0,
                (None, None) => cases,
            },
            time: minutes,
            seed: number("NETD_FUZZ_SEED").unwrap_or(SEED),
        }
    }

    /// So many cases from the usual seed, whatever the environment says.
    pub const fn fixed(cases: u64) -> Self {
        Self {
            cases,
            time: None,
            seed: SEED,
        }
    }

    /// The numbers of the cases.
    pub fn cases(self) -> impl Iterator<Item = u64> {
        let end = self.time.map(|time| Instant::now() + time);
        let goes_on = move |n: &u64| {
            *n < self.cases
                || end.is_some_and(|end| !n.is_multiple_of(1024) || Instant::now() < end)
        };
        (0..).take_while(goes_on)
    }

    /// The generator of case `n`.
    pub fn rng(self, n: u64) -> fastrand::Rng {
        // One to one, so that no two cases of a seed are the same.
        let mixed = (self.seed << 40 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        fastrand::Rng::with_seed(mixed ^ (mixed >> 29))
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `check`; a panic is a failure like any other, and prints nothing.
pub fn caught(check: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(check));
    QUIET.set(false);
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("without a word")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure() {
        assert_eq!(caught(|| Ok(())), Ok(()));
        assert_eq!(caught(|| Err("no".into())), Err("no".into()));
        assert_eq!(caught(|| panic!("oh")), Err("panicked: oh".into()));
        assert_eq!(caught(|| panic!("{}", 7)), Err("panicked: 7".into()));
    }

    #[test]
    fn cases_are_as_many_as_asked_for_and_all_different() {
        assert_eq!(
            Budget::fixed(5).cases().collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
        let budget = Budget::fixed(1000);
        let mut first: Vec<u64> = budget.cases().map(|n| budget.rng(n).u64(..)).collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 1000);
        let none = Budget {
            time: Some(Duration::ZERO),
            ..Budget::fixed(0)
        };
        assert_eq!(none.cases().count(), 0);
    }
}
