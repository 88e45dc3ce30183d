//! ICMP errors that quote a packet with a wrong transport checksum: what was quoted may have been cut or
//! changed on its way, and it is translated all the same (RFC 5508 REQ-3c).

use netd_tests::packet::{A, Family, GATEWAY, Kind, OUTSIDE, OUTSIDE_TWO, Packet, World};

/// Adds to the one's complement number at an offset (RFC 1071).
fn add(bytes: &mut [u8], at: usize, more: i32) {
    let now = i32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let sum = (now + more).rem_euclid(0xffff) as u16;
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn a_wrong_checksum_of_the_quoted_segment_is_nobodys_business() {
    World::both(|w, family| {
        let unreachable = match family {
            Family::V4 => (3, 3),
            Family::V6 => (1, 4),
        };
        for (kind, field) in [(Kind::Tcp, 16), (Kind::Udp, 6), (Kind::Echo, 2)] {
            let first = Packet::first(kind, &A, 20_100, &OUTSIDE, 80, family).to_gateway();
            w.ep_out(&A, &first).redirected();
            let sent = first.clone().hop();
            let outside = sent.clone().from_uplink(20_100);
            let mut error = Packet::error(&OUTSIDE_TWO, unreachable, &outside);
            let wanted = Packet::error(&OUTSIDE_TWO, unreachable, &sent);
            let mut wanted = wanted.delivered(&GATEWAY, &A);
            let at = first.ip_header() + field;
            add(&mut error.payload, at, 77);
            add(&mut wanted.payload, at, 77);
            w.up_in(&error).redirected().is(&wanted);
        }
    });
}
