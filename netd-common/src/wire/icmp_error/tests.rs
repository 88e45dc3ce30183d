//! Built errors, changed by a plan, against the same errors built anew.

use proptest::prelude::*;

use super::*;
use crate::addr::{V4, V6};
use crate::checksum;
use crate::wire::tcp_flag;

const L3: usize = 14;

/// A packet with a right checksum, from its IP header on; `options` bytes of IPv4 options.
fn packet<A: Family>(t: &Tuple<A>, options: usize, payload: &[u8], echo: Option<bool>) -> Vec<u8> {
    let mut l4 = match (t.proto, echo) {
        (proto::TCP, _) => {
            let mut h = vec![0; 20];
            h[..2].copy_from_slice(&t.sport.0);
            h[2..4].copy_from_slice(&t.dport.0);
            h[12] = 5 << 4;
            h[13] = tcp_flag::ACK;
            h
        }
        (proto::ICMP | proto::ICMPV6, Some(request)) => {
            let id = if request { t.sport } else { t.dport };
            let kind = if request {
                A::ECHO_REQUEST
            } else {
                A::ECHO_REPLY
            };
            vec![kind, 0, 0, 0, id.0[0], id.0[1], 0, 9]
        }
        _ => [&t.sport.0[..], &t.dport.0, &[0, 0, 0, 0]].concat(),
    };
    l4.extend_from_slice(payload);
    let len = l4.len() as u32;
    let field = match t.proto {
        proto::TCP => 16,
        proto::UDP => 6,
        _ => 2,
    };
    if t.proto == proto::UDP {
        l4[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    }
    if t.proto != proto::SCTP {
        let mut sum = Vec::new();
        if !(A::IS_V4 && t.proto == proto::ICMP) {
            let skip = if A::IS_V4 { 12 } else { 0 };
            sum.extend_from_slice(&t.src.to_16()[skip..]);
            sum.extend_from_slice(&t.dst.to_16()[skip..]);
            sum.extend_from_slice(&len.to_be_bytes());
            sum.extend_from_slice(&[0, t.proto]);
        }
        sum.extend_from_slice(&l4);
        l4[field..field + 2].copy_from_slice(&checksum::of(&sum));
    }
    ip(t.src, t.dst, t.proto, options, &l4)
}

fn ip<A: Family>(src: A, dst: A, proto: u8, options: usize, body: &[u8]) -> Vec<u8> {
    if A::IS_V4 {
        let mut h = vec![0u8; 20 + options];
        h[20..].fill(1);
        h[0] = 0x45 + (options / 4) as u8;
        let total = (h.len() + body.len()) as u16;
        h[2..4].copy_from_slice(&total.to_be_bytes());
        h[8] = 63;
        h[9] = proto;
        h[12..16].copy_from_slice(&src.to_16()[12..]);
        h[16..20].copy_from_slice(&dst.to_16()[12..]);
        let sum = checksum::of(&h);
        h[10..12].copy_from_slice(&sum);
        return [&h, body].concat();
    }
    let mut h = vec![0u8; 40];
    h[0] = 0x60;
    h[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
    h[6] = proto;
    h[7] = 63;
    h[8..24].copy_from_slice(&src.to_16());
    h[24..40].copy_from_slice(&dst.to_16());
    [&h, body].concat()
}

/// An error about a packet, as a frame.
fn error<A: Family>(src: A, dst: A, header: [u8; 8], quote: &[u8]) -> Vec<u8> {
    let mut message = [&header[..], quote].concat();
    let len = message.len() as u32;
    let pseudo = pseudo_header(src, dst, len);
    let sum = checksum::of(&message);
    // The sum of the message is the complement of its checksum.
    let sum = Delta::of_sum(u32::from(!u16::from_ne_bytes(sum)));
    message[2..4].copy_from_slice(&pseudo.and(sum).field());
    [&[0; L3][..], &ip(src, dst, A::ICMP, 0, &message)].concat()
}

fn parse<A: Family>(frame: &[u8]) -> Packet<A> {
    Packet::parse(frame, A::parse(frame, L3).unwrap()).unwrap()
}

fn read<A: Family>(frame: &[u8]) -> Result<Quote<A>, DropReason> {
    Quote::read(frame, &parse(frame))
}

const ROUTER: V4 = [198, 51, 100, 1];
const INSIDE: V4 = [10, 1, 0, 10];
const NODE: V4 = [192, 0, 2, 2];
const OUTSIDE: V4 = [203, 0, 113, 9];

fn tuple<A: Addr>(src: A, sport: u16, dst: A, dport: u16, proto: u8) -> Tuple<A> {
    Tuple {
        src,
        dst,
        sport: Be16::new(sport),
        dport: Be16::new(dport),
        proto,
        pad: [0; 3],
    }
}

const HEADER: [u8; 8] = [3, 1, 0, 0, 0, 0, 0, 0];

#[test]
fn errors_are_told_from_other_messages() {
    let v4: Vec<u8> = (0..=255).filter(|kind| is_error::<V4>(*kind)).collect();
    let v6: Vec<u8> = (0..=255).filter(|kind| is_error::<V6>(*kind)).collect();
    assert_eq!((v4, v6), (vec![3, 11, 12], vec![1, 2, 3, 4]));
    assert!(of::<V4>(L4::Icmp(11)) && !of::<V4>(L4::Icmp(1)) && of::<V6>(L4::Icmp(1)));
    for l4 in [
        L4::Tcp(3),
        L4::Udp,
        L4::EchoRequest,
        L4::EchoReply,
        L4::Other,
        L4::Fragment,
    ] {
        assert!(!of::<V4>(l4) && !of::<V6>(l4), "{l4:?}");
    }
}

#[test]
fn the_fields_of_a_quoted_packet_are_copied_out() {
    let t = tuple(NODE, 20_100, OUTSIDE, 80, proto::TCP);
    let inner = packet(&t, 0, b"more", None);
    let q = read::<V4>(&error(ROUTER, NODE, HEADER, &inner)).unwrap();
    assert_eq!((q.tuple, q.carries), (t, Quoted::Tcp));
    assert_eq!((q.l3, q.l4, q.sum_at()), (42, 62, 16));
    assert_eq!(q.header_sum, [inner[10], inner[11]]);
    assert_eq!(q.sum, Some([inner[36], inner[37]]));
    assert!(q.header_is_right);
    // One byte of the checksum is none.
    for (len, there) in [(28, false), (36, false), (37, false), (38, true)] {
        let q = read::<V4>(&error(ROUTER, NODE, HEADER, &inner[..len])).unwrap();
        assert_eq!((q.tuple, q.sum.is_some()), (t, there), "{len}");
    }
    for len in 0..28 {
        assert!(
            read::<V4>(&error(ROUTER, NODE, HEADER, &inner[..len])).is_err(),
            "{len}"
        );
    }
}

#[test]
fn what_a_packet_carries_says_where_its_ports_are() {
    let udp = tuple(NODE, 20_100, OUTSIDE, 80, proto::UDP);
    let q = read::<V4>(&error(ROUTER, NODE, HEADER, &packet(&udp, 0, &[], None))).unwrap();
    assert_eq!((q.tuple, q.carries, q.sum_at()), (udp, Quoted::Udp, 6));
    let mut unsummed = packet(&udp, 0, &[], None);
    unsummed[26..28].fill(0);
    assert_eq!(
        read::<V4>(&error(ROUTER, NODE, HEADER, &unsummed))
            .unwrap()
            .sum,
        None
    );
    let sctp = tuple(NODE, 20_100, OUTSIDE, 80, proto::SCTP);
    let q = read::<V4>(&error(ROUTER, NODE, HEADER, &packet(&sctp, 0, &[], None))).unwrap();
    assert_eq!((q.tuple, q.carries, q.sum), (sctp, Quoted::Sctp, None));
    for (request, sport, dport) in [(true, 77, 0), (false, 0, 77)] {
        let ping = tuple(NODE, sport, OUTSIDE, dport, proto::ICMP);
        let q = read::<V4>(&error(
            ROUTER,
            NODE,
            HEADER,
            &packet(&ping, 0, &[], Some(request)),
        ));
        let q = q.unwrap();
        assert_eq!((q.tuple, q.carries, q.sum_at()), (ping, Quoted::Echo, 2));
    }
    let other = ip(NODE, OUTSIDE, 47, 0, &[1; 8]);
    let q = read::<V4>(&error(ROUTER, NODE, HEADER, &other)).unwrap();
    assert_eq!(
        (q.tuple, q.carries),
        (tuple(NODE, 0, OUTSIDE, 0, 47), Quoted::Other)
    );
    assert_eq!((q.sum, q.sum_at()), (None, 0));
    // Echoes with a code, and errors, are nothing an error is about.
    for kind in [[8u8, 1], [0, 1], [3, 0], [13, 0]] {
        let message = [&kind[..], &[0; 6]].concat();
        let quote = ip(NODE, OUTSIDE, proto::ICMP, 0, &message);
        assert_eq!(
            read::<V4>(&error(ROUTER, NODE, HEADER, &quote)),
            Err(DropReason::NatIcmp)
        );
    }
}

#[test]
fn malformed_quotes_are_refused() {
    let t = tuple(NODE, 20_100, OUTSIDE, 80, proto::UDP);
    let good = packet(&t, 0, b"more", None);
    let with = |at: usize, value: u8| {
        let mut quote = good.clone();
        quote[at] = value;
        read::<V4>(&error(ROUTER, NODE, HEADER, &quote))
    };
    assert_eq!(with(0, 0x65), Err(DropReason::BadHeader));
    assert_eq!(with(0, 0x44), Err(DropReason::BadHeader));
    assert_eq!(
        with(0, 0x4f),
        Err(DropReason::Truncated),
        "longer than the quote"
    );
    assert_eq!(with(7, 1), Err(DropReason::Truncated), "a later fragment");
    assert!(with(6, 0x20).is_ok(), "a first one");
    assert!(!with(8, 62).unwrap().header_is_right);
    // The packet may be longer than what is quoted of it.
    assert!(with(2, 0x40).is_ok());
    let six = ip::<V6>([1; 16], [2; 16], proto::UDP, 0, &[0; 8]);
    let at = |len: usize| {
        read::<V6>(&error(
            [3; 16],
            [1; 16],
            [1, 0, 0, 0, 0, 0, 0, 0],
            &six[..len],
        ))
    };
    assert!(at(48).is_ok_and(|q| q.header_is_right && q.header_sum == [0; 2]));
    for len in 0..48 {
        assert!(at(len).is_err(), "{len}");
    }
    let mut wrong = six;
    wrong[0] = 0x40;
    let frame = error([3; 16], [1; 16], [1, 0, 0, 0, 0, 0, 0, 0], &wrong);
    assert_eq!(read::<V6>(&frame), Err(DropReason::BadHeader));
}

#[test]
fn options_count_in_the_quoted_headers_checksum() {
    let t = tuple(NODE, 20_100, OUTSIDE, 80, proto::UDP);
    for options in [4, 20, 40] {
        let mut quote = packet(&t, options, b"more", None);
        let q = read::<V4>(&error(ROUTER, NODE, HEADER, &quote)).unwrap();
        assert!(q.header_is_right && q.tuple == t, "{options}");
        quote[19 + options] ^= 2;
        let q = read::<V4>(&error(ROUTER, NODE, HEADER, &quote)).unwrap();
        assert!(!q.header_is_right, "{options}");
    }
}

#[test]
fn a_quote_ends_where_its_length_field_says() {
    let end4 = |kind, words| end::<V4>([kind, 0, 0, 0, 0, words, 0, 0], 42, 400);
    assert_eq!(
        (end4(3, 0), end4(3, 32), end4(11, 32), end4(12, 200)),
        (400, 170, 170, 400)
    );
    let end6 = |kind, words| end::<V6>([kind, 0, 0, 0, words, 0, 0, 0], 62, 400);
    assert_eq!(
        (end6(1, 0), end6(1, 16), end6(3, 16), end6(1, 200)),
        (400, 190, 190, 400)
    );
    // There it is the MTU, or a pointer.
    assert_eq!((end6(2, 16), end6(4, 16)), (400, 400));
}

#[test]
fn the_source_is_hidden_only_where_the_flow_hides_it() {
    let (key, to) = (
        tuple(INSIDE, 5_000, OUTSIDE, 80, proto::UDP),
        tuple(NODE, 20_100, OUTSIDE, 80, proto::UDP),
    );
    assert_eq!(source(INSIDE, &key, &to), NODE);
    assert_eq!(
        source([10, 1, 0, 99], &key, &to),
        NODE,
        "a router behind the endpoint"
    );
    assert_eq!(source(ROUTER, &to.reverse(), &key.reverse()), ROUTER);
}

/// Changes the quote of a frame by a plan and the outer checksum with it, as the programs do.
fn translate<A: Family>(frame: &mut [u8], to: &Tuple<A>) {
    let p = parse::<A>(frame);
    let q = Quote::read(&*frame, &p).unwrap();
    let change = q.plan(to);
    let (l3, l4, at) = (
        usize::from(q.l3),
        usize::from(q.l4),
        usize::from(p.ip.l4) + 2,
    );
    let sum = change.delta.apply([frame[at], frame[at + 1]]);
    frame[at..at + 2].copy_from_slice(&sum);
    if A::IS_V4 {
        frame[l3 + 10..l3 + 12].copy_from_slice(&change.header_sum);
        frame[l3 + 12..l3 + 16].copy_from_slice(&to.src.to_16()[12..]);
        frame[l3 + 16..l3 + 20].copy_from_slice(&to.dst.to_16()[12..]);
    } else {
        frame[l3 + 8..l3 + 24].copy_from_slice(&to.src.to_16());
        frame[l3 + 24..l3 + 40].copy_from_slice(&to.dst.to_16());
    }
    match q.carries {
        Quoted::Tcp | Quoted::Udp | Quoted::Sctp => {
            frame[l4..l4 + 2].copy_from_slice(&to.sport.0);
            frame[l4 + 2..l4 + 4].copy_from_slice(&to.dport.0);
        }
        Quoted::Echo => {
            let id = to.sport.get() | to.dport.get();
            frame[l4 + 4..l4 + 6].copy_from_slice(&id.to_be_bytes());
        }
        Quoted::Other => {}
    }
    if let Some(sum) = change.sum {
        frame[l4 + q.sum_at()..l4 + q.sum_at() + 2].copy_from_slice(&sum);
    }
}

/// A translated error must be the error about the translated packet.
fn check<A: Family>(
    from: &Tuple<A>,
    to: &Tuple<A>,
    router: A,
    body: &[u8],
    cut: usize,
    echo: bool,
) {
    let echo = (from.proto == A::ICMP).then_some(echo);
    let cut_off = |t: &Tuple<A>| {
        let mut quote = packet(t, 0, body, echo);
        quote.truncate(A::HEADER + 8 + cut);
        quote
    };
    let header = [if A::IS_V4 { 11 } else { 3 }, 0, 0, 0, 0, 0, 0, 0];
    let mut got = error(router, from.src, header, &cut_off(from));
    let mut wanted = error(router, from.src, header, &cut_off(to));
    let q = read::<A>(&got).unwrap();
    assert!(q.header_is_right);
    translate(&mut got, to);
    // Half a checksum is none, and stays as it is.
    if from.proto == proto::TCP && q.sum.is_none() && cut > 8 {
        let last = got.len() - 1;
        got.truncate(last);
        wanted.truncate(last);
    }
    let fields = [
        L3 + A::HEADER + 2,
        usize::from(q.l3) + 10,
        usize::from(q.l4) + q.sum_at(),
    ];
    for at in fields {
        // 0 and 0xffff are both zero in one's complement.
        if at + 2 <= got.len() && got[at..at + 2] == [0xff; 2] && wanted[at..at + 2] == [0; 2] {
            got[at..at + 2].fill(0);
        }
        if at + 2 <= got.len() && got[at..at + 2] == [0; 2] && wanted[at..at + 2] == [0xff; 2] {
            got[at..at + 2].fill(0xff);
        }
    }
    if from.proto == proto::TCP && q.sum.is_none() && cut > 8 {
        // Its last byte counts in the outer sum.
        let at = L3 + A::HEADER + 2;
        got[at..at + 2].fill(0);
        wanted[at..at + 2].fill(0);
    }
    assert_eq!(got, wanted);
}

proptest! {
    #[test]
    fn a_translated_error_is_the_error_about_the_translated_packet(
        a in any::<[V6; 5]>(), ports in any::<[u16; 4]>(), kind in 0usize..4, echo in any::<bool>(),
        body in proptest::collection::vec(any::<u8>(), 0..60), cut in 0usize..80,
    ) {
        let proto = |icmp| [proto::TCP, proto::UDP, proto::SCTP, icmp][kind];
        let ports = |p: u8, n: usize| match (p, echo) {
            (proto::ICMP | proto::ICMPV6, true) => (ports[n], 0),
            (proto::ICMP | proto::ICMPV6, false) => (0, ports[n]),
            _ => (ports[n], ports[n + 1]),
        };
        let v4 = |x: V6| -> V4 { [x[0], x[1], x[2], x[3]] };
        let p = proto(proto::ICMP);
        let ((s, d), (ns, nd)) = (ports(p, 0), ports(p, 2));
        check(&tuple(v4(a[0]), s, v4(a[1]), d, p), &tuple(v4(a[2]), ns, v4(a[3]), nd, p), v4(a[4]), &body, cut, echo);
        let p = proto(proto::ICMPV6);
        let ((s, d), (ns, nd)) = (ports(p, 0), ports(p, 2));
        check(&tuple(a[0], s, a[1], d, p), &tuple(a[2], ns, a[3], nd, p), a[4], &body, cut, echo);
    }

    #[test]
    fn reading_never_panics_and_stays_within(
        f in proptest::collection::vec(any::<u8>(), 0..160), kind in any::<u8>(), start in 0usize..3,
    ) {
        let mut f4 = f.clone();
        if f4.len() > 60 {
            f4[14] = 0x45;
            f4[16..18].copy_from_slice(&((f.len() - 14) as u16).to_be_bytes());
            f4[20..22].fill(0);
            f4[23] = 1;
            f4[34] = kind;
            f4[42] = [0x45, 0x46, 0x4f][start];
            if let Ok(p) = V4::parse(&f4[..], L3).and_then(|ip| Packet::parse(&f4[..], ip))
                && let Ok(q) = Quote::<V4>::read(&f4[..], &p)
            {
                prop_assert!(usize::from(q.l4) + 8 <= f4.len());
                prop_assert!(q.sum.is_none() || usize::from(q.l4) + q.sum_at() + 2 <= f4.len());
                let _ = q.plan(&q.tuple.reverse());
            }
        }
        let mut f6 = f;
        if f6.len() > 110 {
            f6[14] = 0x60;
            let len = (f6.len() - 54) as u16;
            f6[18..20].copy_from_slice(&len.to_be_bytes());
            f6[20] = 58;
            f6[54] = kind;
            f6[62] = 0x60;
            f6[68] = [17, 0, 44][start];
            if let Ok(p) = V6::parse(&f6[..], L3).and_then(|ip| Packet::parse(&f6[..], ip))
                && let Ok(q) = Quote::<V6>::read(&f6[..], &p)
            {
                prop_assert!(usize::from(q.l4) + 8 <= f6.len());
                let _ = q.plan(&q.tuple.reverse());
            }
        }
    }
}
