//! What the control plane hands to the data path, and gets from it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use netd_common::addr::Mac;
use netd_common::flow::Timeouts;
use netd_common::maps::FlowKind;

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

impl XdpMode {
    /// The name users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        }
    }
}

/// What [`super::Datapath::open`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pin directory of this instance, on a bpffs (the caller has mounted it).
    pub bpf_dir: PathBuf,
    /// `None`: TCX where the kernel has it, else clsact.
    pub attach_mode: Option<AttachMode>,
    /// Cookie of the node's network namespace, for the socket hooks; 0: unknown.
    pub netns_cookie: u64,
    /// Decoded log lines of the programs go to `tracing`.
    pub verbose: bool,
    /// Entries of `FLOW4` and `FLOW6`, each; a pinned map keeps its size.
    pub flow_entries: u32,
    /// Flows an endpoint may have at a time; `None`: [`Options::share_of`].
    pub flows_per_endpoint: Option<u32>,
    /// How long flows live.
    pub timeouts: Timeouts,
    /// Mistakes the programs are to make, [`netd_common::planted`]; 0, but where the fuzzer is tested.
    pub planted: u32,
}

impl Options {
    /// Flows an endpoint may have of a table of `entries`: two fifths of the flows that fit. Of the default
    /// size that is more than 50,000, and leaves a fifth of the outside ports towards one remote socket to
    /// the others.
    pub const fn share_of(entries: u32) -> u32 {
        let share = entries / 5;
        if share == 0 { 1 } else { share }
    }
}

/// One flow, both directions.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// Why it is tracked.
    pub kind: FlowKind,
    /// IP protocol number.
    pub proto: u8,
    /// Number of the endpoint; 0: the node.
    pub endpoint: u32,
    /// Number of the network; 0: the node.
    pub network: u32,
    /// Number of the publish it came in by; 0: none.
    pub publish: u32,
    /// Number of the endpoint that began it, where `endpoint` is the one that was called; 0: none.
    pub client: u32,
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

impl FlowRecord {
    /// Whether one of its ends is called by one of these floating addresses, or calls with one.
    pub fn is_by_floating(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        let (called, seen) = (
            addresses.contains(&self.dst.0),
            addresses.contains(&self.nat_src.0),
        );
        match self.kind {
            FlowKind::Floating => called || seen,
            // What came in by a published port stays with that.
            FlowKind::Hairpin => seen || (called && self.publish == 0),
            FlowKind::Masquerade
            | FlowKind::Publish
            | FlowKind::Node
            | FlowKind::Forward
            | FlowKind::Inbound => false,
        }
    }

    /// Whether it was by a floating address that is none of `addresses`, which are all there are.
    pub fn lost_its_floating(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        // One of its two ends is such an address; of a hairpin nobody can tell any more.
        self.kind == FlowKind::Floating && !self.is_by_floating(addresses)
    }
}

/// Whom a mapping lets in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filter {
    /// Everybody.
    Any,
    /// Addresses its socket has sent to.
    Address,
    /// Sockets its socket has sent to.
    AddressAndPort,
}

/// A mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingRecord {
    /// IP protocol number.
    pub proto: u8,
    /// Number of the endpoint; 0: the node.
    pub endpoint: u32,
    /// Number of the network; 0: the node.
    pub network: u32,
    /// The inside socket.
    pub inside: (IpAddr, u16),
    /// The outside socket.
    pub outside: (IpAddr, u16),
    /// Of the strict profile.
    pub strict: bool,
    /// Whom it lets in.
    pub filter: Filter,
    /// Flows that hold it.
    pub flows: u32,
    /// Nanoseconds since it was made.
    pub age_ns: u64,
    /// `used`: by flows; `quarantine`: by none any more, and not free yet; `ending`: just being removed.
    pub state: &'static str,
    /// Nanoseconds until the outside port is free if nothing comes.
    pub expires_ns: u64,
}

/// A learned MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedRecord {
    /// Number of the network.
    pub network: u32,
    /// The MAC.
    pub mac: Mac,
    /// ifindex of the endpoint's node-side device.
    pub device: u32,
    /// Number of the endpoint.
    pub endpoint: u32,
    /// Nanoseconds since it was last heard from, as far as that is noted.
    pub idle_ns: u64,
}
