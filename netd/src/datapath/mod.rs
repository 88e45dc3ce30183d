//! The data path as user space sees it: load, pin, hook, and write the maps. Never imports `net`.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use netd_common::maps::{FdbEntry, FdbKey, HostEntry, Port, Publish, PublishKey, Target, Uplink};
use netd_common::reason::{DropReason, Hook};

/// How TC programs are hooked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachMode {
    /// TCX links (Linux 6.6 and later).
    Tcx,
    /// clsact filters at a fixed priority and handle.
    Clsact,
}

/// How XDP is hooked on an uplink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the stack, before TC.
    Generic,
    /// Not at all.
    Off,
}

/// What [`Datapath::open`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pin directory of this instance, on a bpffs (the caller has mounted it).
    pub bpf_dir: PathBuf,
    /// None: TCX where the kernel has it, else clsact.
    pub attach_mode: Option<AttachMode>,
    /// Decoded log lines of the programs go to `tracing`.
    pub verbose: bool,
    /// Entries of `FLOW4` and `FLOW6`, each.
    pub flow_entries: u32,
}

/// Errors of the data path: one line each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stub.
    #[error("{0}")]
    Other(String),
}

/// Result of the data path.
pub type Result<T> = std::result::Result<T, Error>;

/// One flow, both directions, times in ns of `CLOCK_MONOTONIC`.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// See [`netd_common::maps::FlowKind`].
    pub kind: netd_common::maps::FlowKind,
    /// IP protocol number.
    pub proto: u8,
    /// Number of the endpoint; 0: the node.
    pub endpoint: u32,
    /// Number of the network; 0: the node.
    pub network: u32,
    /// Original source.
    pub src: (IpAddr, u16),
    /// Original destination.
    pub dst: (IpAddr, u16),
    /// Source after translation.
    pub nat_src: (IpAddr, u16),
    /// Destination after translation.
    pub nat_dst: (IpAddr, u16),
    /// (packets, bytes) of the original direction.
    pub original: (u64, u64),
    /// (packets, bytes) of the replies.
    pub reply: (u64, u64),
    /// State, in words.
    pub state: &'static str,
    /// Nanoseconds since the last packet.
    pub idle_ns: u64,
    /// Nanoseconds until it expires.
    pub expires_ns: u64,
}

/// The loaded programs, their maps and their hooks. All of it is pinned: dropping this value leaves
/// the data path running.
pub struct Datapath {}

/// Stub body.
#[expect(unused_variables, clippy::unused_self, reason = "stub")]
#[expect(missing_docs, reason = "stub")]
impl Datapath {
    /// Loads the embedded programs, reuses the pinned maps that fit, and replaces the programs of
    /// hooks that are pinned already, without a gap.
    pub fn open(options: &Options) -> Result<Self> { unimplemented!() }
    pub fn attach_mode(&self) -> AttachMode { unimplemented!() }

    /// Hooks `netd_ep_out` and `netd_ep_in` on an endpoint's node-side device. Idempotent. The device
    /// must be visible in the calling thread's network namespace (likewise below).
    pub fn hook_endpoint(&mut self, device: &str) -> Result<()> { unimplemented!() }
    /// Hooks `netd_gw_out` on a gateway pair's inner end. Idempotent.
    pub fn hook_gateway(&mut self, inner: &str) -> Result<()> { unimplemented!() }
    /// Hooks `netd_up_in`, `netd_up_out` and `netd_xdp` on an uplink. Idempotent. Says how XDP went.
    /// `xdp`: None = native, else generic.
    pub fn hook_uplink(&mut self, device: &str, xdp: Option<XdpMode>) -> Result<XdpMode> { unimplemented!() }
    /// Removes every hook and pin of a device, there or gone. Idempotent.
    pub fn unhook(&mut self, device: &str) -> Result<()> { unimplemented!() }
    /// Devices that have pinned or recorded hooks.
    pub fn hooked(&self) -> Result<Vec<String>> { unimplemented!() }

    pub fn port_set(&mut self, ifindex: u32, port: &Port) -> Result<()> { unimplemented!() }
    pub fn port_remove(&mut self, ifindex: u32) -> Result<()> { unimplemented!() }
    pub fn ports(&self) -> Result<Vec<(u32, Port)>> { unimplemented!() }

    pub fn fdb_set(&mut self, key: FdbKey, entry: &FdbEntry) -> Result<()> { unimplemented!() }
    pub fn fdb_remove(&mut self, key: FdbKey) -> Result<()> { unimplemented!() }
    pub fn fdb(&self) -> Result<Vec<(FdbKey, FdbEntry)>> { unimplemented!() }

    pub fn host_set(&mut self, addr: IpAddr, entry: &HostEntry) -> Result<()> { unimplemented!() }
    pub fn host_remove(&mut self, addr: IpAddr) -> Result<()> { unimplemented!() }
    pub fn hosts(&self) -> Result<Vec<(IpAddr, HostEntry)>> { unimplemented!() }

    /// Writes the switch ports of a network (slots 0..len) and removes those beyond. The caller then
    /// writes `segment_ports` of every `PORT` entry of the network (grow: slots first, then counts;
    /// shrink: counts first).
    pub fn segment_set(&mut self, network: u32, ports: &[Target]) -> Result<()> { unimplemented!() }

    pub fn publish_set(&mut self, key: PublishKey, value: &Publish) -> Result<()> { unimplemented!() }
    pub fn publish_remove(&mut self, key: PublishKey) -> Result<()> { unimplemented!() }
    pub fn published(&self) -> Result<Vec<(PublishKey, Publish)>> { unimplemented!() }

    pub fn uplink_set(&mut self, ifindex: u32, uplink: &Uplink) -> Result<()> { unimplemented!() }
    pub fn uplink_remove(&mut self, ifindex: u32) -> Result<()> { unimplemented!() }
    pub fn uplinks(&self) -> Result<Vec<(u32, Uplink)>> { unimplemented!() }

    /// Makes the deny list exactly `prefixes`.
    pub fn deny_set(&mut self, prefixes: &[IpNet]) -> Result<()> { unimplemented!() }

    /// Counters that are not zero: (hook, None = passed, packets, bytes).
    pub fn stats(&self) -> Result<Vec<(Hook, Option<DropReason>, u64, u64)>> { unimplemented!() }

    pub fn flows(&self) -> Result<Vec<FlowRecord>> { unimplemented!() }
    /// Ends the flows for which `which` is true; says how many.
    pub fn flows_remove(&mut self, which: &dyn Fn(&FlowRecord) -> bool) -> Result<u32> { unimplemented!() }
    /// Ends expired flows (both entries, re-checked idle); says how many. Call every few seconds.
    pub fn flows_collect(&mut self) -> Result<u32> { unimplemented!() }

    /// Log lines of the programs since the last call, decoded, to `tracing` (only with `verbose`).
    /// Wait on this fd with tokio's `AsyncFd`, then call [`Datapath::log_flush`].
    pub fn log_fd(&self) -> Option<std::os::fd::RawFd> { unimplemented!() }
    pub fn log_flush(&mut self) { unimplemented!() }

    /// Removes every hook, pin and map under a pin directory, programs loaded or not. For `netd cleanup`.
    pub fn wipe(bpf_dir: &std::path::Path) -> Result<()> { unimplemented!() }
}
