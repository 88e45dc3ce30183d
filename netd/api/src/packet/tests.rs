//! Words that are packets, words that are none, and back.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> PacketSpec {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refused(text: &str) -> String {
    let error = text.parse::<PacketSpec>();
    error.expect_err(text).to_string()
}

#[test]
fn a_packet_is_written_in_few_words() {
    let p = read("tcp 10.0.0.5:1234 > 1.1.1.1:443");
    assert_eq!((p.src, p.sport), (Some([10, 0, 0, 5].into()), Some(1234)));
    assert_eq!((p.dst, p.dport), ([1, 1, 1, 1].into(), 443));
    assert_eq!((p.flags, p.ttl, p.len), (SYN, 64, 0));
    let p = read("udp [fd00::5]:53>[2001:db8::1]:53 len 100 ttl 1");
    assert!(p.src.is_some_and(|a| a.is_ipv6()) && p.sport == Some(53));
    assert_eq!((p.len, p.ttl), (100, 1));
    let p = read("tcp 1.1.1.1:443 flags sa");
    assert_eq!((p.src, p.sport, p.flags), (None, None, 0x12));
    assert_eq!(read("tcp :9 > 1.1.1.1:443").sport, Some(9));
    let p = read("icmp 10.0.0.5 > 1.1.1.1 id 7");
    assert_eq!((p.sport, p.dport), (Some(7), 0));
    assert_eq!(read("icmp [::1]").dst, read("icmp ::1").dst);
    let p = read("arp who-has 10.0.0.1 tell 10.0.0.5 from 02:00:00:00:00:0a");
    assert_eq!(
        (p.dst, p.src),
        ([10, 0, 0, 1].into(), Some([10, 0, 0, 5].into()))
    );
    assert_eq!(p.from, Some([2, 0, 0, 0, 0, 10]));
    assert_eq!(read("nd who-has fe80::1").ttl, 255);
}

#[test]
fn what_is_no_packet_is_told_with_the_word_that_is_wrong() {
    for (text, part) in [
        ("", "for instance"),
        ("sctp 1.1.1.1:1", "\"sctp\""),
        ("tcp", "destination"),
        ("tcp 1.1.1.1", "no port"),
        ("tcp 1.1.1.1:0", "port 0"),
        ("tcp :80", "needs an address"),
        ("tcp 1.1.1.1:99999", "\"1.1.1.1:99999\""),
        ("tcp 1.1.1.1 >", "missing at the end"),
        ("tcp 1.1.1.1:1 > [::1]:1", "two families"),
        ("udp 1.1.1.1:1 flags S", "\"flags\""),
        ("tcp 1.1.1.1:1 flags SX", "'X'"),
        ("tcp 1.1.1.1:1 len", "needs a value"),
        ("tcp 1.1.1.1:1 len 65001", "65000"),
        ("tcp 1.1.1.1:1 ttl 256", "256"),
        ("tcp 1.1.1.1:1 from 02:00", "\"02:00\""),
        ("tcp 1.1.1.1:1 from 2:0:0:0:0:1", "no MAC"),
        ("tcp 1.1.1.1:1 speed 3", "\"speed\""),
        ("icmp 1.1.1.1:7", "has a port"),
        ("arp 1.1.1.1", "who-has"),
        ("arp who-has ::1", "nd who-has ::1"),
        ("nd who-has 1.1.1.1", "arp who-has 1.1.1.1"),
        ("arp who-has", "missing"),
    ] {
        let error = refused(text);
        assert!(error.contains(part), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

fn addr(v4: bool) -> BoxedStrategy<IpAddr> {
    if v4 {
        any::<[u8; 4]>().prop_map(IpAddr::from).boxed()
    } else {
        any::<[u8; 16]>().prop_map(IpAddr::from).boxed()
    }
}

fn spec() -> impl Strategy<Value = PacketSpec> {
    (prop::sample::select(&PacketKind::ALL[..]), any::<bool>()).prop_flat_map(|(kind, v4)| {
        let v4 = kind == PacketKind::Arp || (v4 && kind != PacketKind::Nd);
        let ends = (prop::option::of(addr(v4)), addr(v4));
        let ports = (prop::option::of(1u16..), 1u16..);
        let rest = (0u8..64, 0..=MOST, any::<u8>());
        let macs = any::<(Option<[u8; 6]>, Option<[u8; 6]>)>();
        (ends, ports, rest, macs).prop_map(move |((src, dst), (sport, dport), rest, macs)| {
            let usual = PacketSpec::new(kind, src, dst);
            let (flags, len, ttl) = rest;
            PacketSpec {
                sport: sport.filter(|_| !kind.asks()),
                dport: if kind.has_ports() { dport } else { 0 },
                flags: if kind == PacketKind::Tcp { flags } else { 0 },
                len: if kind.asks() { 0 } else { len },
                ttl: if kind == PacketKind::Arp {
                    usual.ttl
                } else {
                    ttl
                },
                from: macs.0,
                to: macs.1,
                ..usual
            }
        })
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same_packet(spec in spec()) {
        let text = spec.to_string();
        prop_assert_eq!(text.parse::<PacketSpec>(), Ok(spec), "{}", text);
    }

    #[test]
    fn no_words_make_the_parser_panic(text: String, words in prop::collection::vec("(tcp|udp|icmp|arp|nd|who-has|tell|>|[0-9.:\\[\\]]{0,9}|flags|len|ttl|id|from|to)", 0..8)) {
        let _ = text.parse::<PacketSpec>();
        let _ = words.join(" ").parse::<PacketSpec>();
    }
}
