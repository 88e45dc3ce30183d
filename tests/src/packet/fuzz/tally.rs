//! What a run met.

use std::collections::BTreeMap;
use std::fmt;

use netd_common::reason::{DropReason, Hook};

use super::super::run::Action;

/// Hook, verdict, reason.
pub type Met = (Hook, Action, Option<DropReason>);

/// Counts of all cases.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    met: BTreeMap<(Hook, Option<DropReason>, u8), u64>,
    refused: u64,
}

impl Tally {
    /// One more; `None`: the kernel made no packet of it.
    pub fn note(&mut self, met: Option<Met>) {
        match met {
            Some((hook, action, reason)) => {
                let action = match action {
                    Action::Next => 0,
                    Action::Drop => 1,
                    Action::Redirect => 2,
                };
                *self.met.entry((hook, reason, action)).or_default() += 1;
            }
            None => self.refused += 1,
        }
    }

    /// Cases that ran.
    pub fn cases(&self) -> u64 {
        self.met.values().sum()
    }

    /// Bytes of which the kernel made no packet.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Cases that passed at a hook.
    pub fn passed(&self, hook: Hook) -> u64 {
        let at = self
            .met
            .iter()
            .filter(|((h, r, _), _)| *h == hook && r.is_none());
        at.map(|(_, n)| n).sum()
    }

    /// Cases at a hook.
    pub fn at(&self, hook: Hook) -> u64 {
        let at = self.met.iter().filter(|((h, ..), _)| *h == hook);
        at.map(|(_, n)| n).sum()
    }

    /// Whether a packet died of this.
    pub fn has(&self, reason: DropReason) -> bool {
        self.met.keys().any(|(_, r, _)| *r == Some(reason))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} cases ran, {} were no packets",
            self.cases(),
            self.refused
        )?;
        for ((hook, reason, action), n) in &self.met {
            let action = ["next", "drop", "redirect"][usize::from(*action)];
            let reason = reason.map_or("passed", DropReason::name);
            writeln!(f, "  {:<7} {action:<9} {reason:<18} {n:>7}", hook.name())?;
        }
        Ok(())
    }
}
