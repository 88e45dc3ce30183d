//! Which packets are captured, in the words of tcpdump: `tcp port 443 and not src net 10.0.0.0/8`.
//!
//! A term is `[PROTO] [src|dst] [host|net|port|portrange] VALUE` or a protocol alone; terms are joined by
//! `and`, `or`, `not` and parentheses. As in pcap-filter(7), `and` and `or` bind equally and from left to
//! right, and a value without a keyword takes the last one: `port 80 or 443`. Where a packet is
//! translated, its addresses and ports fit before or after that.

use std::net::IpAddr;

use ipnet::IpNet;
use netd_api::{Ends, ToldPacket};

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Every packet.
    All,
    /// What the other does not take.
    Not(Box<Self>),
    /// What both take.
    And(Box<Self>, Box<Self>),
    /// What either takes.
    Or(Box<Self>, Box<Self>),
    /// One term.
    Term(Term),
}

/// A term: all that is given must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    proto: Option<&'static str>,
    side: Side,
    value: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Either,
    Source,
    Destination,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Net(IpNet),
    Ports(u16, u16),
}

/// Protocols: the word, and what packets are told with; `ip` and `ip6` are families.
const PROTOCOLS: [(&str, &str); 9] = [
    ("tcp", "tcp"),
    ("udp", "udp"),
    ("sctp", "sctp"),
    ("icmp", "icmp"),
    ("icmp6", "icmpv6"),
    ("icmpv6", "icmpv6"),
    ("arp", "arp"),
    ("ip", "ip"),
    ("ip6", "ip6"),
];

impl Filter {
    /// Reads a filter; an empty one takes everything.
    pub fn parse(text: &str) -> Result<Self, String> {
        let spaced = text
            .replace('(', " ( ")
            .replace(')', " ) ")
            .replace('!', " ! ")
            .replace("&&", " and ")
            .replace("||", " or ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        if words.is_empty() {
            return Ok(Self::All);
        }
        let mut parser = Parser {
            words: &words,
            at: 0,
            last: None,
            depth: 0,
        };
        let filter = parser.expression()?;
        match parser.peek() {
            None => Ok(filter),
            Some(word) => Err(format!(
                "{word:?} is not expected here; terms are joined by `and` or `or`"
            )),
        }
    }

    /// Whether it takes a packet.
    pub fn takes(&self, packet: &ToldPacket) -> bool {
        match self {
            Self::All => true,
            Self::Not(a) => !a.takes(packet),
            Self::And(a, b) => a.takes(packet) && b.takes(packet),
            Self::Or(a, b) => a.takes(packet) || b.takes(packet),
            Self::Term(term) => term.takes(packet),
        }
    }
}

impl Term {
    fn takes(&self, packet: &ToldPacket) -> bool {
        let v4 = packet.ends.src.map(|a| a.is_ipv4());
        let proto = match self.proto {
            None => true,
            Some("ip") => packet.proto == "ip" || (packet.proto != "arp" && v4 == Some(true)),
            Some("ip6") => packet.proto == "ip6" || v4 == Some(false),
            Some(name) => packet.proto == name,
        };
        let has_ports = matches!(packet.proto.as_str(), "tcp" | "udp" | "sctp");
        let fits = |ends: &Ends| match &self.value {
            None => true,
            Some(Value::Net(net)) => {
                let is = |a: Option<IpAddr>| a.is_some_and(|a| net.contains(&a));
                self.side.any(is(ends.src), is(ends.dst))
            }
            Some(Value::Ports(first, last)) => {
                let is = |p: Option<u16>| p.is_some_and(|p| (*first..=*last).contains(&p));
                has_ports && self.side.any(is(ends.sport), is(ends.dport))
            }
        };
        proto && (fits(&packet.ends) || packet.nat.as_ref().is_some_and(fits))
    }
}

impl Side {
    const fn any(self, source: bool, destination: bool) -> bool {
        match self {
            Self::Either => source || destination,
            Self::Source => source,
            Self::Destination => destination,
        }
    }
}

/// What a value without a keyword takes over.
#[derive(Clone, Copy)]
struct Keywords<'a> {
    proto: Option<&'static str>,
    side: Side,
    kind: &'a str,
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
    last: Option<Keywords<'a>>,
    depth: usize,
}

