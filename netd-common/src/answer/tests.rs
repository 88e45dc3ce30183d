//! Errors as a router makes them, against the words of the RFCs.

use proptest::prelude::*;

use super::*;
use crate::addr::V6;
use crate::checksum;
use crate::tuple::proto;

const ALL: [Hook; 6] = [
    Hook::EpOut,
    Hook::EpIn,
    Hook::GwOut,
    Hook::UpIn,
    Hook::UpOut,
    Hook::Xdp,
];

fn said<A: Addr>(reason: DropReason, detail: u32) -> Option<(u8, u8, u32)> {
    message::<A>(reason as u8, detail).map(|m| (m.kind, m.code, m.mtu))
}

/// What is told of a reason, IPv4 and IPv6.
#[track_caller]
fn both(reason: DropReason, detail: u32, v4: (u8, u8, u32), v6: (u8, u8, u32)) {
    assert_eq!(said::<V4>(reason, detail), Some(v4), "{reason:?}");
    assert_eq!(said::<V6>(reason, detail), Some(v6), "{reason:?}");
}

#[test]
fn each_reason_has_its_type_and_code() {
    both(DropReason::TtlExceeded, 9, (11, 0, 0), (3, 0, 0));
    both(DropReason::TooBig, 1_400, (3, 4, 1_400), (2, 0, 1_400));
    both(DropReason::UnknownHost, 0, (3, 1, 0), (1, 3, 0));
    for reason in [
        DropReason::NoPortFree,
        DropReason::FlowLimit,
        DropReason::FlowTableFull,
    ] {
        both(reason, 0, (3, 13, 0), (1, 1, 0));
    }
    let route = DropReason::NoRoute;
    both(route, refusal::UNREACHABLE, (3, 1, 0), (1, 0, 0));
    both(route, refusal::PROHIBIT, (3, 13, 0), (1, 1, 0));
    for other in [0, 4, 5, 6, 9] {
        both(route, other, (3, 0, 0), (1, 0, 0));
    }
    assert_eq!(said::<V4>(route, refusal::BLACKHOLE), None);
    assert_eq!(said::<V6>(route, refusal::BLACKHOLE), None);
}

#[test]
fn what_is_told_at_a_hook_has_a_message_and_the_rest_has_none() {
    for reason in DropReason::ALL {
        let told = ALL.iter().any(|hook| is_told(*hook, *reason as u8));
        assert_eq!(told, said::<V4>(*reason, 0).is_some(), "{reason:?}");
        assert_eq!(told, said::<V6>(*reason, 0).is_some(), "{reason:?}");
    }
    for hook in ALL {
        assert!(!is_told(hook, 0), "what passes");
        assert!(!is_told(hook, 64) && !is_told(hook, 255), "no code");
        let told = |reason| is_told(hook, reason as u8);
        let (out, inward) = (hook == Hook::EpOut, hook == Hook::UpIn);
        assert_eq!(told(DropReason::TooBig), out || inward);
        assert_eq!(told(DropReason::TtlExceeded), out || inward);
        // The outside does not learn what there is inside.
        assert_eq!(told(DropReason::UnknownHost), out);
        assert!(!told(DropReason::Isolated) && !told(DropReason::SpoofedIp));
    }
}

fn ip<A: Addr>(src: A, dst: A, proto: u8) -> Ip<A> {
    Ip {
        src,
        dst,
        proto,
        ttl: 1,
        tos: 0,
        l4: 34,
        end: 100,
        fragment: false,
        later: false,
    }
}

const LINK: Mac = [2, 0, 0, 0, 0, 1];

#[test]
fn only_what_one_host_sent_to_another_is_answered() {
    let (a, b) = ([10, 1, 0, 10], [203, 0, 113, 9]);
    assert!(may_tell(&ip(a, b, proto::UDP), L4::Udp, LINK));
    assert!(may_tell(&ip(a, b, proto::ICMP), L4::EchoRequest, LINK));
    assert!(!may_tell(&ip(a, b, proto::UDP), L4::Udp, [0xff; 6]));
    assert!(!may_tell(
        &ip(a, b, proto::UDP),
        L4::Udp,
        [1, 0, 0x5e, 0, 0, 1]
    ));
    for nobody in [
        [0; 4],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
        [240, 0, 0, 1],
    ] {
        assert!(!may_tell(&ip(nobody, b, proto::UDP), L4::Udp, LINK));
    }
    for many in [[224, 0, 0, 1], [255; 4]] {
        assert!(!may_tell(&ip(a, many, proto::UDP), L4::Udp, LINK));
    }
    let (a, mut group) = ([0xfd; 16], [0xff; 16]);
    group[1] = 2;
    assert!(may_tell(
        &ip::<V6>(a, [0x20; 16], proto::UDP),
        L4::Udp,
        LINK
    ));
    assert!(!may_tell(&ip::<V6>(a, group, proto::UDP), L4::Udp, LINK));
    assert!(!may_tell(&ip::<V6>([0; 16], a, proto::UDP), L4::Udp, LINK));
}

