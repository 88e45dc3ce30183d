//! The types of netd's HTTP API and a client for it.
//!
//! JSON over HTTP/1.1 on a Unix socket (`netd.sock` in the daemon's run directory). Every path is
//! versioned (`/v1/...`); lists are arrays; an error is an [`Error`] body with a status of 4xx (the
//! caller's) or 5xx (the node's).
//!
//! | method and path | body -> answer |
//! |---|---|
//! | `GET /v1/status` | -> [`Status`] |
//! | `GET /v1/stats` | -> [`[StatLine]`](StatLine) |
//! | `GET /v1/networks`, `POST /v1/networks` | -> [`[Network]`](Network), [`NetworkCreate`] -> [`Network`] |
//! | `GET`, `DELETE /v1/networks/{name}` | -> [`Network`], -> nothing |
//! | `PATCH /v1/networks/{name}` | [`NetworkSet`] -> [`Network`] |
//! | `GET /v1/endpoints`, `POST /v1/endpoints` | -> [`[Endpoint]`](Endpoint), [`Attach`] -> [`Endpoint`] |
//! | `GET`, `DELETE /v1/endpoints/{ep}` (`?network=N`) | -> [`Endpoint`], -> nothing |
//! | `GET /v1/endpoints/{ep}/inspect` (`?network=N`) | -> [`EndpointDetails`] |
//! | `POST /v1/endpoints/{ep}/publish` | `[`[`PublishSpec`]`]` -> [`[Published]`](Published) |
//! | `GET /v1/published` (`?endpoint=EP`) | -> [`[Published]`](Published) |
//! | `POST /v1/unpublish` | `[`[`HostSpec`]`]` -> nothing |
//! | `GET /v1/floating`, `POST /v1/floating` | -> [`[Floating]`](Floating), [`FloatingAdd`] -> [`Floating`] |
//! | `DELETE /v1/floating/{address}` | -> nothing |
//! | `GET /v1/flows`, `DELETE /v1/flows` ([`FlowFilter`] as query) | -> [`[FlowLine]`](FlowLine), -> [`Flushed`] |
//! | `GET /v1/mappings` ([`MappingFilter`] as query) | -> [`[MappingLine]`](MappingLine) |
//! | `GET /v1/monitor` ([`MonitorFilter`] as query) | -> a stream of [`Told`], one on each line |
//! | `GET /v1/capture` ([`CaptureOf`] as query) | -> the same, of packets with their bytes |
//! | `GET /v1/events` ([`EventsFrom`] as query) | -> a stream of [`EventLine`], one on each line |
//! | `GET /v1/fdb` (`?network=N`) | -> [`[FdbLine]`](FdbLine) |
//! | `POST /v1/trace` | [`TraceRequest`] -> [`Trace`] |
//! | `POST /v1/repro` | [`ReproRequest`] -> [`Repro`] |
//! | `POST /v1/plan`, `POST /v1/apply` | [`Manifest`] -> [`Plan`] |
//! | `GET /v1/export` (`?owner=O`) | -> [`Manifest`] |
//! | `GET /v1/openapi.json` | -> all of this as an `OpenAPI` 3.1 document |

mod client;
mod endpoint;
mod event;
mod floating;
mod hex;
mod inspect;
mod macs;
mod manifest;
mod masquerade;
mod network;
mod observe;
mod packet;
mod publish;
mod repro;
mod schema;
mod stream;
mod told;
mod trace;

pub use client::{Client, ClientError};
pub use endpoint::{Attach, Endpoint, EndpointState};
pub use event::{By, Caller, Event, EventKind, EventLine, EventsFrom, LostEvents};
pub use floating::{Floating, FloatingAdd};
pub use hex::{hex, unhex};
pub use inspect::{
    DeviceCounters, DeviceEnd, EndpointDetails, FlowUse, InsideView, NamespaceView, NeighbourLine,
    RouteLine,
};
pub use macs::{Macs, MacsError};
pub use manifest::{Action, FieldChange, Manifest, Plan, PlanLine, Problem, PublishOf, object};
pub use masquerade::{
    Filtering, MappingFilter, MappingLine, MasqueradePorts, MasqueradePortsError, Profile,
};
pub use network::{Network, NetworkCreate, NetworkKind, NetworkSet};
pub use observe::{
    FdbLine, FlowFilter, FlowLine, Flushed, StatLine, Status, UplinkStatus, address_or_prefix,
};
pub use packet::{PacketError, PacketKind, PacketSpec, flag_letters};
pub use publish::{HostSpec, Proto, PublishSpec, Published, SpecError};
pub use repro::{Repro, ReproRequest};
pub use trace::{Trace, TracePacket, TraceProgram, TraceRequest, TraceStep};

pub use stream::Stream;
pub use told::{CaptureOf, Ends, MonitorFilter, Told, ToldClosed, ToldFlow, ToldPacket};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who asked for an object: `cli`, `run`, `file:NAME`, `cni`, `docker`, `podman`.
pub type Owner = String;
/// Free key/value pairs an object carries.
pub type Labels = std::collections::BTreeMap<String, String>;

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Error {
    /// One line: what was wrong, with which object, why, and what to do.
    pub error: String,
    /// Of a [`Manifest`]: everything that is wrong with it, object by object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}
