//! A packet with all that decided about it, for a test elsewhere: the question and the answer of `netd repro`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::TracePacket;

/// `POST /v1/repro`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReproRequest {
    /// Where the packet comes in, as in [`TraceRequest`](crate::TraceRequest); with `hook` the device.
    pub at: String,
    /// The hook on that device at which the packet was seen (`ep_out`, `up_in`, `xdp`, ..).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// The packet.
    pub packet: TracePacket,
}

/// A packet and all that decided about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Repro {
    /// The packet and where it comes in, in words.
    pub packet: String,
    /// Why it is dropped, by the reason's name; none: it is not.
    pub reason: Option<String>,
    /// What becomes of it, in one sentence.
    pub verdict: String,
    /// What a reader should know.
    pub remarks: Vec<String>,
    /// The case in its text form.
    pub case: String,
    /// A Rust source file with a test that runs the case.
    pub source: String,
}
