//! What hosts received of a probe, in words: names for addresses, and for ports whether they are the
//! sender's, the destination's, or another. A probe is over when a marker that its sender sent after it has
//! come back: all that the node does with both it does on one CPU, in order.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Result, bail};
use netd_fuzz::build::{Ends, Ip, eth, icmp, proto};
use netd_fuzz::read::{self, L3};

use super::probe::Probe;
use super::side::{OPEN, Side, Who, name_of, who};
use crate::lab::wait::PATIENCE;

/// What each host received, in the order of [`Who::ALL`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome(pub Vec<(Who, Vec<String>)>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (host, frames) in &self.0 {
            write!(f, "[{} got {}] ", host.name(), frames.join("; "))?;
        }
        Ok(())
    }
}

impl Outcome {
    /// Nobody got anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lines of one host.
    pub fn of(&self, who: Who) -> &[String] {
        let found = self.0.iter().find(|(w, _)| *w == who);
        found.map_or(&[], |(_, lines)| lines)
    }

    /// Whether any host got a line with this text.
    pub fn says(&self, text: &str) -> bool {
        self.0
            .iter()
            .any(|(_, l)| l.iter().any(|l| l.contains(text)))
    }
}

/// Begins the payload of every marker.
const MARKER: &[u8] = b"marker ";

impl Side {
    /// Sends a probe and a marker, and says what came of the probe.
    pub fn run(&self, probe: &Probe, number: u32) -> Result<Outcome> {
        for wire in &self.wires {
            wire.drain()?;
        }
        let wire = &self.wires[probe.from as usize];
        for frame in probe.frames(self) {
            wire.send(&frame)?;
        }
        let mut seen: Vec<Vec<String>> = vec![Vec::new(); 4];
        let mine = probe.from as usize;
        let text = [MARKER, &number.to_be_bytes()].concat();
        wire.send(&self.marker(probe.from, &text))?;
        let deadline = Instant::now() + PATIENCE;
        'marker: loop {
            let frames = wire.drain()?;
            for frame in frames.into_iter().filter(|f| !f.outgoing) {
                if frame.bytes.windows(text.len()).any(|w| w == text) {
                    break 'marker;
                }
                seen[mine].extend(line(&frame.bytes, probe));
            }
            if Instant::now() > deadline {
                bail!("{}: no answer to the marker behind {probe}", self.name);
            }
            std::thread::yield_now();
        }
        for (n, wire) in self.wires.iter().enumerate() {
            for frame in wire.drain()?.into_iter().filter(|f| !f.outgoing) {
                seen[n].extend(line(&frame.bytes, probe));
            }
        }
        let all = Who::ALL.into_iter().zip(seen);
        Ok(Outcome(
            all.filter(|(_, lines)| !lines.is_empty()).collect(),
        ))
    }

    /// An echo request: from an endpoint to the outside, from outside to the node.
    fn marker(&self, from: Who, text: &[u8]) -> Vec<u8> {
        let to = if from == Who::Outside {
            "node"
        } else {
            "outside"
        };
        let ends = Ends::of(false, &who(from.name()), &who(to));
        let id = 60_000 + from as u16;
        let rest = [&id.to_be_bytes()[..], &[0, 1], text].concat();
        let ip = Ip {
            ends,
            proto: proto::ICMP,
            ttl: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: (0, false),
        };
        let n = from as usize;
        let header = eth(self.routers[n], self.macs[n], 0x0800);
        [header, ip.bytes(&icmp(&ends, 8, 0, &rest))].concat()
    }
}

/// A frame in words; `None`: it says nothing of the probe.
fn line(frame: &[u8], probe: &Probe) -> Option<String> {
    let ip = read::ip(frame)?;
    if frame.windows(MARKER.len()).any(|w| w == MARKER) {
        return None;
    }
    // What hosts say by themselves: neighbours, groups.
    let by_itself =
        ip.v6 && ip.proto == proto::ICMPV6 && matches!(frame.get(ip.l4), Some(130..=137 | 143));
    if by_itself || ip.proto == proto::IGMP {
        return None;
    }
    Some(packet(frame, &ip, probe))
}

