//! What the node tells while it happens: `GET /v1/monitor` and `GET /v1/capture`, streams of JSON objects,
//! one on each line.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::HostSpec;

/// Query of `GET /v1/monitor`; all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorFilter {
    /// Name or id of an endpoint that sends, is sent to, or has the flow.
    pub endpoint: Option<String>,
    /// Name of a network.
    pub network: Option<String>,
    /// No flows that open and close, only what is dropped or refused.
    pub drops: bool,
    /// Only flows: opened, closed, refused.
    pub flows: bool,
    /// Only drops for this reason.
    pub reason: Option<String>,
}

/// Query of `GET /v1/capture`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureOf {
    /// An endpoint, a network or an uplink, in this order.
    pub target: String,
    /// Bytes of each packet.
    #[serde(default = "CaptureOf::default_snaplen")]
    pub snaplen: u32,
}

impl CaptureOf {
    /// Bytes of each packet where nobody asks for another number: the most there can be.
    pub const fn default_snaplen() -> u32 {
        16_384
    }
}

/// One line of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Told {
    /// A flow began.
    Opened(ToldFlow),
    /// A flow ended.
    Closed(ToldFlow),
    /// A packet that would have begun a flow was dropped.
    Refused(ToldPacket),
    /// Another packet was dropped.
    Dropped(ToldPacket),
    /// A packet that is captured.
    Packet(ToldPacket),
    /// So many events since the last such line are missing here: there was no room for them.
    Lost {
        /// Events.
        events: u64,
    },
}

/// Addresses and ports as a packet says them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ends {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Source port, or the identifier of an echo request.
    pub sport: Option<u16>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// Destination port, or the identifier of an echo reply.
    pub dport: Option<u16>,
}

/// A packet and what became of it at one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToldPacket {
    /// When it came to the hook, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The hook: `ep_out`, `ep_in`, `gw_out`, `up_in`, `up_out`, `xdp`.
    pub hook: String,
    /// The device the hook is on.
    pub device: String,
    /// Name of the endpoint behind that device, or behind the one it went to.
    pub endpoint: Option<String>,
    /// Name of the network.
    pub network: Option<String>,
    /// `passed`, `dropped`, `redirected`, `copied`.
    pub verdict: String,
    /// Why it was dropped.
    pub reason: Option<String>,
    /// The device it was sent to, as far as it is known.
    pub to_device: Option<String>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, else the number of the IP protocol or the `EtherType`.
    pub proto: String,
    /// Who speaks to whom, as the packet came.
    #[serde(flatten)]
    pub ends: Ends,
    /// The same as it left, where it was translated.
    pub nat: Option<Ends>,
    /// Bytes of the packet (L2).
    pub len: u32,
    /// VLAN tag: priority and id.
    pub vlan: Option<u16>,
    /// Of a capture: its first bytes as it came, in hexadecimal digits.
    pub frame: Option<String>,
}

/// A flow that begins or ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToldFlow {
    /// When it began or ended, in nanoseconds since 1970.
    pub time_ns: u64,
    /// `masquerade`, `publish`, `hairpin`, `node` or `forward`.
    pub kind: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`.
    pub proto: String,
    /// Name of its endpoint; none: the node itself.
    pub endpoint: Option<String>,
    /// Name of its network.
    pub network: Option<String>,
    /// Name of the endpoint that began it, where `endpoint` is the one that was called.
    pub client: Option<String>,
    /// What it came in by: the outside half of a publish.
    pub publish: Option<HostSpec>,
    /// Who speaks to whom, before translation.
    #[serde(flatten)]
    pub ends: Ends,
    /// The same after translation, where it is not the same.
    pub nat: Option<Ends>,
    /// Of a flow that ended: what it carried, and why it ended.
    pub closed: Option<ToldClosed>,
}

/// The end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToldClosed {
    /// `closed` by its ends, `reset`, `idle` for too long, `ended` (flushed, or its endpoint or published
    /// port went).
    pub why: String,
    /// Nanoseconds it lived, until it was found over.
    pub lived_ns: u64,
    /// Packets in the original direction.
    pub packets: u64,
    /// Bytes in the original direction.
    pub bytes: u64,
    /// Packets of the replies.
    pub reply_packets: u64,
    /// Bytes of the replies.
    pub reply_bytes: u64,
}
