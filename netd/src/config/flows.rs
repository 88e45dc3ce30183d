//! `[flows]` of the configuration: how many flows there may be, and how long they live.

use netd_common::flow::{SECOND, Timeouts};
use serde::Deserialize;

use super::{ConfigError, value};

/// The table as it stands in the file; time-outs are seconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Flows {
    entries: Option<u32>,
    per_endpoint: Option<u32>,
    tcp_transitory: Option<u64>,
    tcp_established: Option<u64>,
    tcp_closing: Option<u64>,
    tcp_closed: Option<u64>,
    udp: Option<u64>,
    echo: Option<u64>,
}

/// No time-out is longer: a week.
const LONGEST: u64 = 7 * 24 * 3600;

impl Flows {
    /// Entries of each flow table.
    pub fn entries(&self) -> Result<u32, ConfigError> {
        let n = self.entries.unwrap_or(netd_common::maps::size::FLOW);
        within("flows.entries", n.into(), 1_024, 16_777_216)?;
        Ok(n)
    }

    /// Flows an endpoint may have; none: a share of the table.
    pub fn per_endpoint(&self) -> Result<Option<u32>, ConfigError> {
        if let Some(n) = self.per_endpoint {
            within("flows.per_endpoint", n.into(), 1, 16_777_216)?;
        }
        Ok(self.per_endpoint)
    }

    /// Time-outs. UDP keeps to RFC 4787 REQ-5 and echo to RFC 5508 REQ-2, which are MUSTs; TCP's may be
    /// shorter than RFC 5382 REQ-5 asks for, as many set them.
    pub fn timeouts(&self) -> Result<Timeouts, ConfigError> {
        let usual = Timeouts::DEFAULT;
        let ns = |what, seconds: Option<u64>, usual: u64, least: u64| match seconds {
            None => Ok(usual),
            Some(n) => within(what, n, least, LONGEST).map(|()| n * SECOND),
        };
        Ok(Timeouts {
            tcp_transitory: ns(
                "flows.tcp_transitory",
                self.tcp_transitory,
                usual.tcp_transitory,
                5,
            )?,
            tcp_established: ns(
                "flows.tcp_established",
                self.tcp_established,
                usual.tcp_established,
                60,
            )?,
            tcp_closing: ns("flows.tcp_closing", self.tcp_closing, usual.tcp_closing, 5)?,
            tcp_closed: ns("flows.tcp_closed", self.tcp_closed, usual.tcp_closed, 1)?,
            udp: ns("flows.udp", self.udp, usual.udp, 120)?,
            echo: ns("flows.echo", self.echo, usual.echo, 60)?,
        })
    }
}

fn within(what: &'static str, n: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&n) {
        return Ok(());
    }
    let unit = if what.ends_with("entries") || what.ends_with("per_endpoint") {
        ""
    } else {
        " of seconds"
    };
    let why = format!("it is a number{unit} from {least} to {most}");
    Err(value(what, &n.to_string(), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Flows {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_is_left_out_is_as_usual() {
        let f = read("");
        assert_eq!(f.entries().unwrap(), 262_144);
        assert_eq!(f.per_endpoint().unwrap(), None);
        assert_eq!(f.timeouts().unwrap(), Timeouts::DEFAULT);
    }

    #[test]
    fn each_value_has_its_place() {
        let f = read(
            "entries = 2048\nper_endpoint = 100\ntcp_transitory = 11\ntcp_established = 61\n\
             tcp_closing = 12\ntcp_closed = 1\nudp = 120\necho = 61\n",
        );
        assert_eq!(
            (f.entries().unwrap(), f.per_endpoint().unwrap()),
            (2048, Some(100))
        );
        let wanted = Timeouts {
            tcp_transitory: 11 * SECOND,
            tcp_established: 61 * SECOND,
            tcp_closing: 12 * SECOND,
            tcp_closed: SECOND,
            udp: 120 * SECOND,
            echo: 61 * SECOND,
        };
        assert_eq!(f.timeouts().unwrap(), wanted);
    }

    #[test]
    fn what_is_out_of_range_is_named_with_its_range() {
        let error = |text: &str| {
            let f = read(text);
            let outcome = f.entries().and(f.per_endpoint()).map(drop);
            outcome.and(f.timeouts().map(drop)).unwrap_err().to_string()
        };
        for (text, parts) in [
            ("entries = 1023", ["flows.entries", "from 1024 to 16777216"]),
            ("entries = 16777217", ["flows.entries", "\"16777217\""]),
            ("per_endpoint = 0", ["flows.per_endpoint", "number from 1"]),
            (
                "tcp_transitory = 4",
                ["flows.tcp_transitory", "from 5 to 604800"],
            ),
            ("tcp_established = 59", ["flows.tcp_established", "from 60"]),
            ("tcp_closing = 4", ["flows.tcp_closing", "from 5"]),
            ("tcp_closed = 0", ["flows.tcp_closed", "of seconds from 1 "]),
            ("udp = 119", ["flows.udp", "of seconds from 120 to 604800"]),
            ("udp = 604801", ["flows.udp", "\"604801\""]),
            ("echo = 59", ["flows.echo", "of seconds from 60 to 604800"]),
        ] {
            let e = error(text);
            assert!(
                parts.iter().all(|p| e.contains(p)) && !e.contains('\n'),
                "{text}: {e}"
            );
        }
    }
}
