//! Publish specs: `[HOSTIP:|[HOSTIP6]:]HOSTPORT[-END]:PORT[-END][/tcp|udp]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Owner;
use crate::schema::Prefix;

/// Transport protocol of a published port or a flow filter.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP echo (flow filters only).
    Icmp,
    /// `ICMPv6` echo (flow filters only).
    Icmpv6,
}

impl Proto {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmpv6 => 58,
            Self::Sctp => 132,
        }
    }

    /// From an IP protocol number.
    pub const fn from_number(n: u8) -> Option<Self> {
        match n {
            1 => Some(Self::Icmp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            58 => Some(Self::Icmpv6),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a spec was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// The spec.
    pub spec: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publish spec {:?}: {}", self.spec, self.why)
    }
}

impl std::error::Error for SpecError {}

/// The outside half: which node socket(s).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostSpec {
    /// Node address; none: all of them, both families.
    pub host_ip: Option<IpAddr>,
    /// First port; 0: any free one.
    pub host_port: u16,
    /// Last port, at least `host_port`.
    pub host_end: u16,
    /// Protocol.
    pub proto: Proto,
}

/// What is asked for: node socket(s) -> endpoint port(s). The two ranges have the same length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishSpec {
    /// The outside half.
    #[serde(flatten)]
    pub host: HostSpec,
    /// First endpoint port.
    pub port: u16,
    /// Last endpoint port.
    pub end: u16,
    /// Who may come: source prefixes, IPv4 or IPv6; none: everybody. Not part of the spec's text.
    #[serde(default)]
    #[schemars(with = "Vec<Prefix>")]
    pub from: Vec<IpNet>,
}

/// A port that is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// Name of the endpoint.
    pub endpoint: String,
    /// Name of its network.
    pub network: String,
    /// What was asked for, `HOSTPORT` 0 replaced by the port that was found.
    #[serde(flatten)]
    pub spec: PublishSpec,
    /// Who asked for it.
    #[serde(default)]
    pub owner: Owner,
}

fn ports(spec: &str, text: &str, what: &str) -> Result<(u16, u16), SpecError> {
    let bad = |why: String| SpecError {
        spec: spec.into(),
        why,
    };
    let one = |t: &str| {
        t.parse::<u16>()
            .map_err(|_| bad(format!("{what} port {t:?} is not a number from 0 to 65535")))
    };
    let (first, last) = match text.split_once('-') {
        Some((a, b)) => (one(a)?, one(b)?),
        None => (one(text)?, one(text)?),
    };
    if last < first {
        return Err(bad(format!("{what} range {text} runs backwards")));
    }
    if first == 0 && last != 0 {
        return Err(bad(format!(
            "{what} range {text} begins at 0; give a free range, or 0 alone"
        )));
    }
    Ok((first, last))
}

/// Splits `[HOSTIP:]REST`; an IPv6 address stands in brackets.
fn split_host<'a>(spec: &str, text: &'a str) -> Result<(Option<IpAddr>, &'a str), SpecError> {
    let bad = |why: String| SpecError {
        spec: spec.into(),
        why,
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest
            .split_once("]:")
            .ok_or_else(|| bad("an IPv6 host address is written [ADDRESS]:PORT".into()))?;
        let ip: std::net::Ipv6Addr = ip
            .parse()
            .map_err(|_| bad(format!("{ip:?} is not an IPv6 address")))?;
        return Ok((Some(ip.into()), rest));
    }
    Ok((None, text))
}

fn split_proto<'a>(spec: &str, text: &'a str) -> Result<(Proto, &'a str), SpecError> {
    match text.rsplit_once('/') {
        None => Ok((Proto::Tcp, text)),
        Some((rest, "tcp")) => Ok((Proto::Tcp, rest)),
        Some((rest, "udp")) => Ok((Proto::Udp, rest)),
        Some((rest, "sctp")) => Ok((Proto::Sctp, rest)),
        Some((_, other)) => Err(SpecError {
            spec: spec.into(),
            why: format!("protocol {other:?} is not tcp, udp or sctp"),
        }),
    }
}

fn v4(spec: &str, text: &str) -> Result<IpAddr, SpecError> {
    text.parse::<std::net::Ipv4Addr>()
        .map(IpAddr::from)
        .map_err(|_| SpecError {
            spec: spec.into(),
            why: format!("{text:?} is not an IPv4 address"),
        })
}

