//! What the node can tell: status, statistics, flows, forwarding entries.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Prefix;
use crate::{HostSpec, Proto};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Instance name.
    pub instance: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Kernel release.
    pub kernel: String,
    /// How TC programs are attached: `tcx` or `clsact`.
    pub attach_mode: String,
    /// Run directory.
    pub run_dir: String,
    /// State directory.
    pub state_dir: String,
    /// BPF pin directory.
    pub bpf_dir: String,
    /// Cgroup whose processes reach published ports from the node itself; none: see `problems`.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Uplinks in use.
    pub uplinks: Vec<UplinkStatus>,
    /// Networks.
    pub networks: u32,
    /// Endpoints.
    pub endpoints: u32,
    /// Published ports.
    pub published: u32,
    /// Flows of both families.
    pub flows: u32,
    /// What is not as it should be, one line each; empty: all is well.
    pub problems: Vec<String>,
}

/// An uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UplinkStatus {
    /// Device name.
    pub device: String,
    /// ifindex.
    pub ifindex: u32,
    /// Address masqueraded IPv4 leaves with.
    pub v4: Option<IpAddr>,
    /// Address masqueraded IPv6 leaves with.
    pub v6: Option<IpAddr>,
    /// How XDP is attached: `native`, `generic` or `off`.
    pub xdp: String,
    /// MTU in bytes.
    pub mtu: u32,
}

/// One line of `GET /v1/stats`: packets with one verdict at one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatLine {
    /// Hook: `ep_out`, `ep_in`, `gw_out`, `up_in`, `up_out`, `xdp`.
    pub hook: String,
    /// `pass`, or `drop`.
    pub verdict: String,
    /// The drop reason; none for `pass`.
    pub reason: Option<String>,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Which flows, as a query string; all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FlowFilter {
    /// Name or id of an endpoint, whether it began the flow or was called.
    pub endpoint: Option<String>,
    /// Protocol.
    pub proto: Option<Proto>,
    /// Source address or prefix, before or after translation.
    #[serde(with = "prefix")]
    #[schemars(with = "Option<Prefix>")]
    pub src: Option<IpNet>,
    /// Destination address or prefix, before or after translation.
    #[serde(with = "prefix")]
    #[schemars(with = "Option<Prefix>")]
    pub dst: Option<IpNet>,
    /// Any of its ports (echo: the identifier), before or after translation.
    pub port: Option<u16>,
}

/// An address, or a prefix `ADDRESS/LENGTH` whose host bits do not count.
pub fn address_or_prefix(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let prefix = || text.parse::<IpNet>().map(|net| net.trunc());
    address
        .or_else(|_| prefix())
        .map_err(|_| format!("{text:?} is not an address, nor a prefix like 192.0.2.0/24"))
}

/// Addresses and prefixes in a query string.
mod prefix {
    use ipnet::IpNet;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature serde asks for")]
    pub fn serialize<S: Serializer>(net: &Option<IpNet>, to: S) -> Result<S::Ok, S::Error> {
        net.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpNet>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|t| super::address_or_prefix(&t).map_err(serde::de::Error::custom))
            .transpose()
    }
}

/// One flow of `GET /v1/flows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowLine {
    /// `masquerade`, `publish`, `hairpin`, `node` or `forward`.
    pub kind: String,
    /// Protocol: `tcp`, `udp`, `icmp`, `icmpv6`.
    pub proto: String,
    /// State: TCP's, else `new` or `replied`.
    pub state: String,
    /// Name of the endpoint, of a hairpin flow the server's; none: the node itself.
    pub endpoint: Option<String>,
    /// Name of the endpoint that began it, where `endpoint` is the one that was called.
    pub client: Option<String>,
    /// What it came in by: the outside half of a publish.
    pub publish: Option<HostSpec>,
    /// Original source address.
    pub src: IpAddr,
    /// Original source port or echo identifier.
    pub sport: u16,
    /// Original destination address.
    pub dst: IpAddr,
    /// Original destination port.
    pub dport: u16,
    /// Source address after translation.
    pub nat_src: IpAddr,
    /// Source port after translation.
    pub nat_sport: u16,
    /// Destination address after translation.
    pub nat_dst: IpAddr,
    /// Destination port after translation.
    pub nat_dport: u16,
    /// Packets in the original direction.
    pub packets: u64,
    /// Bytes in the original direction.
    pub bytes: u64,
    /// Packets of the replies.
    pub reply_packets: u64,
    /// Bytes of the replies.
    pub reply_bytes: u64,
    /// Seconds since the last packet of either direction.
    pub idle_s: u64,
    /// Seconds until it expires if nothing comes.
    pub expires_s: u64,
}

/// Answer of `DELETE /v1/flows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flushed {
    /// Flows ended.
    pub flows: u32,
}

/// One forwarding entry of `GET /v1/fdb`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FdbLine {
    /// Network.
    pub network: String,
    /// MAC.
    pub mac: String,
    /// Device frames go out by.
    pub device: String,
    /// `endpoint` or `gateway`.
    pub kind: String,
    /// Name of the endpoint.
    pub endpoint: Option<String>,
    /// Written by the control plane; else learned.
    #[serde(rename = "static")]
    pub fixed: bool,
    /// Seconds since a learned MAC was last heard from; none: static.
    pub age_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_addresses_and_prefixes_and_refuses_the_rest_in_one_line() {
        for (text, wanted) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("2001:db8::7", "2001:db8::7/128"),
            ("2001:db8:1::/32", "2001:db8::/32"),
        ] {
            assert_eq!(address_or_prefix(text).unwrap().to_string(), wanted);
            let query: FlowFilter =
                serde_json::from_str(&format!(r#"{{"src":"{text}"}}"#)).unwrap();
            assert_eq!(query.src.unwrap().to_string(), wanted);
        }
        for text in ["", "192.0.2", "192.0.2.0/33", "::1/129", "api"] {
            let e = address_or_prefix(text).unwrap_err();
            assert!(e.contains(text) && !e.contains('\n'), "{e}");
        }
    }
}
