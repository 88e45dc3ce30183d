//! ARP and neighbour discovery: answered in place for addresses netd knows, else flooded.

use std::net::Ipv6Addr;

use netd_common::addr::link_local;
use netd_tests::lab::frames;
use netd_tests::packet::neighbour::{
    NOBODY6, advertisement_to, arp_reply, arp_request, arp_said, solicitation,
};
use netd_tests::packet::{A, B, C, GATEWAY, Outcome, SENT_BY_NETD, World};

/// Flags of an advertisement (RFC 4861 section 4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// The frame went back to the asker as exactly this answer: unmarked, as all that goes straight into an
/// endpoint.
#[track_caller]
fn answered(outcome: &Outcome, with: &[u8]) {
    outcome.redirected().is_bytes(with);
    assert_eq!(outcome.mark, 0);
}

/// The same for the node, which is answered by way of its gateway's device, with netd's mark.
#[track_caller]
fn node_answered(outcome: &Outcome, with: &[u8]) {
    outcome.redirected().is_bytes(with);
    assert_eq!(outcome.mark, SENT_BY_NETD);
}

#[test]
fn arp_is_answered_for_endpoints_and_the_gateway() {
    World::run(|w| {
        for host in [B, GATEWAY] {
            let out = w.ep_out_raw(&A, &arp_request(&A, host.v4));
            answered(&out, &arp_reply(&host, &A));
        }
    });
}

#[test]
fn a_padded_arp_request_is_answered_with_its_padding() {
    World::run(|w| {
        let mut request = arp_request(&A, B.v4);
        request.resize(60, 0);
        let mut reply = arp_reply(&B, &A);
        reply.resize(60, 0);
        answered(&w.ep_out_raw(&A, &request), &reply);
    });
}

#[test]
fn an_arp_probe_for_a_taken_address_is_answered() {
    World::run(|w| {
        let nobody = std::net::Ipv4Addr::UNSPECIFIED;
        let probe = arp_said(A.mac, (A.mac, nobody), B.v4);
        let asker = netd_tests::packet::Host { v4: nobody, ..A };
        answered(&w.ep_out_raw(&A, &probe), &arp_reply(&B, &asker));
    });
}

#[test]
fn the_node_is_answered_for_endpoints_of_the_network_alone() {
    World::run(|w| {
        let out = w.gw_out(&GATEWAY, &arp_request(&GATEWAY, A.v4));
        node_answered(&out, &arp_reply(&A, &GATEWAY));
        let ask = solicitation(GATEWAY.mac, GATEWAY.v6, A.v6, Some(GATEWAY.mac));
        let asker = (GATEWAY.mac, GATEWAY.v6);
        let reply = advertisement_to(asker, &A, SOLICITED | OVERRIDE);
        node_answered(&w.gw_out(&GATEWAY, &ask), &reply);
        w.gw_out(&GATEWAY, &arp_request(&GATEWAY, C.v4)).copied();
    });
}

#[test]
fn gratuitous_arp_and_own_probes_are_not_answered_but_flooded() {
    World::run(|w| {
        w.ep_out_raw(&A, &arp_request(&A, A.v4)).copied();
        let nobody = std::net::Ipv4Addr::UNSPECIFIED;
        w.ep_out_raw(&A, &arp_said(A.mac, (A.mac, nobody), A.v4))
            .copied();
    });
}

#[test]
fn arp_for_an_unknown_address_or_another_network_is_flooded() {
    World::run(|w| {
        let unknown = "10.1.0.200".parse().unwrap();
        w.ep_out_raw(&A, &arp_request(&A, unknown)).copied();
        w.ep_out_raw(&A, &arp_request(&A, C.v4)).copied();
    });
}

#[test]
fn an_arp_reply_goes_to_whom_it_is_for() {
    World::run(|w| {
        w.ep_out_raw(&A, &arp_reply(&A, &B))
            .redirected()
            .unchanged();
        w.ep_out_raw(&A, &arp_reply(&A, &GATEWAY))
            .redirected()
            .unchanged();
    });
}

#[test]
fn solicitations_are_answered_for_endpoints_and_the_gateway() {
    World::run(|w| {
        let asker = (A.mac, A.v6);
        // With the option, without it (the answer is longer), and with padding (it is shorter).
        let long = solicitation(A.mac, A.v6, B.v6, Some(A.mac));
        let short = solicitation(A.mac, A.v6, B.v6, None);
        let padded = [&long[..], &[0; 30]].concat();
        for question in [long, short, padded] {
            let out = w.ep_out_raw(&A, &question);
            answered(&out, &advertisement_to(asker, &B, SOLICITED | OVERRIDE));
        }
        let out = w.ep_out_raw(&A, &solicitation(A.mac, A.v6, GATEWAY.v6, Some(A.mac)));
        let flags = ROUTER | SOLICITED | OVERRIDE;
        answered(&out, &advertisement_to(asker, &GATEWAY, flags));
    });
}

#[test]
fn a_link_local_asker_is_answered() {
    World::run(|w| {
        let own = Ipv6Addr::from(link_local(A.mac));
        let out = w.ep_out_raw(&A, &solicitation(A.mac, own, B.v6, Some(A.mac)));
        let reply = advertisement_to((A.mac, own), &B, SOLICITED | OVERRIDE);
        answered(&out, &reply);
    });
}

#[test]
fn duplicate_address_detection_of_a_taken_address_is_answered_to_all_nodes() {
    World::run(|w| {
        let out = w.ep_out_raw(&A, &solicitation(A.mac, NOBODY6, B.v6, None));
        let all = ([0x33, 0x33, 0, 0, 0, 1], "ff02::1".parse().unwrap());
        answered(&out, &advertisement_to(all, &B, OVERRIDE));
    });
}

#[test]
fn own_duplicate_address_detection_is_not_answered_but_flooded() {
    World::run(|w| {
        w.ep_out_raw(&A, &solicitation(A.mac, NOBODY6, A.v6, None))
            .copied();
        let own = Ipv6Addr::from(link_local(A.mac));
        w.ep_out_raw(&A, &solicitation(A.mac, NOBODY6, own, None))
            .copied();
    });
}

#[test]
fn solicitations_for_an_unknown_address_or_another_network_are_flooded() {
    World::run(|w| {
        for target in ["fd00:1::200".parse().unwrap(), C.v6] {
            w.ep_out_raw(&A, &solicitation(A.mac, A.v6, target, Some(A.mac)))
                .copied();
        }
    });
}

#[test]
fn an_advertisement_to_one_host_goes_there() {
    World::run(|w| {
        let frame = advertisement_to((B.mac, B.v6), &A, SOLICITED | OVERRIDE);
        w.ep_out_raw(&A, &frame).redirected().unchanged();
        let rest = [&A.v6.octets()[..], &[2, 1], &A.mac].concat();
        let to_gateway = frames::icmpv6(
            A.mac,
            GATEWAY.mac,
            (A.v6, GATEWAY.v6),
            136,
            [0x60, 0, 0, 0],
            &rest,
        );
        w.ep_out_raw(&A, &to_gateway.unwrap())
            .redirected()
            .unchanged();
    });
}
