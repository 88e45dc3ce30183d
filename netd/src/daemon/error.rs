//! What the daemon answers when it cannot do what was asked: one line, and whose fault it is.

use crate::apply::{ApplyError, Failed};
use crate::model::{Fault, ModelError};
use crate::net::NetError;
use crate::store::StoreError;

/// An answer that is not "done".
#[derive(Debug, thiserror::Error)]
#[error("{line}")]
pub struct ServiceError {
    /// What was wrong, on one line.
    pub line: String,
    /// Whose fault it is; none: the node's.
    pub fault: Option<Fault>,
}

/// Result of the daemon's services.
pub type Result<T> = std::result::Result<T, ServiceError>;

impl ServiceError {
    /// The node's fault.
    pub fn node(line: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            fault: None,
        }
    }

    /// A collision with what is there.
    pub fn conflict(line: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            fault: Some(Fault::Conflict),
        }
    }
}

impl From<ModelError> for ServiceError {
    fn from(e: ModelError) -> Self {
        Self {
            line: e.to_string(),
            fault: Some(e.fault()),
        }
    }
}

impl From<NetError> for ServiceError {
    fn from(e: NetError) -> Self {
        let fault = match &e {
            NetError::Target { .. } => Some(Fault::Bad),
            NetError::NoTarget { .. } => Some(Fault::Missing),
            NetError::DeviceTaken { .. } => Some(Fault::Conflict),
            NetError::Netlink { .. } | NetError::Io { .. } | NetError::Decode(_) => None,
        };
        Self {
            line: e.to_string(),
            fault,
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(e: StoreError) -> Self {
        Self::node(e.to_string())
    }
}

impl From<crate::datapath::Error> for ServiceError {
    fn from(e: crate::datapath::Error) -> Self {
        Self::node(e.to_string())
    }
}

impl From<Failed> for ServiceError {
    fn from(mut failed: Failed) -> Self {
        match failed.errors.pop() {
            Some(ApplyError::Net(e)) if failed.errors.is_empty() => e.into(),
            Some(last) => {
                failed.errors.push(last);
                Self::node(failed.line())
            }
            None => Self::node("unknown failure"),
        }
    }
}