#[test]
fn no_error_is_told_about_an_error_or_about_what_may_be_one() {
    let (a, b) = ([10, 1, 0, 10], [203, 0, 113, 9]);
    for kind in 0..=255 {
        assert!(!may_tell(&ip(a, b, proto::ICMP), L4::Icmp(kind), LINK));
    }
    let mut fragment = ip(a, b, proto::UDP);
    fragment.fragment = true;
    assert!(may_tell(&fragment, L4::Fragment, LINK), "the first one");
    fragment.proto = proto::ICMP;
    assert!(
        !may_tell(&fragment, L4::Fragment, LINK),
        "nobody has looked what it is"
    );
    assert!(
        may_tell(&fragment, L4::EchoRequest, LINK),
        "the first of an echo"
    );
    assert!(!may_tell(&fragment, L4::Icmp(3), LINK));
    fragment.proto = proto::UDP;
    fragment.later = true;
    assert!(!may_tell(&fragment, L4::Fragment, LINK));
}

#[test]
fn an_mtu_that_does_not_fit_the_field_is_the_largest_that_does() {
    let m = |mtu| Message {
        kind: 3,
        code: 4,
        mtu,
    };
    assert_eq!(icmp_header::<V4>(m(1_400)), [3, 4, 0, 0, 0, 0, 5, 0x78]);
    assert_eq!(icmp_header::<V4>(m(70_000)), [3, 4, 0, 0, 0, 0, 255, 255]);
    assert_eq!(icmp_header::<V6>(m(70_000)), [3, 4, 0, 0, 0, 1, 0x11, 0x70]);
}

#[test]
fn the_way_back_is_the_other_way_round() {
    let eth = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 8, 0];
    assert_eq!(back(eth), [11, 12, 13, 14, 15, 16, 1, 2, 3, 4, 5, 6, 8, 0]);
    assert_eq!(back(back(eth)), eth);
}

proptest! {
    #[test]
    fn an_error_is_never_longer_than_it_may_be(total in 20usize..70_000) {
        let (v4, v6) = (quoted::<V4>(total), quoted::<V6>(total));
        prop_assert!(v4 <= total && v6 <= total);
        prop_assert!(head_len::<V4>() + v4 <= 576 && head_len::<V6>() + v6 <= 1_280);
        // All of it, or as much as there is room for.
        prop_assert!(v4 == total || head_len::<V4>() + v4 == 576);
        prop_assert!(v6 == total || head_len::<V6>() + v6 == 1_280);
    }

    #[test]
    fn headers_are_what_they_say(src: [u8; 4], dst: [u8; 4], quote in 28usize..=548) {
        let h = v4_header(src, dst, quote);
        prop_assert_eq!(checksum::of(&h), [0; 2]);
        let ip = V4::parse(&[&[0; 14][..], &h, &vec![0; 8 + quote]].concat()[..], ETH_LEN);
        let ip = ip.expect("a header");
        prop_assert_eq!((ip.src, ip.dst, ip.proto, ip.fragment), (src, dst, proto::ICMP, false));
        prop_assert_eq!(ip.end as usize, ETH_LEN + 28 + quote);
        let h = [&[0; 14][..], &v6_header(quote), &[1; 32], &vec![0; 8 + quote]].concat();
        let ip = V6::parse(&h[..], ETH_LEN).expect("a header");
        prop_assert_eq!((ip.proto, ip.end as usize), (proto::ICMPV6, ETH_LEN + 48 + quote));
    }

    #[test]
    fn of_many_segments_the_largest_counts(total in 40u32..65_536, size in 1u32..9_000, header in 28u32..120) {
        prop_assert_eq!(segment(total, 0, header), total);
        prop_assert_eq!(segment(total, size, header), size + header);
    }
}
