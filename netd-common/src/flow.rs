//! The life of a flow: what TCP has said, how long silence may last, when it is over.

use bytemuck::{Pod, Zeroable};

use crate::addr::Addr;
use crate::maps::{Dir, Flow, FlowKind, Usage, flow_flags};
use crate::tuple::proto;
use crate::wire::tcp_flag;

/// What one direction of a TCP connection has sent so far: bits of [`Flow::seen`].
pub mod seen {
    /// A SYN.
    pub const SYN: u8 = 1;
    /// A FIN.
    pub const FIN: u8 = 1 << 1;
    /// A RST.
    pub const RST: u8 = 1 << 2;
    /// A segment that acknowledges.
    pub const ACK: u8 = 1 << 3;
}

/// `seen` after a segment with these TCP flags.
#[inline(always)]
pub const fn note(seen_before: u8, flags: u8) -> u8 {
    let mut s = seen_before;
    if flags & tcp_flag::SYN != 0 {
        s |= seen::SYN;
    }
    if flags & tcp_flag::FIN != 0 {
        s |= seen::FIN;
    }
    if flags & tcp_flag::RST != 0 {
        s |= seen::RST;
    }
    if flags & tcp_flag::ACK != 0 {
        s |= seen::ACK;
    }
    s
}

/// Whether a segment begins a connection: SYN, and none of ACK, RST, FIN.
#[inline(always)]
pub const fn begins(flags: u8) -> bool {
    flags & (tcp_flag::SYN | tcp_flag::ACK | tcp_flag::RST | tcp_flag::FIN) == tcp_flag::SYN
}

/// State of a flow, from both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// TCP: only the first side has spoken.
    SynSent,
    /// TCP: both sides have spoken, the handshake is not over.
    SynReceived,
    /// TCP: open.
    Established,
    /// TCP: one side has closed.
    Closing,
    /// TCP: both sides have closed, or one has reset.
    Closed,
    /// Not TCP: no reply yet.
    New,
    /// Not TCP: both directions have been used.
    Replied,
}

impl State {
    /// The name users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::New => "new",
            Self::Replied => "replied",
        }
    }
}

/// State of a TCP connection by what both directions have sent.
#[inline(always)]
pub const fn tcp_state(original: u8, reply: u8) -> State {
    let (either, both) = (original | reply, original & reply);
    if either & seen::RST != 0 || both & seen::FIN != 0 {
        State::Closed
    } else if either & seen::FIN != 0 {
        State::Closing
    } else if reply == 0 {
        State::SynSent
    } else if original & seen::ACK == 0 {
        State::SynReceived
    } else {
        State::Established
    }
}

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// An entry whose other half is missing may just be in the making; after this long it is not.
pub const HALF_MADE: u64 = 5 * SECOND;

/// How long the data path waits before it looks for flows that are over once more.
pub const SWEEP_EVERY: u64 = SECOND;

/// How long a flow may be silent before it ends, in nanoseconds. In a map: [`crate::maps::Limits`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Timeouts {
    /// TCP before the handshake is over (RFC 5382 REQ-5: transitory, 4 minutes at least).
    pub tcp_transitory: u64,
    /// Open TCP (RFC 5382 REQ-5: 2 hours 4 minutes at least).
    pub tcp_established: u64,
    /// TCP with one side closed.
    pub tcp_closing: u64,
    /// TCP that is over; with the strict profile it is transitory instead (RFC 7857 section 2.1).
    pub tcp_closed: u64,
    /// UDP (RFC 4787 REQ-5: 5 minutes recommended), and protocols without ports.
    pub udp: u64,
    /// Echo (RFC 5508 REQ-2: 60 seconds at least).
    pub echo: u64,
}

