//! What has changed on the node, and by whom: `GET /v1/events`, a stream of JSON objects, one on each line.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Owner;

/// Query of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventsFrom {
    /// The events after this one, 0: all that are kept; left out: those that come from now on.
    pub since: Option<u64>,
    /// Go on with what comes; else the answer ends with what there is.
    pub wait: bool,
}

impl Default for EventsFrom {
    fn default() -> Self {
        Self {
            since: None,
            wait: true,
        }
    }
}

/// What has happened to an object.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It was made, or is used from now on.
    Created,
    /// It was changed while it is in use.
    Changed,
    /// It was removed and made anew.
    Remade,
    /// It was removed, or is no longer used.
    Removed,
    /// A file or another source has been applied as a whole; its objects have events of their own.
    Applied,
    /// What somebody else had taken away or changed is as it should be again.
    Repaired,
    /// Somebody else has taken it away, and it does not come back by itself.
    Gone,
    /// Something is not as it should be; `netd status` shows it until it is over.
    Problem,
    /// A problem is over.
    Solved,
    /// The daemon began its work: the first event there is.
    Started,
    /// The daemon ends its work, and traffic goes on: the last event there is.
    Stopping,
}

impl EventKind {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Remade => "remade",
            Self::Removed => "removed",
            Self::Applied => "applied",
            Self::Repaired => "repaired",
            Self::Gone => "gone",
            Self::Problem => "problem",
            Self::Solved => "solved",
            Self::Started => "started",
            Self::Stopping => "stopping",
        }
    }
}

/// The process that made a call, as the kernel says of its socket (`SO_PEERCRED`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// User id.
    pub uid: Option<u32>,
    /// Process id; none: it is in a pid namespace that the daemon does not see.
    pub pid: Option<u32>,
    /// Name of its command (`/proc/PID/comm`).
    pub command: Option<String>,
}

/// By whom something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// By netd itself, or it was found so.
    Netd,
    /// By a call of the API.
    Caller(Caller),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Caller(caller) = self else {
            return f.write_str("netd");
        };
        match caller.uid {
            Some(uid) => write!(f, "uid {uid}")?,
            None => f.write_str("uid ?")?,
        }
        if let Some(pid) = caller.pid {
            write!(f, " pid {pid}")?;
        }
        if let Some(command) = &caller.command {
            write!(f, " ({command})")?;
        }
        Ok(())
    }
}

/// Something that has happened. Each change has one event and one line of the daemon's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number, one more than that of the event before; the first of a daemon is 1.
    pub number: u64,
    /// When, in nanoseconds since 1970 by the node's clock.
    pub time_ns: u64,
    /// What.
    #[serde(rename = "event")]
    pub kind: EventKind,
    /// To what: `network web`, `endpoint api`, `publish 8080/tcp`, `floating 192.0.2.9`, `uplink eth0`,
    /// `flows`, `file web`, `node`, `daemon`.
    pub object: String,
    /// Who the object belongs to.
    pub owner: Option<Owner>,
    /// By whom.
    pub by: By,
    /// In words, on one line.
    pub text: String,
}

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EventLine {
    /// An event.
    Event(Event),
    /// Events that are missing here: the reader was too slow, or came too late.
    Lost(LostEvents),
}

/// Events that nobody keeps any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LostEvents {
    /// So many.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_and_say_by_whom() {
        let event = Event {
            number: 7,
            time_ns: 1,
            kind: EventKind::Created,
            object: "network web".into(),
            owner: Some("cli".into()),
            by: By::Caller(Caller {
                uid: Some(0),
                pid: Some(12),
                command: Some("curl".into()),
            }),
            text: "network web created".into(),
        };
        let line = EventLine::Event(event.clone());
        let text = serde_json::to_string(&line).unwrap();
        assert!(
            text.contains(r#""event":"created""#) && text.contains(r#""by":{"caller":{"uid":0"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<EventLine>(&text).unwrap(), line);
        let lost = EventLine::Lost(LostEvents { lost: 3 });
        let text = serde_json::to_string(&lost).unwrap();
        assert_eq!(text, r#"{"lost":3}"#);
        assert_eq!(serde_json::from_str::<EventLine>(&text).unwrap(), lost);
        assert_eq!(event.by.to_string(), "uid 0 pid 12 (curl)");
        assert_eq!(By::Netd.to_string(), "netd");
        assert_eq!(serde_json::to_string(&By::Netd).unwrap(), r#""netd""#);
    }

    #[test]
    fn kinds_have_the_names_of_their_json() {
        for kind in [
            EventKind::Created,
            EventKind::Changed,
            EventKind::Remade,
            EventKind::Removed,
            EventKind::Applied,
            EventKind::Repaired,
            EventKind::Gone,
            EventKind::Problem,
            EventKind::Solved,
            EventKind::Started,
            EventKind::Stopping,
        ] {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json.trim_matches('"'), kind.name());
        }
    }
}