/// Parentheses and `not`s inside one another.
const DEEPEST: usize = 64;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    fn expression(&mut self) -> Result<Filter, String> {
        let mut left = self.factor()?;
        loop {
            match self.peek() {
                Some("and") => {
                    self.at += 1;
                    left = Filter::And(Box::new(left), Box::new(self.factor()?));
                }
                Some("or") => {
                    self.at += 1;
                    left = Filter::Or(Box::new(left), Box::new(self.factor()?));
                }
                _ => return Ok(left),
            }
        }
    }

    fn factor(&mut self) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!(
                "more than {DEEPEST} parentheses and `not`s inside one another"
            ));
        }
        let factor = match self.peek() {
            None => Err("the filter ends where a term is expected".into()),
            Some("not" | "!") => {
                self.at += 1;
                self.factor().map(|f| Filter::Not(Box::new(f)))
            }
            Some("(") => {
                self.at += 1;
                let inside = self.expression()?;
                match self.next() {
                    Some(")") => Ok(inside),
                    _ => Err("a parenthesis is not closed".into()),
                }
            }
            Some(_) => self.term(),
        };
        self.depth -= 1;
        factor
    }

    fn term(&mut self) -> Result<Filter, String> {
        let begun = self.at;
        let proto = PROTOCOLS
            .iter()
            .find(|(word, _)| Some(*word) == self.peek())
            .map(|(_, name)| *name);
        self.at += usize::from(proto.is_some());
        let side = match self.peek() {
            Some("src") => Side::Source,
            Some("dst") => Side::Destination,
            _ => Side::Either,
        };
        self.at += usize::from(side != Side::Either);
        let kind = self
            .peek()
            .filter(|w| matches!(*w, "host" | "net" | "port" | "portrange"));
        self.at += usize::from(kind.is_some());
        let keywords = match (kind, self.at > begun) {
            (Some(kind), _) => Keywords { proto, side, kind },
            // A protocol alone.
            (None, true) if side == Side::Either => {
                self.last = None;
                return Ok(Filter::Term(Term {
                    proto,
                    side,
                    value: None,
                }));
            }
            (None, true) => Keywords {
                proto,
                side,
                kind: "host",
            },
            (None, false) => {
                let word = self.peek().unwrap_or_default();
                self.last
                    .filter(|_| word.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':'))
                    .ok_or_else(|| {
                        format!(
                            "{word:?} begins no term; one is like `tcp`, `host 192.0.2.7`, \
                             `src net 10.0.0.0/8` or `udp port 53`"
                        )
                    })?
            }
        };
        self.last = Some(keywords);
        let kind = keywords.kind;
        let text = self
            .next()
            .ok_or_else(|| format!("`{kind}` has no value"))?;
        let value = value(kind, text)?;
        Ok(Filter::Term(Term {
            proto: keywords.proto,
            side: keywords.side,
            value: Some(value),
        }))
    }
}

fn value(kind: &str, text: &str) -> Result<Value, String> {
    let port = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| format!("{text:?} is not a port"))
    };
    match kind {
        "host" => text
            .parse::<IpAddr>()
            .map(|a| Value::Net(a.into()))
            .map_err(|_| format!("{text:?} is not an address; names are not looked up")),
        "net" => netd_api::address_or_prefix(text).map(Value::Net),
        "port" => port(text).map(|p| Value::Ports(p, p)),
        _ => {
            let (first, last) = text
                .split_once('-')
                .ok_or_else(|| format!("{text:?} is not a range of ports like 8000-8080"))?;
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(format!("the range {text} ends before it begins"));
            }
            Ok(Value::Ports(first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(proto: &str, src: &str, sport: u16, dst: &str, dport: u16) -> ToldPacket {
        ToldPacket {
            time_ns: 0,
            hook: "ep_out".into(),
            device: "nde1".into(),
            endpoint: None,
            network: None,
            verdict: "passed".into(),
            reason: None,
            to_device: None,
            proto: proto.into(),
            ends: Ends {
                src: src.parse().ok(),
                sport: Some(sport),
                dst: dst.parse().ok(),
                dport: Some(dport),
            },
            nat: None,
            len: 60,
            vlan: None,
            frame: None,
        }
    }

    #[test]
    fn filters_take_what_tcpdump_would() {
        let mut tcp = packet("tcp", "10.0.0.5", 4000, "1.1.1.1", 443);
        tcp.nat = Some(Ends {
            src: "192.0.2.2".parse().ok(),
            sport: Some(5000),
            ..tcp.ends.clone()
        });
        for (text, wanted) in [
            ("", true),
            ("tcp", true),
            ("udp", false),
            ("ip", true),
            ("ip6", false),
            ("host 1.1.1.1", true),
            ("src host 1.1.1.1", false),
            ("dst 1.1.1.1", true),
            ("src 10.0.0.5 and dst port 443", true),
            ("src net 10.0.0.0/8", true),
            ("net 10.0.1.0/24", false),
            ("port 443", true),
            ("tcp port 443", true),
            ("udp port 443", false),
            ("src port 443", false),
            ("portrange 400-500", true),
            ("portrange 444-500", false),
            ("port 80 or 443", true),
            ("port 80 or 81", false),
            ("not port 443", false),
            ("! udp && tcp", true),
            ("not (udp or port 443)", false),
            // Equal precedence, from the left: (tcp or udp) and port 80.
            ("tcp or udp and port 80", false),
            ("tcp or (udp and port 80)", true),
            ("host 192.0.2.2", true),
            ("src port 5000", true),
            ("dst port 5000", false),
            ("arp", false),
        ] {
            let filter = Filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(filter.takes(&tcp), wanted, "{text}: {filter:?}");
        }
        let echo = packet("icmpv6", "fd00::5", 443, "fd00::6", 0);
        for (text, wanted) in [
            ("icmp6", true),
            ("ip6 host fd00::6", true),
            ("src fd00::5", true),
            ("net fd00::/8", true),
            ("port 443", false),
            ("icmp", false),
        ] {
            assert_eq!(Filter::parse(text).unwrap().takes(&echo), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_in_one_line_that_names_the_word() {
        for (text, word) in [
            ("nonsense", "nonsense"),
            ("host", "host"),
            ("host example.org", "example.org"),
            ("port 99999", "99999"),
            ("port 80 and", "ends"),
            ("(port 80", "parenthesis"),
            ("port 80 tcp", "tcp"),
            ("portrange 9", "9"),
            ("portrange 9-8", "9-8"),
            ("net 10.0.0.0/99", "10.0.0.0/99"),
            ("10.0.0.1", "10.0.0.1"),
            (")", ")"),
        ] {
            let e = Filter::parse(text).unwrap_err();
            assert!(e.contains(word) && !e.contains('\n'), "{text}: {e}");
        }
        let deep = "not ".repeat(100_000) + "tcp";
        assert!(Filter::parse(&deep).is_err());
    }
}