impl Timeouts {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        tcp_transitory: 240 * SECOND,
        tcp_established: 7_440 * SECOND,
        tcp_closing: 240 * SECOND,
        tcp_closed: 10 * SECOND,
        udp: 300 * SECOND,
        echo: 60 * SECOND,
    };

    /// The time-out of a protocol in a state. `strict`: the flow is of that profile.
    pub const fn of(&self, protocol: u8, state: State, strict: bool) -> u64 {
        match state {
            State::Closed if strict => self.tcp_transitory,
            State::SynSent | State::SynReceived => self.tcp_transitory,
            State::Established => self.tcp_established,
            State::Closing => self.tcp_closing,
            State::Closed => self.tcp_closed,
            State::New | State::Replied => match protocol {
                proto::ICMP | proto::ICMPV6 => self.echo,
                _ => self.udp,
            },
        }
    }

    /// The shortest time-out of a protocol: a flow of which one entry is younger is not over.
    pub const fn shortest(&self, protocol: u8) -> u64 {
        match protocol {
            proto::TCP => {
                let (open, shut) = (
                    min(self.tcp_established, self.tcp_transitory),
                    min(self.tcp_closing, self.tcp_closed),
                );
                min(open, shut)
            }
            proto::ICMP | proto::ICMPV6 => self.echo,
            _ => self.udp,
        }
    }
}

const fn min(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

const fn max(a: u64, b: u64) -> u64 {
    if a < b { b } else { a }
}

/// Whether the two entries are the halves of one flow: both keys lead to each other in the table, so
/// what is left to tell is that they began together.
#[inline(always)]
pub const fn is_pair<A: Addr>(original: &Flow<A>, reply: &Flow<A>) -> bool {
    original.created == reply.created
        && original.dir == Dir::Original.code()
        && reply.dir == Dir::Reply.code()
}

/// Whether an entry without its other half will never get one.
#[inline(always)]
pub const fn is_left_over<A: Addr>(half: &Flow<A>, now: u64) -> bool {
    now.saturating_sub(half.created) > HALF_MADE
}

/// How many flows an endpoint is counted with, and how many it has: `counted` before and after the table
/// was read, `found` in it. Counts are kept by the programs alone; should they ever differ from the
/// table while nothing moves, and differ `again` as they did when it was last read, the table is right.
pub fn recount<T: Copy + PartialEq>(counted: (T, T), found: T, again: Option<(T, T)>) -> Option<T> {
    let (before, after) = counted;
    let still = before == after && again == Some((before, found));
    (still && found != before).then_some(found)
}

/// Whether an endpoint that is counted with these flows may have one more; `called`: somebody outside begins
/// it. A quarter of the limit stays for what the endpoint begins itself: else whoever reaches one of its ports
/// could keep it from calling anybody.
#[inline(always)]
pub const fn has_room(used: Usage, limit: u64, called: bool) -> bool {
    used.flows < limit && (!called || used.called < limit - limit / 4)
}

/// When a flow last had a packet that keeps it, by both of its entries. Packets of both directions do. Where the
/// flow came in by a mapping it is those of the inside alone, and among them no mere refusal: whoever is
/// outside could hold the mapping for ever (RFC 4787 section 4.3, RFC 7857 section 7.1).
#[inline(always)]
const fn kept_at<A: Addr>(original: &Flow<A>, reply: &Flow<A>) -> u64 {
    if original.kind != FlowKind::Inbound.code() {
        return max(original.last_seen, reply.last_seen);
    }
    let answered = if original.to.proto == proto::TCP {
        reply.seen & seen::SYN != 0
    } else {
        reply.packets > 0
    };
    if answered {
        max(original.created, reply.last_seen)
    } else {
        original.created
    }
}

/// The earliest time at which [`life`] may take a flow for silent, by its original entry alone.
#[inline(always)]
pub const fn silent_since<A: Addr>(original: &Flow<A>) -> u64 {
    if original.kind == FlowKind::Inbound.code() {
        original.created
    } else {
        original.last_seen
    }
}

/// What both entries of a flow say together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// Its state.
    pub state: State,
    /// Nanoseconds since the last packet that keeps it.
    pub idle: u64,
    /// Nanoseconds until it expires; 0: it has.
    pub left: u64,
}