impl FromStr for PublishSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        let bad = |why: &str| SpecError {
            spec: spec.into(),
            why: why.into(),
        };
        let (proto, rest) = split_proto(spec, spec)?;
        let (mut host_ip, rest) = split_host(spec, rest)?;
        let parts: Vec<&str> = rest.split(':').collect();
        let (host, inside) = match (parts.as_slice(), host_ip) {
            ([host, inside], _) => (*host, *inside),
            ([ip, host, inside], None) => {
                host_ip = Some(v4(spec, ip)?);
                (*host, *inside)
            }
            _ => {
                return Err(bad(
                    "it is written [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp]",
                ));
            }
        };
        let (host_port, host_end) = ports(spec, host, "host")?;
        let (port, end) = ports(spec, inside, "endpoint")?;
        if port == 0 {
            return Err(bad("the endpoint port must not be 0"));
        }
        if host_port == 0 && port != end {
            return Err(bad(
                "host port 0 (any free one) goes with a single endpoint port",
            ));
        }
        if host_end - host_port != end - port {
            return Err(bad("the two ranges have different lengths"));
        }
        Ok(Self {
            host: HostSpec {
                host_ip,
                host_port,
                host_end,
                proto,
            },
            port,
            end,
            from: Vec::new(),
        })
    }
}

impl FromStr for HostSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        let (proto, rest) = split_proto(spec, spec)?;
        let (mut host_ip, rest) = split_host(spec, rest)?;
        let host = match (rest.split_once(':'), host_ip) {
            (None, _) => rest,
            (Some((ip, host)), None) if !host.contains(':') => {
                host_ip = Some(v4(spec, ip)?);
                host
            }
            _ => {
                return Err(SpecError {
                    spec: spec.into(),
                    why: "it is written [HOSTIP:]HOSTPORT[-END][/tcp|udp]".into(),
                });
            }
        };
        let (host_port, host_end) = ports(spec, host, "host")?;
        if host_port == 0 {
            return Err(SpecError {
                spec: spec.into(),
                why: "the host port must not be 0".into(),
            });
        }
        Ok(Self {
            host_ip,
            host_port,
            host_end,
            proto,
        })
    }
}

fn range(f: &mut fmt::Formatter<'_>, first: u16, last: u16) -> fmt::Result {
    if first == last {
        write!(f, "{first}")
    } else {
        write!(f, "{first}-{last}")
    }
}

impl HostSpec {
    fn socket(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            None => {}
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
        }
        range(f, self.host_port, self.host_end)
    }
}

impl fmt::Display for HostSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket(f)?;
        write!(f, "/{}", self.proto)
    }
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.socket(f)?;
        f.write_str(":")?;
        range(f, self.port, self.end)?;
        write!(f, "/{}", self.host.proto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_written_back() {
        for (text, shown) in [
            ("8080:80", "8080:80/tcp"),
            ("8080:80/udp", "8080:80/udp"),
            ("192.0.2.1:8080:80", "192.0.2.1:8080:80/tcp"),
            ("[2001:db8::1]:8080:80/sctp", "[2001:db8::1]:8080:80/sctp"),
            ("8000-8009:80-89", "8000-8009:80-89/tcp"),
            ("0:80", "0:80/tcp"),
        ] {
            let spec: PublishSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), shown);
            assert_eq!(shown.parse::<PublishSpec>().unwrap(), spec);
        }
        for (text, shown) in [
            ("8080", "8080/tcp"),
            ("[::1]:53/udp", "[::1]:53/udp"),
            ("1.2.3.4:1-2", "1.2.3.4:1-2/tcp"),
        ] {
            assert_eq!(text.parse::<HostSpec>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn bad_specs_say_why() {
        for (text, why) in [
            ("80", "it is written"),
            ("80:0", "must not be 0"),
            ("80:99999", "not a number"),
            ("x:80", "not a number"),
            ("80:80/icmp", "not tcp, udp or sctp"),
            ("10-5:10-5", "backwards"),
            ("1-3:1-2", "different lengths"),
            ("0-3:1-4", "begins at 0"),
            ("0:1-4", "single endpoint port"),
            ("1.2.3:80:80", "not an IPv4 address"),
            ("[1.2.3.4]:80:80", "not an IPv6 address"),
            ("[::1:80:80", "[ADDRESS]:PORT"),
            ("::1:80:80", "it is written"),
            ("", "it is written"),
        ] {
            let e = text.parse::<PublishSpec>().unwrap_err();
            assert!(e.why.contains(why), "{text}: {e}");
        }
        assert!("0".parse::<HostSpec>().is_err());
        assert!("8080:80:80".parse::<HostSpec>().is_err());
    }
}
