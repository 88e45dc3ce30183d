use bytemuck::Zeroable as _;
use netd_common::addr::Be16;
use netd_common::reason::Hook;

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A UDP datagram from 10.0.0.2:4000 to 10.1.0.3:53.
fn frame() -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], MAC)
        .ipv4([10, 0, 0, 2], [10, 1, 0, 3], 64)
        .udp(4000, 53);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"").unwrap();
    frame
}

fn runs(end: End) -> Vec<Run> {
    vec![Run {
        hook: Hook::EpOut,
        ifindex: 7,
        mark: 0,
        frame: frame(),
        end,
        out: None,
    }]
}

fn bytes<T: bytemuck::Pod>(value: &T) -> Vec<u8> {
    bytemuck::bytes_of(value).to_vec()
}

fn table(rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> MapRows {
    MapRows {
        free: Some(5),
        rows: rows.into_iter().collect(),
    }
}

fn port(network: u32, outer: u32, inner: u32) -> Vec<u8> {
    bytes(&Port {
        network,
        outer,
        inner,
        endpoint: network * 10,
        ..Port::zeroed()
    })
}

fn keys<K: AnyBitPattern>(picked: &Tables, map: &str) -> Vec<K> {
    let rows = &picked[map].rows;
    rows.iter().map(|(k, _)| read(k).unwrap()).collect()
}

#[test]
fn devices_lead_to_their_gateway_and_strangers_stay_out() {
    let host = |network, device| {
        bytes(&HostEntry {
            network,
            device,
            endpoint: device,
            ..HostEntry::zeroed()
        })
    };
    let n = |v: u32| v.to_ne_bytes().to_vec();
    let all = Tables::from([
        (
            name::PORT.into(),
            table([
                (n(7), port(1, 20, 21)),
                (n(8), port(1, 20, 21)),
                (n(9), port(2, 30, 31)),
                (n(21), port(1, 20, 21)),
                (n(31), port(2, 30, 31)),
                (n(41), port(3, 40, 41)),
            ]),
        ),
        (
            name::HOST4.into(),
            table([
                (vec![10, 1, 0, 3], host(2, 9)),
                (vec![10, 1, 0, 4], host(2, 10)),
            ]),
        ),
        (
            name::USAGE.into(),
            table([(n(9), vec![0; 16]), (n(77), vec![0; 16])]),
        ),
        (name::LIMITS.into(), table([(n(0), vec![1])])),
    ]);
    let picked = pick(&all, &runs(End::Next));
    assert_eq!(keys::<u32>(&picked, name::PORT), [7, 9, 21, 31]);
    assert_eq!(keys::<[u8; 4]>(&picked, name::HOST4), [[10, 1, 0, 3]]);
    assert_eq!(keys::<u32>(&picked, name::USAGE), [9]);
    assert_eq!(picked[name::LIMITS], all[name::LIMITS]);
    assert_eq!(picked[name::PORT].free, Some(5));
}

#[test]
fn of_flows_those_with_the_addresses_and_a_port_are_taken_under_either_tuple() {
    let tuple = |src, sport, dst, dport| Tuple::<V4> {
        src,
        dst,
        sport: Be16::new(sport),
        dport: Be16::new(dport),
        proto: 17,
        pad: [0; 3],
    };
    let row = |key: Tuple<V4>, to: Tuple<V4>| {
        let mut flow = Flow::<V4>::zeroed();
        flow.to = to;
        (bytes(&key), bytes(&flow))
    };
    let (a, b, x) = ([10, 0, 0, 2], [10, 1, 0, 3], [9, 9, 9, 9]);
    let none = tuple(x, 1, x, 2);
    let (own, other) = (tuple(a, 4000, b, 53), tuple(a, 4001, b, 54));
    let all = Tables::from([(
        name::FLOW4.into(),
        table([
            row(own, none),
            row(none, own),
            row(other, none),
            row(tuple(a, 4000, x, 53), none),
        ]),
    )]);
    let picked = pick(&all, &runs(End::Next));
    assert_eq!(picked[name::FLOW4].rows, all[name::FLOW4].rows[..2]);
}

#[test]
fn the_switch_ports_of_a_segment_are_taken_when_it_is_flooded() {
    let n = |v: u32| v.to_ne_bytes().to_vec();
    let slot = |network, slot| bytes(&SegmentKey { network, slot });
    let target = bytes(&Target::zeroed());
    let all = Tables::from([
        (name::PORT.into(), table([(n(7), port(1, 20, 21))])),
        (
            name::SEGMENT.into(),
            table([(slot(1, 0), target.clone()), (slot(2, 0), target)]),
        ),
        (
            name::FDB.into(),
            table([
                (bytes(&FdbKey::new(1, MAC)), vec![0; 12]),
                (bytes(&FdbKey::new(2, MAC)), vec![0; 12]),
                (bytes(&FdbKey::new(1, [7; 6])), vec![0; 12]),
            ]),
        ),
    ]);
    assert!(pick(&all, &runs(End::Next))[name::SEGMENT].rows.is_empty());
    let picked = pick(&all, &runs(End::Copied(vec![])));
    assert_eq!(picked[name::SEGMENT].rows, all[name::SEGMENT].rows[..1]);
    assert_eq!(picked[name::FDB].rows, all[name::FDB].rows[..1]);
}

#[test]
fn a_deny_row_is_taken_if_it_covers_an_address() {
    let key = |addr: V4, len: u32| {
        bytes(&DenyKey {
            prefix_len: 96 + len,
            addr: addr.to_16(),
        })
    };
    let all = Tables::from([(
        name::DENY.into(),
        table([
            (key([10, 0, 0, 0], 24), vec![0; 4]),
            (key([11, 0, 0, 0], 8), vec![0; 4]),
            (key([0; 4], 0), vec![0; 4]),
        ]),
    )]);
    let picked = pick(&all, &runs(End::Next));
    let rows = &all[name::DENY].rows;
    assert_eq!(picked[name::DENY].rows, [rows[0].clone(), rows[2].clone()]);
}

#[test]
fn floating_addresses_of_both_ends_are_taken() {
    let row = |outside: V4, inside: V4| {
        let float = Float {
            addr: inside.to_16(),
            ..Float::zeroed()
        };
        (bytes(&outside.to_16()), bytes(&float))
    };
    let x = [9, 9, 9, 9];
    let all = Tables::from([(
        name::FLOAT.into(),
        table([row([10, 1, 0, 3], x), row(x, [10, 0, 0, 2]), row(x, x)]),
    )]);
    let picked = pick(&all, &runs(End::Next));
    assert_eq!(picked[name::FLOAT].rows, all[name::FLOAT].rows[..2]);
}

#[test]
fn of_whom_sockets_have_sent_to_the_addresses_of_the_packet_are_taken() {
    let sent = |remote: V4| {
        let key = SentKey {
            life: 7,
            remote: remote.to_16(),
            port: Be16::new(0),
            pad: [0; 6],
        };
        (bytes(&key), vec![0; 4])
    };
    let all = Tables::from([(
        name::SENT.into(),
        table([sent([10, 1, 0, 3]), sent([9, 9, 9, 9])]),
    )]);
    let picked = pick(&all, &runs(End::Next));
    assert_eq!(picked[name::SENT].rows, all[name::SENT].rows[..1]);
}
