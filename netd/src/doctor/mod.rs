//! The doctor: what this kernel, machine and configuration offer netd, what is missing, what that costs
//! and how to get it. Changes nothing.
//!
//! | file | owns |
//! |---|---|
//! | [`facts`] | looking at the machine: values, no opinions |
//! | [`managers`] | what networkd and NetworkManager would do to netd's devices |
//! | [`judge`], `uplinks` | from facts to checks: pure |

pub mod facts;
pub mod judge;
pub mod managers;
mod uplinks;

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// netd runs; something could be better, or could not be seen.
    Note,
    /// netd does not run without it.
    Missing,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// How it ended.
    pub result: Verdict,
    /// What was found.
    pub found: String,
    /// What it costs; none: nothing.
    pub cost: Option<String>,
    /// What to do; none: nothing.
    pub remedy: Option<String>,
}
