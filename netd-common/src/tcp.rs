//! What each direction of a TCP connection has said, and which resets are believed.

use crate::flow::{note, seen};
use crate::wire::{Segment, tcp_flag};

/// What one direction of a TCP connection has said: the fields of its [`Flow`](crate::maps::Flow).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Said {
    /// [`seen`].
    pub seen: u8,
    /// The sequence number behind the last byte.
    pub next: u32,
    /// The last acknowledgement.
    pub ack: u32,
}

/// How far behind what the peer has acknowledged a segment that ends something may lie, in bytes: what a
/// direction has said of itself is not proof enough, as one forged segment far ahead says it too.
const REACH: u32 = 1 << 20;

/// Whether sequence number `a` comes after `b` (RFC 9293 section 3.4: numbers wrap).
#[inline(always)]
const fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

impl Said {
    /// After one more segment, which is not a RST. A direction that goes on after its RST has not sent that
    /// (RFC 6146 section 3.5.2.2, TRANS: back to ESTABLISHED).
    #[inline(always)]
    #[must_use]
    pub const fn and(self, flags: u8, segment: Segment) -> Self {
        let end = segment.end();
        let newer_end = self.seen == 0 || after(end, self.next);
        let newer_ack = flags & tcp_flag::ACK != 0
            && (self.seen & seen::ACK == 0 || after(segment.ack, self.ack));
        Self {
            seen: note(self.seen & !seen::RST, flags),
            next: if newer_end { end } else { self.next },
            ack: if newer_ack { segment.ack } else { self.ack },
        }
    }

    /// Whether a RST of this direction can be meant: anybody on the Internet can send one that looks like it
    /// comes from here (RFC 7857 section 2.1, RFC 5961). `peer` is what the other side has said. An answer to
    /// the peer's SYN has no number of its own but acknowledges that SYN; else its number lies between what
    /// the peer has acknowledged and what was sent.
    #[inline(always)]
    pub const fn may_reset(self, peer: Self, flags: u8, segment: Segment) -> bool {
        if self.seen == 0 {
            return flags & tcp_flag::ACK != 0 && segment.ack == peer.next;
        }
        let ahead = segment.seq.wrapping_sub(self.least(peer));
        ahead <= REACH && !after(segment.seq, self.next)
    }

    /// Whether a FIN of this direction can be meant, which would let the connection be forgotten in minutes:
    /// as with a RST, but that what it carries may be new.
    #[inline(always)]
    pub const fn may_finish(self, peer: Self, segment: Segment) -> bool {
        segment.end().wrapping_sub(self.least(peer)) <= REACH
    }

