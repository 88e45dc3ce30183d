//! What a new flow is to be.

use netd_common::addr::{Be16, Mac};
use netd_common::maps::FlowKind;
use netd_common::nat::{PortRange, translates};
use netd_common::tuple::Tuple;
use netd_common::wire::Packet;

use crate::family::Net;

/// Ends of a new flow that are an endpoint, and where its packets go.
#[derive(Clone, Copy)]
pub struct Leg {
    /// ifindex of the node-side device.
    pub device: u32,
    /// MAC of the endpoint.
    pub mac: Mac,
    /// MAC of its gateway.
    pub gateway_mac: Mac,
    /// Its number.
    pub endpoint: u32,
    /// Number of its network.
    pub network: u32,
}

impl Leg {
    /// No endpoint.
    pub const NODE: Self = Self {
        device: 0,
        mac: [0; 6],
        gateway_mac: [0; 6],
        endpoint: 0,
        network: 0,
    };
}

/// What a new flow is to be.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own, in any combination"
)]
pub struct Wish<A> {
    /// Why it is tracked.
    pub kind: FlowKind,
    /// The tuple packets of the original direction leave with; its `sport` is the first choice.
    pub to: Tuple<A>,
    /// `to.sport` may be another port of this range; [`PortRange::NONE`]: it must stay.
    pub ports: PortRange,
    /// The endpoint; [`Leg::NODE`]: the node itself.
    pub leg: Leg,
    /// Hairpin: the endpoint that calls; else unused.
    pub caller: Leg,
    /// Masquerade, and Floating on its way out: ifindex of the uplink it leaves by; else 0.
    pub exit: u32,
    /// Floating: the node itself begins it, so that the replies are its own.
    pub from_node: bool,
    /// Number of the publish it comes in by; 0: none.
    pub publish: u32,
    /// Number of the endpoint that begins it, where the leg's is the one that is called; 0: none.
    pub client: u32,
    /// [`netd_common::maps::port_flags`] of the network that masquerades it: profile and filter; else 0.
    pub options: u32,
    /// The socket that begins it gets a mapping.
    pub maps: bool,
    /// It comes in by the mapping at `Work::callee`.
    pub calls: bool,
    /// Its source is no address of the node but the client's own, or its floating one: neither sockets nor
    /// mappings of the node have ports there.
    pub keeps: bool,
}

impl<A: Net> Wish<A> {
    /// A flow that is nobody's yet and leaves as it comes, with tuple `to`: what is asked for beyond that is
    /// set afterwards. Field by field: as a whole it would be made on the stack first.
    #[inline(always)]
    pub fn reset(&mut self, kind: FlowKind, to: Tuple<A>) {
        self.kind = kind;
        self.to = to;
        self.ports = PortRange::NONE;
        self.leg = Leg::NODE;
        self.exit = 0;
        self.from_node = false;
        self.publish = 0;
        self.client = 0;
        self.options = 0;
        self.maps = false;
        self.calls = false;
        self.keeps = false;
    }

    /// Whether an endpoint calls another one.
    #[inline(always)]
    pub const fn hairpin(&self) -> bool {
        matches!(self.kind, FlowKind::Hairpin)
    }

    /// Who begins it, as far as that is an endpoint.
    #[inline(always)]
    pub const fn beginner(&self) -> &Leg {
        if self.hairpin() {
            &self.caller
        } else {
            &self.leg
        }
    }

    /// Whether it has neither ports nor identifiers.
    #[inline(always)]
    pub const fn is_by_address(&self) -> bool {
        !translates(self.to.proto)
    }

    /// Whether the node's own flow asks for the very port it has.
    #[inline(always)]
    pub fn own(&self, p: &Packet<A>, port: Be16) -> bool {
        matches!(self.kind, FlowKind::Node) && port == p.tuple.sport
    }

    /// Whether the first packet goes from the inside to the outside.
    #[inline(always)]
    pub const fn outward(&self) -> bool {
        match self.kind {
            FlowKind::Masquerade | FlowKind::Forward | FlowKind::Node => true,
            FlowKind::Publish | FlowKind::Hairpin | FlowKind::Inbound => false,
            FlowKind::Floating => self.exit != 0,
        }
    }
}
