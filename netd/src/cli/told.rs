//! A line of what happens, for people.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use netd_api::{Ends, Told, ToldFlow, ToldPacket};

/// One line, without its end.
pub fn line(told: &Told) -> String {
    match told {
        Told::Opened(flow) => format!("{} opened   {}", clock(flow.time_ns), self::flow(flow)),
        Told::Closed(flow) => format!("{} closed   {}", clock(flow.time_ns), self::flow(flow)),
        Told::Refused(p) => format!("{} refused  {}", clock(p.time_ns), packet(p)),
        Told::Dropped(p) => format!("{} dropped  {}", clock(p.time_ns), packet(p)),
        Told::Packet(p) => format!("{} {}", clock(p.time_ns), packet(p)),
        Told::Lost { events } => format!("{events} events are missing here: too many at once"),
    }
}

fn flow(flow: &ToldFlow) -> String {
    let mut text = format!("{} {} {}", flow.kind, flow.proto, ends(&flow.ends));
    if let Some(nat) = &flow.nat {
        let _ = write!(text, " as {}", ends(nat));
    }
    if let Some(client) = &flow.client {
        let _ = write!(text, " from {client}");
    }
    if let Some(endpoint) = &flow.endpoint {
        let _ = write!(text, " of {endpoint}");
    }
    if let Some(end) = &flow.closed {
        let _ = write!(
            text,
            ": {} after {}, {} packets {} bytes, back {} packets {} bytes",
            end.why,
            seconds(end.lived_ns),
            end.packets,
            end.bytes,
            end.reply_packets,
            end.reply_bytes
        );
    }
    text
}

/// A packet and what became of it.
pub fn packet(p: &ToldPacket) -> String {
    let mut text = match &p.reason {
        Some(reason) => format!("{reason} at {} {}", p.hook, p.device),
        None => format!("{} at {} {}", p.verdict, p.hook, p.device),
    };
    if let Some(device) = &p.to_device {
        let _ = write!(text, " to {device}");
    }
    if let Some(endpoint) = &p.endpoint {
        let _ = write!(text, " ({endpoint})");
    }
    let _ = write!(text, ": {} {}", p.proto, ends(&p.ends));
    if let Some(nat) = &p.nat {
        let _ = write!(text, " as {}", ends(nat));
    }
    let _ = write!(text, ", {} bytes", p.len);
    text
}

/// `SRC > DST`; nothing where neither is known.
pub fn ends(ends: &Ends) -> String {
    let side = |ip: Option<IpAddr>, port: Option<u16>| match (ip, port) {
        (Some(ip), Some(port)) => SocketAddr::new(ip, port).to_string(),
        (Some(ip), None) => ip.to_string(),
        (None, _) => "?".into(),
    };
    format!(
        "{} > {}",
        side(ends.src, ends.sport),
        side(ends.dst, ends.dport)
    )
}

fn seconds(ns: u64) -> String {
    format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000)
}

/// The time of day here, with microseconds.
pub fn clock(ns: u64) -> String {
    let seconds = libc::time_t::try_from(ns / 1_000_000_000).unwrap_or(0);
    let mut tm = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both point to live values of the right types; `tm` is all zero, which is one, even if the
    // call leaves it so.
    let tm = unsafe {
        libc::localtime_r(&raw const seconds, tm.as_mut_ptr());
        tm.assume_init()
    };
    format!(
        "{:02}:{:02}:{:02}.{:06}",
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        ns / 1000 % 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_became_of_whom() {
        let json = r#"{"event":"closed","time_ns":0,"kind":"masquerade","proto":"tcp","endpoint":"api",
            "network":"web","client":null,"publish":null,"src":"10.0.0.5","sport":4000,"dst":"1.1.1.1",
            "dport":443,"nat":{"src":"192.0.2.2","sport":5000,"dst":"1.1.1.1","dport":443},
            "closed":{"why":"reset","lived_ns":1234567890,"packets":3,"bytes":180,"reply_packets":2,
            "reply_bytes":120}}"#;
        let told: Told = serde_json::from_str(json).unwrap();
        let text = line(&told);
        assert!(
            text.ends_with(
                " closed   masquerade tcp 10.0.0.5:4000 > 1.1.1.1:443 as 192.0.2.2:5000 > 1.1.1.1:443 of \
                 api: reset after 1.234 s, 3 packets 180 bytes, back 2 packets 120 bytes"
            ),
            "{text}"
        );
        let json = r#"{"event":"dropped","time_ns":1001000,"hook":"ep_out","device":"nde1","endpoint":"api",
            "network":"web","verdict":"dropped","reason":"spoofed_ip","to_device":null,"proto":"udp",
            "src":"fd00::5","sport":1,"dst":"fd00::6","dport":2,"nat":null,"len":62,"vlan":null,"frame":null}"#;
        let text = line(&serde_json::from_str(json).unwrap());
        assert!(
            text.ends_with(
                ".001001 dropped  spoofed_ip at ep_out nde1 (api): udp [fd00::5]:1 > [fd00::6]:2, 62 bytes"
            ),
            "{text}"
        );
    }
}
