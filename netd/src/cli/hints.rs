//! One sentence for each drop reason: what it means for the person who reads `netd stats`.

use netd_common::reason::DropReason;

/// What to make of a reason by its name. A name this netd does not know comes from another version.
pub fn of(name: &str) -> &'static str {
    DropReason::ALL.iter().find(|r| r.name() == name).map_or(
        "not known to this version of the command line, see `netd version`",
        |r| text(*r),
    )
}

#[expect(clippy::too_many_lines, reason = "one line, or three, for each reason")]
const fn text(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Truncated => {
            "the frame is shorter than the headers it claims: its sender is broken or probing"
        }
        DropReason::BadHeader => {
            "IP version and EtherType disagree, or the IPv4 header is too short"
        }
        DropReason::BadLength => {
            "the IP length does not fit the frame: its sender is broken or probing"
        }
        DropReason::BadL4 => "the TCP or UDP header is malformed: its sender is broken or probing",
        DropReason::ExtHeaders => "more IPv6 extension headers than netd follows",
        DropReason::SpoofedMac => {
            "a source MAC that is not the endpoint's own; attach it with --macs if it holds several"
        }
        DropReason::SpoofedIp => {
            "an endpoint sent from an address netd did not give it, see `netd endpoint inspect`"
        }
        DropReason::SpoofedArp => "an endpoint answered ARP for an address that is not its own",
        DropReason::SpoofedNd => {
            "an endpoint spoke neighbour discovery for an address that is not its own"
        }
        DropReason::EtherType => "neither IPv4, IPv6 nor ARP; netd carries nothing else",
        DropReason::Martian => {
            "a source or destination that must never be on a wire, such as loopback"
        }
        DropReason::NoPort => {
            "a device netd has no entry for; normal for a moment during attach and detach"
        }
        DropReason::UnknownHost => "nobody on the network has this address, see `netd endpoint ls`",
        DropReason::Isolated => {
            "the destination is on another network; create both with --no-isolation to allow it"
        }
        DropReason::Internal => "the network was created with --internal and has no outside",
        DropReason::NoRoute => "the node has no route to the destination, see `ip route get`",
        DropReason::NotUplink => {
            "the node's route leaves by a device that is not an uplink, see `netd daemon --uplink`"
        }
        DropReason::NoUplinkAddress => {
            "the uplink has no address of this family to masquerade with, see `netd status`"
        }
        DropReason::TtlExceeded => "time to live ran out: a routing loop, or traceroute at work",
        DropReason::TooBig => {
            "larger than the MTU of the way out; who must not be cut was told, docs/drops.md names what else"
        }
        DropReason::NoPortFree => {
            "no outside port is free for a new flow, widen [masquerade] ports in the configuration"
        }
        DropReason::FlowTableFull => {
            "the flow table is full, raise [flows] entries in the configuration"
        }
        DropReason::TcpNoFlow => {
            "TCP in the middle of a connection netd does not know: it expired, or was flushed"
        }
        DropReason::NatProtocol => {
            "a protocol whose checksum covers the addresses, or that cannot be masqueraded"
        }
        DropReason::NatIcmp => "an ICMP message masquerade cannot translate",
        DropReason::NatFragment => {
            "a fragment whose conversation has ended, or that cannot be translated"
        }
        DropReason::BadFragment => {
            "a fragment that overlaps the first or hides its ports: its sender is broken or probing"
        }
        DropReason::FragLimit => {
            "too many fragments came before the first of their datagrams, or one too large to wait"
        }
        DropReason::FragTimeout => {
            "the first fragment of a datagram was lost: its others waited for it in vain"
        }
        DropReason::Denied => "the source is on the deny list of the configuration",
        DropReason::Helper => "the kernel refused, usually for lack of memory",
        DropReason::FlowRace => {
            "the flow ended while this packet was under way; its sender tries again"
        }
        DropReason::NotOurs => {
            "sent into the node's side of a network by something other than netd's programs"
        }
        DropReason::SourceRefused => {
            "the port is published for other sources only (--from), see `netd published`"
        }
        DropReason::Unpublished => {
            "from outside straight to an endpoint's address; publish the port instead"
        }
        DropReason::FlowLimit => {
            "the endpoint has as many flows as it may: it floods or is flooded, or raise [flows] per_endpoint"
        }
        DropReason::Reflected => {
            "it would go back where it came from; two devices may share a MAC, see `netd fdb ls`"
        }
        DropReason::SourceRoute => {
            "the sender chose the way itself (source route); nobody needs that any more"
        }
        DropReason::DhcpServer => {
            "an endpoint answered DHCP clients; netd gives addresses, stop the server in it"
        }
        DropReason::InvalidMac => "a source MAC that nobody can have: a group, or all zero",
        DropReason::MacLimit => {
            "more MACs behind the endpoint than its --macs allows, see `netd fdb ls`"
        }
        DropReason::ReservedGroup => {
            "a group that stays on its link (LACP, 802.1X, LLDP, pause): no bridge passes it on"
        }
        DropReason::BadIcmp => {
            "an ICMP error that is damaged, or quotes what its receiver never sent: forged, or a bad router"
        }
        DropReason::SpoofedIcmp => {
            "an endpoint sent an ICMP error about a packet that was not for it: it tries to break others"
        }
        DropReason::Filtered => {
            "from outside to a port an endpoint talks from, but its filter does not let this source in"
        }
        DropReason::NatAmbiguous => {
            "a protocol without ports that another endpoint already speaks with this remote address"
        }
        DropReason::UnsolicitedSyn => {
            "a connection from outside to a port of masquerade that nobody has now: a scan, or too late"
        }
        DropReason::Storm => {
            "more floods than the network's --storm allows: a loop, a scan, or very loud multicast"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_hint_of_its_own_in_one_short_line() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in DropReason::ALL {
            let hint = of(reason.name());
            assert!(
                !hint.contains('\n') && hint.len() < 110,
                "{}: {hint}",
                reason.name()
            );
            assert!(seen.insert(hint), "{}: the same hint twice", reason.name());
        }
        assert!(of("from_the_future").contains("netd version"));
    }
}
