//! What the daemon answers when it cannot do what was asked: one line, and whose fault it is.

use netd_api::Problem;

use crate::apply::{ApplyError, Failed};
use crate::model::file::Refused;
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
    /// Of a file: what is wrong with each object.
    pub problems: Vec<Problem>,
}

/// Result of the daemon's services.
pub type Result<T> = std::result::Result<T, ServiceError>;

impl ServiceError {
    fn of(line: impl Into<String>, fault: Option<Fault>) -> Self {
        Self {
            line: line.into(),
            fault,
            problems: vec![],
        }
    }

    /// The node's fault.
    pub fn node(line: impl Into<String>) -> Self {
        Self::of(line, None)
    }

    /// The same, and what went wrong besides.
    #[must_use]
    pub fn and(mut self, besides: &str) -> Self {
        self.line = format!("{}; {besides}", self.line);
        self
    }

    /// A collision with what is there.
    pub fn conflict(line: impl Into<String>) -> Self {
        Self::of(line, Some(Fault::Conflict))
    }

    /// What was asked for makes no sense.
    pub fn bad(line: impl Into<String>) -> Self {
        Self::of(line, Some(Fault::Bad))
    }

    /// What it is about is not there.
    pub fn missing(line: impl Into<String>) -> Self {
        Self::of(line, Some(Fault::Missing))
    }
}

impl From<ModelError> for ServiceError {
    fn from(e: ModelError) -> Self {
        Self::of(e.to_string(), Some(e.fault()))
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
        Self::of(e.to_string(), fault)
    }
}

impl From<Refused> for ServiceError {
    fn from(refused: Refused) -> Self {
        let line = |p: &Problem| format!("{}: {}", p.object, p.error);
        let lines: Vec<String> = refused.problems.iter().map(line).collect();
        Self {
            line: lines.join("; "),
            fault: refused.fault,
            problems: refused.problems,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_besides_does_not_hide_why() {
        let both = ServiceError::conflict("the port is taken").and("the disk is full");
        assert_eq!(both.line, "the port is taken; the disk is full");
        assert_eq!(both.fault, Some(Fault::Conflict));
    }
}
