//! What may differ between netd and the kernel with netfilter, and why. A difference that no probe shows any
//! more is to be removed: the suite fails until it is.

use super::outcome::Outcome;
use super::probe::{Dest, Kind, Probe};
use super::side::Who;

/// A difference.
pub struct Difference {
    /// Its name.
    pub name: &'static str,
    /// Why it is right.
    pub reason: &'static str,
    /// Whether a probe's outcomes, kernel's and netd's, differ by it.
    pub is: fn(&Probe, &Outcome, &Outcome) -> bool,
}

/// All of them; the first that fits names a difference.
pub const ALL: &[Difference] = &[
    Difference {
        name: "unpublished",
        reason: "from outside only published ports of an endpoint are reached; the kernel forwards to whatever \
                 it has a route to, until somebody writes a rule",
        is: |probe, _, netd| {
            probe.from == Who::Outside && matches!(probe.to, Dest::Endpoint(_)) && netd.is_empty()
        },
    },
    Difference {
        name: "leaks",
        reason: "what conntrack finds invalid or cannot translate leaves the kernel with the endpoint's own \
                 address; nothing of a masqueraded network leaves netd with such a one",
        is: |probe, kernel, netd| {
            let own = |outcome: &Outcome| {
                let to_outside = outcome.of(Who::Outside);
                to_outside
                    .iter()
                    .any(|l| l.starts_with(&format!("{} > ", probe.from.name())))
            };
            let translated = netd.is_empty() || netd.says("node > ");
            probe.outward() && own(kernel) && !own(netd) && translated
        },
    },
    Difference {
        name: "begins nothing",
        reason: "conntrack takes up a connection in its middle (tcp_loose), and routing judges what belongs to \
                 nothing: netd drops a segment or an answer of no flow before it looks further",
        is: |probe, _, netd| {
            let begins_nothing = matches!(probe.kind, Kind::Ack | Kind::Rst | Kind::EchoReply);
            let reaches = |who| who != probe.from && !netd.of(who).is_empty();
            let others = Who::ALL.into_iter().any(reaches);
            begins_nothing && (probe.outward() && netd.is_empty() || probe.published() && !others)
        },
    },
    Difference {
        name: "silence about no route",
        reason: "the kernel rations what it says of routes that lead nowhere, IPv4 only, apart from other errors",
        is: |probe, kernel, netd| {
            probe.to == Dest::Unrouted && !probe.v6 && kernel.is_empty() && netd.says("icmp 3/1")
        },
    },
    Difference {
        name: "calls itself",
        reason: "the kernel's bridge hands nothing back to the port it came from, so an endpoint does not reach the \
                 port that it published itself; in netd it does",
        is: |probe, kernel, netd| {
            probe.published() && probe.from == Who::A && kernel.is_empty() && !netd.is_empty()
        },
    },
    Difference {
        name: "wrong checksum",
        reason: "conntrack translates nothing with a wrong checksum, so the node itself gets what was for a \
                 published port; netd leaves the payload to its receiver, and keeps the error as it is",
        is: |probe, kernel, netd| {
            let told = netd.says("icmp 11/0 ") || netd.says("icmp 3/0 ");
            probe.kind == Kind::UdpWrong
                && probe.published()
                && kernel.is_empty()
                && (told || netd.says("wrong checksum") || netd.says("fragment"))
        },
    },
    Difference {
        name: "by address",
        reason: "the kernel tells SCTP associations apart by their ports; netd masquerades it by address, so what the \
                 remote host sends to the node is for the endpoint that speaks with it, and for no other",
        is: |probe, _, netd| {
            let to_it =
                probe.from == Who::Outside && probe.to == Dest::Node && netd.says("outside > ");
            matches!(probe.kind, Kind::Sctp | Kind::Gre)
                && (to_it || probe.outward() && netd.is_empty())
        },
    },
    Difference {
        name: "GRE over IPv6",
        reason: "the kernel's NAT has no GRE for IPv6; netd masquerades it by address like any other",
        is: |probe, kernel, netd| {
            probe.kind == Kind::Gre
                && probe.v6
                && probe.outward()
                && kernel.is_empty()
                && netd.says("protocol 47")
        },
    },
    Difference {
        name: "tiny fragments",
        reason: "a first fragment without its whole L4 header hides ports (RFC 1858): netd drops it wherever it would \
                 have to translate or to route",
        is: |probe, _, netd| {
            let short = matches!(probe.kind, Kind::Syn | Kind::Ack | Kind::Rst | Kind::Sctp);
            probe.fragments && short && netd.is_empty()
        },
    },
    Difference {
        name: "who speaks",
        reason: "of a packet for a published port that has come too far the kernel speaks with the address that was \
                 called, netd with that of the device the answer leaves by (RFC 1812 section 4.3.2.4)",
        is: |probe, kernel, netd| {
            let gateway = netd.says("gateway1 > ") || netd.says("gateway2 > ");
            let over = |outcome: &Outcome| outcome.says("icmp 11/0 ") || outcome.says("icmp 3/0 ");
            probe.published() && over(kernel) && over(netd) && kernel.says("node > ") && gateway
        },
    },
    Difference {
        name: "hairpin source",
        reason: "an endpoint that calls a published port is seen with the uplink's address by every server; \
                 the kernel has that of the server's bridge, and hands on within a bridge without a hop",
        is: |probe, kernel, netd| {
            let hops = probe.ttl == 1 && netd.says("icmp 11/0 ") | netd.says("icmp 3/0 ");
            probe.published()
                && probe.from != Who::Outside
                && kernel
                    .of(Who::A)
                    .iter()
                    .any(|l| l.starts_with("gateway1 > a"))
                && (hops || netd.of(Who::A).iter().any(|l| l.starts_with("node > a")))
        },
    },
    Difference {
        name: "fragments stay",
        reason: "conntrack puts a datagram together before anything else, and the kernel sends it on whole where it \
                 fits; netd hands each fragment on as it comes",
        is: |probe, kernel, netd| {
            let ends = |outcome: &Outcome| -> Vec<String> {
                let lines = outcome.0.iter().flat_map(|(who, lines)| {
                    lines
                        .iter()
                        .map(|l| format!("{} {}", who.name(), l.split(" ttl").next().unwrap_or("")))
                });
                let mut all: Vec<String> = lines.collect();
                all.dedup();
                all
            };
            probe.fragments && ends(kernel) == ends(netd)
        },
    },
];
