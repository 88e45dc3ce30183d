//! How a network's masquerade gives out outside ports, and whom it lets in.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Proto;

/// How outside ports are given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// One outside socket for each inside socket, whomever it talks to, and never one for two: what
    /// RFC 4787, RFC 5382 and RFC 5508 want. When ports are gone, new flows are refused.
    Strict,
    /// The same while there is room; then flows to different remote sockets share an outside port.
    #[default]
    Balanced,
}

impl Profile {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Balanced => "balanced",
        }
    }

    /// The filtering of a network that does not say.
    pub const fn filtering(self) -> Filtering {
        match self {
            Self::Strict => Filtering::Address,
            Self::Balanced => Filtering::AddressPort,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// From whom the outside port of an inside socket takes packets (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// From anybody.
    EndpointIndependent,
    /// From addresses the inside socket has talked to.
    Address,
    /// From sockets the inside socket has talked to.
    AddressPort,
}

impl Filtering {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::Address => "address",
            Self::AddressPort => "address-port",
        }
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Outside ports of masquerade, both ends included: written `FIRST-LAST`, also in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MasqueradePorts {
    first: u16,
    last: u16,
}

impl MasqueradePorts {
    /// All but the well-known ports: what masquerade takes where nobody says.
    pub const DEFAULT: Self = Self {
        first: 1024,
        last: u16::MAX,
    };

    /// A range from 1 on that is not empty.
    pub fn new(first: u16, last: u16) -> Result<Self, MasqueradePortsError> {
        match (first, last) {
            (0, _) => Err(MasqueradePortsError::Zero),
            _ if first > last => Err(MasqueradePortsError::Reversed { first, last }),
            _ => Ok(Self { first, last }),
        }
    }

    /// First port, from 1 on.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Last port, not below the first.
    pub const fn last(self) -> u16 {
        self.last
    }
}

impl Default for MasqueradePorts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for MasqueradePorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Ports that are no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasqueradePortsError {
    /// Not two numbers.
    #[error("masquerade ports are written FIRST-LAST, from 1 to 65535")]
    Form,
    /// Port 0.
    #[error("there is no port 0; masquerade ports are from 1 to 65535")]
    Zero,
    /// The first is above the last.
    #[error("no port is from {first} to {last}; did you mean {last}-{first}?")]
    Reversed {
        /// What was given as first.
        first: u16,
        /// What was given as last.
        last: u16,
    },
}

impl FromStr for MasqueradePorts {
    type Err = MasqueradePortsError;

    fn from_str(text: &str) -> Result<Self, MasqueradePortsError> {
        let (first, last) = text.split_once('-').ok_or(MasqueradePortsError::Form)?;
        let port = |text: &str| text.trim().parse().map_err(|_| MasqueradePortsError::Form);
        Self::new(port(first)?, port(last)?)
    }
}

impl TryFrom<String> for MasqueradePorts {
    type Error = MasqueradePortsError;

    fn try_from(text: String) -> Result<Self, MasqueradePortsError> {
        text.parse()
    }
}

impl From<MasqueradePorts> for String {
    fn from(ports: MasqueradePorts) -> Self {
        ports.to_string()
    }
}

/// Which mappings, as a query string; all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MappingFilter {
    /// Name or id of an endpoint.
    pub endpoint: Option<String>,
    /// Name of a network.
    pub network: Option<String>,
    /// Protocol.
    pub proto: Option<Proto>,
    /// Its inside or outside port (echo: the identifier).
    pub port: Option<u16>,
}

/// One mapping of `GET /v1/mappings`: the outside socket that an inside socket has, whomever it talks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MappingLine {
    /// Protocol: `tcp`, `udp`, `icmp`, `icmpv6`.
    pub proto: String,
    /// Name of the endpoint; none: the node itself.
    pub endpoint: Option<String>,
    /// Name of its network.
    pub network: Option<String>,
    /// Inside address.
    pub inside: IpAddr,
    /// Inside port or echo identifier.
    pub inside_port: u16,
    /// Outside address.
    pub outside: IpAddr,
    /// Outside port or echo identifier.
    pub outside_port: u16,
    /// How it was given out.
    pub profile: Profile,
    /// Who is let in.
    pub filtering: Filtering,
    /// `used`: by flows; `quarantine`: by none any more, and kept for its inside socket (strict profile);
    /// `ending`: just being removed.
    pub state: String,
    /// Flows that use it.
    pub flows: u32,
    /// Seconds since it was made.
    pub age_s: u64,
    /// Seconds until the outside port is free if nothing comes.
    pub expires_s: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written_alike() {
        for text in ["1024-65535", "1-1", "65535-65535"] {
            let ports: MasqueradePorts = text.parse().unwrap();
            assert_eq!(ports.to_string(), text);
            let json = serde_json::to_string(&ports).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(
                serde_json::from_str::<MasqueradePorts>(&json).unwrap(),
                ports
            );
        }
        assert_eq!(
            "1024-65535".parse::<MasqueradePorts>(),
            Ok(MasqueradePorts::DEFAULT)
        );
    }

    #[test]
    fn what_is_no_range_is_refused_with_what_to_write() {
        for (text, why) in [
            ("", "FIRST-LAST"),
            ("80", "FIRST-LAST"),
            ("80-", "FIRST-LAST"),
            ("-80", "FIRST-LAST"),
            ("80-65536", "FIRST-LAST"),
            ("a-b", "FIRST-LAST"),
            ("0-80", "no port 0"),
            ("0-0", "no port 0"),
            ("81-80", "did you mean 80-81?"),
        ] {
            let e = text.parse::<MasqueradePorts>().unwrap_err().to_string();
            assert!(e.contains(why), "{text}: {e}");
            let json = format!("{text:?}");
            assert!(serde_json::from_str::<MasqueradePorts>(&json).is_err());
        }
    }

    #[test]
    fn words_are_the_same_in_json_and_on_the_command_line() {
        for p in [Profile::Strict, Profile::Balanced] {
            assert_eq!(serde_json::to_string(&p).unwrap(), format!("\"{p}\""));
        }
        for f in [
            Filtering::EndpointIndependent,
            Filtering::Address,
            Filtering::AddressPort,
        ] {
            assert_eq!(serde_json::to_string(&f).unwrap(), format!("\"{f}\""));
        }
    }
}
