//! Runs plans: every step on the node, what it did into the actual state, and the way back.

mod effect;
#[cfg(test)]
mod exhaustive;
mod node;
mod settle;

pub use effect::Outcome;
pub use node::Node;
pub use settle::{Executor, Failed, Mode, settle};

use crate::{datapath, net};

/// Why a step failed: one line each.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel's network refused.
    #[error("{0}")]
    Net(#[from] net::NetError),
    /// The data path refused.
    #[error("{0}")]
    Datapath(#[from] datapath::Error),
    /// The target is not the namespace it was.
    #[error("target {0} is another namespace now; detach the endpoint and attach it again")]
    Moved(String),
}
