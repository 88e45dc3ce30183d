//! An address family as the programs see it: its maps, and the addresses of a port and an uplink.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::maps::{Array, HashMap, LruHashMap};
use netd_common::addr::{V4, V6, is_link_local};
use netd_common::guard::Guarded;
use netd_common::learn::OnLink;
use netd_common::maps::fragment::{Frag, FragKey, Ring};
use netd_common::maps::{Flow, HostEntry, HostKind, Mapping, Node, Port, Uplink};
use netd_common::tuple::Tuple;

use crate::global;
use crate::maps::{
    FLOW4, FLOW6, FRAG_RING4, FRAG_RING6, FRAG4, FRAG6, HOST4, HOST6, LOCAL, MAP4, MAP6, WORK4,
    WORK6,
};
use crate::work::Work;

/// IPv4 or IPv6.
pub trait Net: Guarded + OnLink {
    /// `AF_INET` or `AF_INET6`.
    const AF: u8;
    /// Bytes to the end of the TCP flags, behind a header without options.
    const HEADERS: u32;
    /// `HOST4` or `HOST6`.
    fn hosts() -> &'static HashMap<Self, HostEntry>;
    /// `FLOW4` or `FLOW6`.
    fn flows() -> &'static HashMap<Tuple<Self>, Flow<Self>>;
    /// `FRAG4` or `FRAG6`.
    fn fragments() -> &'static LruHashMap<FragKey<Self>, Frag>;
    /// `FRAG_RING4` or `FRAG_RING6`.
    fn rings() -> &'static Array<Ring<Self>>;
    /// `MAP4` or `MAP6`.
    fn mappings() -> &'static HashMap<Tuple<Self>, Mapping<Self>>;
    /// This CPU's `WORK4` or `WORK6`.
    fn work() -> Option<*mut Work<Self>>;
    /// [`crate::global`]: begins a flow.
    fn begin(ctx: *mut __sk_buff) -> u64;
    /// The same: finds or makes a mapping.
    fn map(ctx: *mut __sk_buff) -> u64;
    /// The same: whether a socket is held.
    fn held(ctx: *mut __sk_buff) -> u64;
    /// The gateway's address on a port's network.
    fn gateway(port: &Port) -> Self;
    /// Whether an address is of the link only, and never routed. IPv4's 169.254/16 is not taken for
    /// that: clouds serve their metadata there, behind the uplink.
    fn is_of_the_link(self) -> bool;
    /// The uplink's address.
    fn outside(uplink: &Uplink) -> Self;
    /// The floating address an endpoint leaves with; unspecified: none.
    fn float(port: &Port) -> Self;
    /// The address of the node that endpoints are seen with where they call a published port.
    fn node(node: &Node) -> Self;

    /// Whether an address is the node's own, loopback and link-local ones left out.
    #[inline(always)]
    fn is_local(self) -> bool {
        // SAFETY: a map value stays readable for the run of the program.
        unsafe { LOCAL.get(&self.to_16()) }.is_some()
    }

    /// Who has an address.
    #[inline(always)]
    fn host(self) -> Option<&'static HostEntry> {
        // SAFETY: a map value stays readable for the run of the program.
        unsafe { Self::hosts().get(&self) }
    }

    /// The endpoint that has an address, as the uplink's side sees it: should the node have got the same address,
    /// it is the node's there.
    #[inline(always)]
    fn endpoint(self) -> Option<&'static HostEntry> {
        match self.host() {
            Some(host) if host.kind == HostKind::Endpoint.code() && !self.is_local() => Some(host),
            Some(_) | None => None,
        }
    }
}

impl Net for V4 {
    const AF: u8 = 2;
    const HEADERS: u32 = 14 + 20 + 14;

    #[inline(always)]
    fn hosts() -> &'static HashMap<Self, HostEntry> {
        &HOST4
    }
    #[inline(always)]
    fn flows() -> &'static HashMap<Tuple<Self>, Flow<Self>> {
        &FLOW4
    }
    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FragKey<Self>, Frag> {
        &FRAG4
    }
    #[inline(always)]
    fn rings() -> &'static Array<Ring<Self>> {
        &FRAG_RING4
    }
    #[inline(always)]
    fn mappings() -> &'static HashMap<Tuple<Self>, Mapping<Self>> {
        &MAP4
    }
    #[inline(always)]
    fn work() -> Option<*mut Work<Self>> {
        WORK4.get_ptr_mut(0)
    }
    #[inline(always)]
    fn begin(ctx: *mut __sk_buff) -> u64 {
        global::netd_begin4(ctx)
    }
    #[inline(always)]
    fn map(ctx: *mut __sk_buff) -> u64 {
        global::netd_map4(ctx)
    }
    #[inline(always)]
    fn held(ctx: *mut __sk_buff) -> u64 {
        global::netd_held4(ctx)
    }
    #[inline(always)]
    fn gateway(port: &Port) -> Self {
        port.gateway_v4
    }
    #[inline(always)]
    fn outside(uplink: &Uplink) -> Self {
        uplink.v4
    }
    #[inline(always)]
    fn float(port: &Port) -> Self {
        port.float4
    }
    #[inline(always)]
    fn node(node: &Node) -> Self {
        node.v4
    }
    #[inline(always)]
    fn is_of_the_link(self) -> bool {
        false
    }
}

impl Net for V6 {
    const AF: u8 = 10;
    const HEADERS: u32 = 14 + 40 + 14;

    #[inline(always)]
    fn hosts() -> &'static HashMap<Self, HostEntry> {
        &HOST6
    }
    #[inline(always)]
    fn flows() -> &'static HashMap<Tuple<Self>, Flow<Self>> {
        &FLOW6
    }
    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FragKey<Self>, Frag> {
        &FRAG6
    }
    #[inline(always)]
    fn rings() -> &'static Array<Ring<Self>> {
        &FRAG_RING6
    }
    #[inline(always)]
    fn mappings() -> &'static HashMap<Tuple<Self>, Mapping<Self>> {
        &MAP6
    }
    #[inline(always)]
    fn work() -> Option<*mut Work<Self>> {
        WORK6.get_ptr_mut(0)
    }
    #[inline(always)]
    fn begin(ctx: *mut __sk_buff) -> u64 {
        global::netd_begin6(ctx)
    }
    #[inline(always)]
    fn map(ctx: *mut __sk_buff) -> u64 {
        global::netd_map6(ctx)
    }
    #[inline(always)]
    fn held(ctx: *mut __sk_buff) -> u64 {
        global::netd_held6(ctx)
    }
    #[inline(always)]
    fn gateway(port: &Port) -> Self {
        port.gateway_v6
    }
    #[inline(always)]
    fn outside(uplink: &Uplink) -> Self {
        uplink.v6
    }
    #[inline(always)]
    fn float(port: &Port) -> Self {
        port.float6
    }
    #[inline(always)]
    fn node(node: &Node) -> Self {
        node.v6
    }
    #[inline(always)]
    fn is_of_the_link(self) -> bool {
        is_link_local(self)
    }
}
