//! What becomes of a packet: the question and the answer of `netd trace`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PacketSpec;

/// `POST /v1/trace`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// Where the packet comes in: an endpoint (it sends the packet), an uplink's device (the packet comes
    /// from outside), or a network (the node sends it, by its gateway). `endpoint:NAME`, `uplink:NAME`
    /// and `network:NAME` say which it is where a name is two things.
    pub at: String,
    /// The packet.
    pub packet: TracePacket,
}

/// A packet to trace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TracePacket {
    /// In words.
    Words(PacketSpec),
    /// A whole Ethernet frame, in hexadecimal digits.
    Frame(String),
}

/// What becomes of a packet, stage by stage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// Where it comes in.
    pub at: String,
    /// The packet, in words.
    pub packet: String,
    /// The frame, in hexadecimal digits.
    pub frame: String,
    /// What the answer rests on, beside what was asked.
    pub remarks: Vec<String>,
    /// The programs it meets, in order.
    pub programs: Vec<TraceProgram>,
    /// Whether it would get where it is going.
    pub passes: bool,
    /// Why it would be dropped, by the reason's name.
    pub reason: Option<String>,
    /// What becomes of it, in one sentence.
    pub verdict: String,
}

/// A program that meets the packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TraceProgram {
    /// Its name.
    pub program: String,
    /// The device it is hooked on.
    pub device: String,
    /// What it finds and does, in order.
    pub steps: Vec<TraceStep>,
    /// The frame as it leaves it, in hexadecimal digits.
    pub frame: String,
}

/// One thing a program finds or does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TraceStep {
    /// What kind of step it is.
    pub point: String,
    /// In words.
    pub text: String,
}