    /// The sequence number that is expected next by a peer who has said that.
    #[inline(always)]
    const fn least(self, peer: Self) -> u32 {
        if peer.seen & seen::ACK == 0 {
            self.next
        } else {
            peer.ack
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tcp_flag::{ACK, FIN, RST, SYN};

    use super::*;

    fn segment(seq: u32, ack: u32, len: u32) -> Segment {
        Segment { seq, ack, len }
    }

    /// A connection that is open: 1000 bytes there, all but 100 of them acknowledged, nothing back.
    /// `first` and `peers` are the sequence numbers of the two SYNs.
    fn open(first: u32, peers: u32) -> (Said, Said) {
        let one = peers.wrapping_add(1);
        let a = Said::default()
            .and(SYN, segment(first, 0, 1))
            .and(ACK, segment(first.wrapping_add(1), one, 1000));
        let b = Said::default()
            .and(SYN | ACK, segment(peers, first.wrapping_add(1), 1))
            .and(ACK, segment(one, first.wrapping_add(901), 0));
        (a, b)
    }

    #[test]
    fn what_was_sent_and_acknowledged_only_grows() {
        let (a, b) = open(500, 70);
        assert_eq!((a.next, a.ack), (1501, 71));
        assert_eq!((b.next, b.ack), (71, 1401));
        assert_eq!(a.and(ACK, segment(501, 60, 10)), a, "sent again, and old");
        assert_eq!(a.and(0, segment(1501, 99, 5)).ack, 71, "no ACK flag");
        let on = a.and(FIN | ACK, segment(1501, 72, 6));
        assert_eq!((on.next, on.ack), (1507, 72));
        assert_eq!(on.seen, seen::SYN | seen::ACK | seen::FIN);
        let wide = Said::default().and(SYN | ACK, segment(0x9000_0000, 0x9000_0000, 1));
        assert_eq!(
            (wide.next, wide.ack),
            (0x9000_0001, 0x9000_0000),
            "the first counts as it is"
        );
    }

    #[test]
    fn a_reset_counts_only_between_what_was_acknowledged_and_what_was_sent() {
        for (first, peers) in [(500, 70), (u32::MAX - 700, u32::MAX)] {
            let (a, b) = open(first, peers);
            let at = |seq| a.may_reset(b, RST, segment(seq, 0, 0));
            let (least, most) = (first.wrapping_add(901), first.wrapping_add(1001));
            assert!(at(least) && at(most) && at(first.wrapping_add(950)));
            assert!(!at(least.wrapping_sub(1)) && !at(most.wrapping_add(1)));
            assert!(!at(0x7000_0000) && !at(first.wrapping_add(1 << 31)));
            // The other direction has sent nothing but its SYN, and that was acknowledged.
            let back = |seq| b.may_reset(a, RST | ACK, segment(seq, 0, 0));
            assert!(back(peers.wrapping_add(1)));
            assert!(!back(peers) && !back(peers.wrapping_add(2)));
        }
    }

    #[test]
    fn a_syn_is_refused_by_who_has_heard_it() {
        let a = Said::default().and(SYN, segment(500, 0, 1));
        let silent = Said::default();
        assert!(silent.may_reset(a, RST | ACK, segment(0, 501, 0)));
        assert!(!silent.may_reset(a, RST | ACK, segment(501, 500, 0)));
        assert!(!silent.may_reset(a, RST | ACK, segment(0, 502, 0)));
        assert!(
            !silent.may_reset(a, RST, segment(0, 501, 0)),
            "it acknowledges nothing"
        );
        // The caller gives up before it was answered.
        assert!(a.may_reset(silent, RST, segment(501, 0, 0)));
        assert!(!a.may_reset(silent, RST, segment(500, 0, 0)));
        assert!(!a.may_reset(silent, RST, segment(502, 0, 0)));
    }

    #[test]
    fn who_goes_on_has_not_sent_the_reset() {
        let (a, _) = open(500, 70);
        let reset = Said {
            seen: note(a.seen, RST),
            ..a
        };
        assert_eq!(reset.and(ACK, segment(1501, 71, 10)).seen, a.seen);
    }

    proptest! {
        #[test]
        fn a_blind_reset_hardly_ever_counts(first: u32, peers: u32, seq: u32) {
            let (a, b) = open(first, peers);
            let distance = seq.wrapping_sub(first.wrapping_add(901));
            prop_assert_eq!(a.may_reset(b, RST, segment(seq, 0, 0)), distance <= 100);
        }

        #[test]
        fn a_forged_segment_before_it_helps_it_little(
            first: u32, peers: u32, forged: u32, ack: u32, ahead in super::REACH + 1..,
        ) {
            let (a, b) = open(first, peers);
            let a = a.and(ACK, segment(forged, ack, 1));
            let seq = first.wrapping_add(901).wrapping_add(ahead);
            prop_assert!(!a.may_reset(b, RST, segment(seq, 0, 0)));
            prop_assert!(!a.may_finish(b, segment(seq, 0, 0)));
        }

        #[test]
        fn an_end_is_heard_wherever_the_peer_could_take_it(
            first: u32, peers: u32, unacknowledged in 0..super::REACH,
        ) {
            let (a, b) = open(first, peers);
            let seq = first.wrapping_add(901);
            let a = a.and(ACK, segment(seq, peers.wrapping_add(1), unacknowledged));
            let next = a.next;
            prop_assert!(a.may_reset(b, RST, segment(next, 0, 0)));
            prop_assert!(a.may_finish(b, segment(next, 0, 0)));
            prop_assert!(a.may_finish(b, segment(seq, 0, 1)));
        }
    }
}
