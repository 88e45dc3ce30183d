//! netd: networks everything on a node with eBPF.
//!
//! | module | owns | may import |
//! |---|---|---|
//! | `cli` | the command line; speaks only through `netd-api` | netd-api |
//! | `api` (server side) | HTTP on the Unix socket | model, plan, apply |
//! | `model` | desired state, validation, addresses | no aya, no netlink |
//! | `plan` | desired + actual -> steps, pure | no aya, no netlink |
//! | `apply` | runs steps | datapath, net |
//! | [`doctor`] | what the machine offers, what is missing | datapath, net |
//! | [`datapath`] | programs, maps, hooks | aya, not net |
//! | [`observe`] | events of the programs as lines of the API | datapath |
//! | `net` | netlink, namespaces, sysctls | rtnetlink, not datapath |
//! | `trace` | a packet in words, and what the programs noted about it, pure | datapath's types |
//! | [`repro`] | one packet with all that decided about it, as text, pure | datapath's types, trace |
//! | `store` | the embedded store | redb |
//! | `failpoint` | dying before a chosen step, for tests | nothing |

pub mod api;
pub mod apply;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod datapath;
pub mod doctor;
mod failpoint;
pub mod model;
pub mod net;
pub mod observe;
pub mod plan;
pub mod repro;
pub mod store;
pub mod trace;
