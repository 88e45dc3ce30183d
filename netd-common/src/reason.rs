//! Hooks and drop reasons: one list for the kernel side, the statistics and the documents.

macro_rules! codes {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)+ }) => {
        $(#[$outer])*
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant = $code,)+ }

        impl $name {
            /// Every value, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name users see.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value of a code, if there is one.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

codes! {
    /// Where a program is hooked; the first index of the `STATS` map.
    Hook {
        /// TC ingress of an endpoint's node-side device: what leaves an endpoint.
        EpOut = 0, "ep_out";
        /// TC egress of the same device: what reaches an endpoint the slow way.
        EpIn = 1, "ep_in";
        /// TC ingress of a gateway pair's inner end: node -> endpoint.
        GwOut = 2, "gw_out";
        /// TC ingress of an uplink: outside -> node.
        UpIn = 3, "up_in";
        /// TC egress of an uplink: node -> outside.
        UpOut = 4, "up_out";
        /// XDP on an uplink.
        Xdp = 5, "xdp";
    }
}

codes! {
    /// Why a packet died. `0` is no reason: it is the index under which `STATS` counts what passed.
    DropReason {
        /// The frame is shorter than the headers it claims.
        Truncated = 1, "truncated";
        /// IP version and EtherType disagree, or the IPv4 header is shorter than 20 bytes.
        BadHeader = 2, "bad_header";
        /// The IP length field does not fit the frame.
        BadLength = 3, "bad_length";
        /// TCP data offset below 5 words, or UDP length below 8 bytes.
        BadL4 = 4, "bad_l4";
        /// More IPv6 extension headers than netd follows.
        ExtHeaders = 5, "ext_headers";
        /// The source MAC is not the endpoint's.
        SpoofedMac = 6, "spoofed_mac";
        /// The source IP address does not belong to the endpoint.
        SpoofedIp = 7, "spoofed_ip";
        /// An ARP packet speaks for an address that is not the endpoint's, or is malformed.
        SpoofedArp = 8, "spoofed_arp";
        /// A neighbour advertisement or solicitation speaks for an address that is not the endpoint's.
        SpoofedNd = 9, "spoofed_nd";
        /// An EtherType that is neither IPv4, IPv6 nor ARP, or a VLAN tag.
        EtherType = 10, "ethertype";
        /// A source or destination that must never be on a wire (multicast source, loopback, unspecified).
        Martian = 11, "martian";
        /// The device has no entry in `PORT` or `UPLINK`.
        NoPort = 12, "no_port";
        /// Nobody on this network has the destination address.
        UnknownHost = 13, "unknown_host";
        /// The destination is an endpoint of another network.
        Isolated = 14, "isolated";
        /// The network has no outside (`--internal`), and the destination is there.
        Internal = 15, "internal";
        /// The node has no route to the destination.
        NoRoute = 16, "no_route";
        /// The route leaves by a device that is not an uplink of netd.
        NotUplink = 17, "not_uplink";
        /// The uplink has no address of this family to masquerade with.
        NoUplinkAddress = 18, "no_uplink_address";
        /// Time to live (hop limit) ran out.
        TtlExceeded = 19, "ttl_exceeded";
        /// Larger than the MTU of the device it would leave by.
        TooBig = 20, "too_big";
        /// No free outside port was found for a new masqueraded flow.
        NoPortFree = 21, "no_port_free";
        /// The flow table is full.
        FlowTableFull = 22, "flow_table_full";
        /// A TCP segment that does not begin a connection, of a flow netd does not know.
        TcpNoFlow = 23, "tcp_no_flow";
        /// A protocol masquerade cannot translate.
        NatProtocol = 24, "nat_protocol";
        /// An ICMP or ICMPv6 message masquerade cannot translate.
        NatIcmp = 25, "nat_icmp";
        /// A later fragment of a packet whose flow has ended.
        NatFragment = 26, "nat_fragment";
        /// The source is on the deny list.
        Denied = 27, "denied";
        /// A helper of the kernel refused (no memory, unwritable packet).
        Helper = 28, "helper";
        /// The flow's entry vanished or changed hands while it was read.
        FlowRace = 29, "flow_race";
        /// A frame for the node's side of a network sent by something other than netd's programs.
        NotOurs = 30, "not_ours";
        /// From outside straight to an endpoint's own address: only published ports are reachable.
        Unpublished = 31, "unpublished";
        /// The destination is behind the very switch port the frame came from.
        Reflected = 32, "reflected";
        /// The sender chose the way (IPv4 source route, IPv6 routing header of type 0).
        SourceRoute = 33, "source_route";
        /// An endpoint speaks to DHCP clients as only a server may.
        DhcpServer = 34, "dhcp_server";
        /// The port is published, but not for this source (`--from`).
        SourceRefused = 35, "source_refused";
        /// The source MAC is a group, or zero: nobody has such a one.
        InvalidMac = 36, "invalid_mac";
        /// More MACs behind one switch port than it may have.
        MacLimit = 37, "mac_limit";
        /// A group address that must not leave its link (01:80:c2:00:00:01 to 0f).
        ReservedGroup = 38, "reserved_group";
        /// More broadcast, multicast and unknown frames than the switch port may have flooded.
        Storm = 39, "storm";
        /// Its endpoint has as many flows as it may.
        FlowLimit = 40, "flow_limit";
        /// A fragment no sender makes, or one that could hide ports: the first without its whole L4 header,
        /// or one that overlaps the first.
        BadFragment = 41, "bad_fragment";
        /// A fragment that came before its first one and could not wait for it: too many do, or it is too large.
        FragLimit = 42, "frag_limit";
        /// A fragment that waited in vain for its first one.
        FragTimeout = 43, "frag_timeout";
        /// An ICMP error with a wrong checksum, or that quotes a header with one, or a packet its receiver did
        /// not send.
        BadIcmp = 44, "bad_icmp";
        /// An ICMP error about a packet that was not for the endpoint that sends it.
        SpoofedIcmp = 45, "spoofed_icmp";
        /// From outside to a mapping whose filter does not admit it.
        Filtered = 46, "filtered";
        /// A protocol without ports that another endpoint already speaks with this remote address.
        NatAmbiguous = 47, "nat_ambiguous";
        /// A SYN to a port that masquerade uses, but nobody has now: dropped without a word.
        UnsolicitedSyn = 48, "unsolicited_syn";
    }
}

/// Reasons per hook in `STATS`: index = hook * [`REASONS`] + code; code 0 counts passes.
pub const REASONS: u32 = 64;

impl Hook {
    /// Index into `STATS` of a verdict at this hook; `None` is "passed".
    #[inline(always)]
    pub const fn stat(self, reason: Option<DropReason>) -> u32 {
        let code = match reason {
            None => 0,
            Some(r) => r as u32,
        };
        self as u32 * REASONS + code
    }
}

/// Entries of the `STATS` map.
pub const STATS_LEN: u32 = Hook::ALL.len() as u32 * REASONS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_named_once() {
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i + 1);
            assert_eq!(DropReason::from_code(*r as u8), Some(*r));
            assert_eq!(
                DropReason::ALL
                    .iter()
                    .filter(|o| o.name() == r.name())
                    .count(),
                1
            );
        }
        assert!(DropReason::ALL.len() < REASONS as usize);
        assert_eq!(DropReason::from_code(0), None);
        assert_eq!(DropReason::from_code(200), None);
    }

    #[test]
    fn every_verdict_has_its_own_slot() {
        let mut seen = std::collections::BTreeSet::new();
        for h in Hook::ALL {
            assert!(seen.insert(h.stat(None)));
            for r in DropReason::ALL {
                assert!(seen.insert(h.stat(Some(*r))));
            }
        }
        assert!(seen.last().unwrap() < &STATS_LEN);
    }
}