fn packet(frame: &[u8], ip: &read::Ip, probe: &Probe) -> String {
    let ends = format!("{} > {}", name(&ip.src), name(&ip.dst));
    let header = match ip.header_error(frame) {
        0 => "",
        _ => " WRONG HEADER CHECKSUM",
    };
    let sum = match ip.l4_error(frame) {
        None => " unsummed",
        Some(0) => "",
        Some(_) => " wrong checksum",
    };
    let mut text = format!("{ends} ttl {}{header}", ip.ttl);
    if ip.fragment {
        text += if ip.later {
            " later fragment"
        } else {
            " first fragment"
        };
        return text;
    }
    let bytes = &frame[ip.l4..ip.end];
    let port = |at: usize| match bytes.get(at..at + 2) {
        Some(two) => port(u16::from_be_bytes([two[0], two[1]]), probe),
        None => "none".into(),
    };
    let len = bytes.len();
    let rest = match ip.proto {
        proto::TCP => format!(
            " tcp {} > {} flags {:#04x}{sum}",
            port(0),
            port(2),
            bytes.get(13).unwrap_or(&0)
        ),
        proto::UDP => format!(" udp {} > {} {len} bytes{sum}", port(0), port(2)),
        proto::ICMP | proto::ICMPV6 => message(bytes, ip.v6, probe, sum),
        other => format!(" protocol {other} {len} bytes"),
    };
    text + &rest
}

fn message(bytes: &[u8], v6: bool, probe: &Probe, sum: &str) -> String {
    let [kind, code, ..] = bytes else {
        return " icmp cut short".into();
    };
    let word = |at: usize| {
        bytes
            .get(at..at + 2)
            .map_or(0, |w| u16::from_be_bytes([w[0], w[1]]))
    };
    if matches!((v6, kind), (false, 0 | 8) | (true, 128 | 129)) {
        return format!(" echo {kind} id {}{sum}", port(word(4), probe));
    }
    // An error: what it is about is a packet of its own, cut short.
    let mut inner = vec![0; L3 - 2];
    inner.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
    inner.extend(bytes.get(8..).unwrap_or(&[]));
    let about = about(&inner, v6, probe);
    format!(" icmp {kind}/{code} mtu {}{sum} about ({about})", word(6))
}

/// The addresses and ports of a packet that may be cut short.
fn about(inner: &[u8], v6: bool, probe: &Probe) -> String {
    let (ends, l4) = if v6 {
        (inner.get(22..38).zip(inner.get(38..54)), 54)
    } else {
        let ihl = inner.get(14).map_or(20, |b| usize::from(b & 15) * 4);
        (inner.get(26..30).zip(inner.get(30..34)), 14 + ihl)
    };
    let Some((src, dst)) = ends else {
        return "nothing".into();
    };
    let ports = inner.get(l4..l4 + 4).map_or(String::new(), |p| {
        let one = port(u16::from_be_bytes([p[0], p[1]]), probe);
        let two = port(u16::from_be_bytes([p[2], p[3]]), probe);
        format!(" {one} > {two}")
    });
    format!("{} > {}{ports}", name(src), name(dst))
}

fn name(address: &[u8]) -> String {
    let four: Result<[u8; 4], _> = address.try_into();
    let six: Result<[u8; 16], _> = address.try_into();
    match (four, six) {
        (Ok(a), _) => name_of(IpAddr::from(a)),
        (_, Ok(a)) => name_of(IpAddr::from(a)),
        _ => "?".into(),
    }
}

fn port(port: u16, probe: &Probe) -> String {
    if port == probe.sport {
        "own".into()
    } else if port == probe.dport {
        "dport".into()
    } else if port == OPEN {
        "open".into()
    } else {
        "other".into()
    }
}