/// Judges a flow at `now` (`CLOCK_MONOTONIC`, ns) by its original and its reply entry.
#[inline(always)]
pub fn life<A: Addr>(original: &Flow<A>, reply: &Flow<A>, now: u64, timeouts: &Timeouts) -> Life {
    let protocol = original.to.proto;
    let state = if protocol == proto::TCP {
        tcp_state(original.seen, reply.seen)
    } else if reply.packets == 0 {
        State::New
    } else {
        State::Replied
    };
    let strict = original.flags & flow_flags::STRICT != 0;
    let idle = now.saturating_sub(kept_at(original, reply));
    Life {
        state,
        idle,
        left: timeouts.of(protocol, state, strict).saturating_sub(idle),
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;
    use crate::addr::V4;
    use tcp_flag::{ACK, FIN, RST, SYN};

    #[test]
    fn flags_are_noted_one_by_one_and_stay() {
        for (flag, bit) in [
            (SYN, seen::SYN),
            (FIN, seen::FIN),
            (RST, seen::RST),
            (ACK, seen::ACK),
        ] {
            assert_eq!(note(0, flag), bit);
            assert_eq!(note(0xf0, flag), 0xf0 | bit);
            assert_eq!(note(bit, flag), bit);
            assert_eq!(note(bit, 0), bit);
        }
        assert_eq!(note(0, 0x08 | 0x20), 0, "PSH and URG do not count");
    }

    #[test]
    fn only_a_plain_syn_begins() {
        assert!(begins(SYN) && begins(SYN | 0xc0));
        for f in [0, ACK, SYN | ACK, SYN | RST, SYN | FIN, RST, FIN | ACK] {
            assert!(!begins(f), "{f:#x}");
        }
    }

    #[test]
    fn a_connections_states_in_order() {
        let (mut o, mut r) = (note(0, SYN), 0);
        assert_eq!(tcp_state(o, r), State::SynSent);
        r = note(r, SYN | ACK);
        assert_eq!(tcp_state(o, r), State::SynReceived);
        o = note(o, ACK);
        assert_eq!(tcp_state(o, r), State::Established);
        let half = note(o, FIN | ACK);
        assert_eq!(tcp_state(half, r), State::Closing);
        assert_eq!(tcp_state(o, note(r, FIN)), State::Closing);
        assert_eq!(tcp_state(half, note(r, FIN)), State::Closed);
        assert_eq!(tcp_state(o, note(r, RST)), State::Closed);
        assert_eq!(tcp_state(note(o, RST), r), State::Closed);
        let reset = tcp_state(note(o, RST), note(r, RST));
        assert_eq!(reset, State::Closed, "by both sides at once");
    }

    #[test]
    fn names_differ() {
        let all = [
            State::SynSent,
            State::SynReceived,
            State::Established,
            State::Closing,
            State::Closed,
            State::New,
            State::Replied,
        ];
        let names: std::collections::BTreeSet<_> = all.iter().map(|s| s.name()).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(State::Established.name(), "established");
    }

    #[test]
    fn time_outs_by_protocol_and_state() {
        let t = Timeouts {
            tcp_transitory: 1,
            tcp_established: 2,
            tcp_closing: 3,
            tcp_closed: 4,
            udp: 5,
            echo: 6,
        };
        let of = |p, s| t.of(p, s, false);
        assert_eq!(of(6, State::SynSent), 1);
        assert_eq!(of(6, State::SynReceived), 1);
        assert_eq!(of(6, State::Established), 2);
        assert_eq!(of(6, State::Closing), 3);
        assert_eq!(of(6, State::Closed), 4);
        assert_eq!((of(17, State::New), of(17, State::Replied)), (5, 5));
        assert_eq!((of(1, State::New), of(58, State::Replied)), (6, 6));
        assert_eq!((of(47, State::New), of(132, State::Replied)), (5, 5));
        assert_eq!(t.of(6, State::Closed, true), 1, "strict: transitory");
        for state in [State::Established, State::Closing, State::SynSent] {
            assert_eq!(t.of(6, state, true), of(6, state));
        }
    }

    #[test]
    fn defaults_keep_to_the_rfcs() {
        let t = Timeouts::DEFAULT;
        assert!(t.tcp_established >= (2 * 3600 + 4 * 60) * SECOND);
        assert!(t.tcp_transitory >= 240 * SECOND && t.tcp_closing >= 240 * SECOND);
        assert!(t.udp >= 300 * SECOND && t.echo >= 60 * SECOND);
        assert_eq!(t.tcp_closed, 10 * SECOND, "late segments still find it");
        assert_eq!(SECOND, 1_000_000_000);
    }

    #[test]
    fn the_shortest_time_out_is_of_the_protocol() {
        let t = Timeouts {
            tcp_transitory: 12,
            tcp_established: 13,
            tcp_closing: 14,
            tcp_closed: 15,
            udp: 5,
            echo: 6,
        };
        assert_eq!((t.shortest(17), t.shortest(1), t.shortest(58)), (5, 6, 6));
        assert_eq!(t.shortest(50), 5);
        assert_eq!(t.shortest(6), 12);
        let fields: [fn(&mut Timeouts) -> &mut u64; 4] = [
            |t| &mut t.tcp_transitory,
            |t| &mut t.tcp_established,
            |t| &mut t.tcp_closing,
            |t| &mut t.tcp_closed,
        ];
        for field in fields {
            let mut t = t;
            *field(&mut t) = 7;
            assert_eq!(t.shortest(6), 7);
        }
    }

    #[test]
    fn halves_are_a_pair_when_they_began_together_and_face_each_other() {
        let half = |created, dir: Dir| {
            let mut f = flow(17, 0, 0, 0);
            (f.created, f.dir) = (created, dir.code());
            f
        };
        let (o, r) = (half(9, Dir::Original), half(9, Dir::Reply));
        assert!(is_pair(&o, &r));
        assert!(!is_pair(&r, &o) && !is_pair(&o, &o) && !is_pair(&r, &r));
        assert!(!is_pair(&o, &half(8, Dir::Reply)));
    }

    #[test]
    fn a_half_is_left_over_when_nobody_can_still_be_making_it() {
        let mut half = flow(17, 0, 0, 0);
        half.created = 100;
        assert!(!is_left_over(&half, 100) && !is_left_over(&half, 100 + 5 * SECOND));
        assert!(is_left_over(&half, 101 + 5 * SECOND));
        assert!(!is_left_over(&half, 0), "a clock read on another CPU");
    }

    #[test]
    fn a_count_is_put_right_when_it_was_wrong_twice_and_nothing_moved() {
        assert_eq!(recount((5, 5), 3, Some((5, 3))), Some(3));
        assert_eq!(recount((3, 3), 5, Some((3, 5))), Some(5));
        assert_eq!(recount((5, 5), 3, None), None, "seen once");
        assert_eq!(recount((5, 5), 3, Some((5, 4))), None, "something moved");
        assert_eq!(recount((5, 5), 3, Some((4, 3))), None, "something moved");
        assert_eq!(recount((5, 6), 3, Some((5, 3))), None, "it moves");
        assert_eq!(recount((5, 5), 5, Some((5, 5))), None, "it is right");
    }

    fn flow(protocol: u8, last_seen: u64, packets: u64, seen: u8) -> Flow<V4> {
        let mut f = Flow::<V4>::zeroed();
        f.to.proto = protocol;
        f.last_seen = last_seen;
        f.packets = packets;
        f.seen = seen;
        f
    }

    #[test]
    fn what_is_over_stays_longer_with_the_strict_profile() {
        let mut f = flow(6, 0, 1, seen::RST);
        let left = |f: &Flow<V4>| life(f, &flow(6, 0, 1, 0), 0, &Timeouts::DEFAULT).left;
        assert_eq!(left(&f), 10 * SECOND);
        f.flags = flow_flags::STRICT;
        assert_eq!(left(&f), 240 * SECOND);
    }

    #[test]
    fn what_came_in_by_a_mapping_is_kept_by_the_inside_alone() {
        let t = Timeouts {
            udp: 100,
            tcp_transitory: 200,
            tcp_established: 400,
            ..Timeouts::DEFAULT
        };
        let came_in = |mut f: Flow<V4>| {
            (f.kind, f.created) = (FlowKind::Inbound.code(), 1_000);
            f
        };
        let left = |o, r, now| life(&came_in(o), &r, now, &t).left;
        let idle = |o, r| life(&came_in(o), &r, 1_050, &t).idle;
        // Nobody inside has answered: it lasts from its beginning on.
        assert_eq!(
            left(flow(17, 1_040, 9, 0), flow(17, 1_000, 0, 0), 1_050),
            50
        );
        assert_eq!(idle(flow(17, 1_040, 9, 0), flow(17, 1_020, 1, 0)), 30);
        // A RST is no answer, a SYN is.
        let syn = note(0, SYN);
        assert_eq!(
            idle(
                flow(6, 1_040, 9, syn),
                flow(6, 1_040, 3, note(0, RST | ACK))
            ),
            50
        );
        let answer = note(0, SYN | ACK);
        assert_eq!(idle(flow(6, 1_049, 9, syn), flow(6, 1_040, 3, answer)), 10);
        assert_eq!(silent_since(&came_in(flow(17, 1_040, 9, 0))), 1_000);
        assert_eq!(silent_since(&flow(17, 1_040, 9, 0)), 1_040);
    }

    #[test]
    fn a_quarter_of_the_limit_is_for_what_an_endpoint_begins_itself() {
        let used = |flows, called| Usage { flows, called };
        for (limit, outside) in [(1, 1), (3, 3), (4, 3), (8, 6), (100, 75)] {
            for n in 0..=limit {
                assert_eq!(
                    has_room(used(n, n), limit, true),
                    n < outside,
                    "{n} of {limit}"
                );
                assert_eq!(has_room(used(n, n), limit, false), n < limit);
            }
            assert!(
                !has_room(used(limit, 0), limit, true),
                "the limit is for all"
            );
        }
        assert!(has_room(used(99, 0), 100, true) && !has_room(used(75, 75), 100, true));
    }

    #[test]
    fn a_flow_lives_while_either_direction_speaks() {
        let t = Timeouts {
            udp: 100,
            ..Timeouts::DEFAULT
        };
        let l = life(&flow(17, 50, 1, 0), &flow(17, 10, 0, 0), 60, &t);
        assert_eq!(
            l,
            Life {
                state: State::New,
                idle: 10,
                left: 90
            }
        );
        let l = life(&flow(17, 10, 1, 0), &flow(17, 50, 1, 0), 60, &t);
        assert_eq!(
            l,
            Life {
                state: State::Replied,
                idle: 10,
                left: 90
            }
        );
        let l = life(&flow(17, 10, 1, 0), &flow(17, 20, 1, 0), 120, &t);
        assert_eq!((l.idle, l.left), (100, 0));
        let l = life(&flow(17, 10, 1, 0), &flow(17, 20, 1, 0), 119, &t);
        assert_eq!((l.idle, l.left), (99, 1));
        let l = life(&flow(17, 10, 1, 0), &flow(17, 20, 1, 0), 5, &t);
        assert_eq!(
            (l.idle, l.left),
            (0, 100),
            "a clock read on another CPU may lag"
        );
        let l = life(&flow(6, 10, 1, note(0, SYN)), &flow(6, 0, 0, 0), 10, &t);
        assert_eq!(l.state, State::SynSent);
    }
}
