//! A packet in words, as a person writes it on a command line. What is not said is left to whoever makes
//! the frame: it knows the sender's own addresses and MACs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A packet in words.
///
/// ```
/// use netd_api::PacketSpec;
/// let said: PacketSpec = "tcp 10.0.0.5:1234 > 1.1.1.1:443".parse()?;
/// assert_eq!(said.to_string(), "tcp 10.0.0.5:1234 > 1.1.1.1:443");
/// # Ok::<(), netd_api::PacketError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PacketSpec {
    /// What it is.
    pub kind: PacketKind,
    /// Source address, for a question the asker's; none: the sender's own.
    pub src: Option<IpAddr>,
    /// Destination address; for a question the address asked for.
    pub dst: IpAddr,
    /// Source port, for an echo request its identifier; none: any.
    pub sport: Option<u16>,
    /// Destination port; 0 where there is none.
    pub dport: u16,
    /// TCP: the flags byte (RFC 9293 section 3.1).
    pub flags: u8,
    /// Bytes behind the last header.
    pub len: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Source MAC; none: the sender's own.
    pub from: Option<[u8; 6]>,
    /// Destination MAC; none: that of the address, or of the gateway.
    pub to: Option<[u8; 6]>,
}

/// What a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketKind {
    /// A TCP segment.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// An ICMP or `ICMPv6` echo request.
    Icmp,
    /// An ARP request.
    Arp,
    /// A neighbour solicitation (RFC 4861 section 4.3).
    Nd,
}

/// TCP flags by their letters, in the order they are printed.
const FLAGS: [(char, u8); 6] = [
    ('F', 0x01),
    ('S', 0x02),
    ('R', 0x04),
    ('P', 0x08),
    ('A', 0x10),
    ('U', 0x20),
];
const SYN: u8 = 0x02;
/// What a packet's time to live is if nobody says.
const TTL: u8 = 64;
/// Neighbour discovery is not forwarded: a receiver takes no other hop limit (RFC 4861 section 7.1).
const TTL_ND: u8 = 255;
/// Payload that fits the smallest IP packet that may be long.
const MOST: u16 = 65_000;

/// Why words are no packet.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PacketError(String);

type Result<T> = std::result::Result<T, PacketError>;

fn wrong<T>(text: impl Into<String>) -> Result<T> {
    Err(PacketError(text.into()))
}

impl PacketKind {
    const ALL: [Self; 5] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Arp, Self::Nd];

    /// The word it begins with.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Arp => "arp",
            Self::Nd => "nd",
        }
    }

    const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    /// A question who has an address.
    const fn asks(self) -> bool {
        matches!(self, Self::Arp | Self::Nd)
    }
}

impl FromStr for PacketSpec {
    type Err = PacketError;

    fn from_str(text: &str) -> Result<Self> {
        let spaced = text.replace('>', " > ");
        let mut words = spaced.split_whitespace();
        let Some(first) = words.next() else {
            return wrong("say a packet, for instance: tcp 10.0.0.5:1234 > 1.1.1.1:443");
        };
        let kind = PacketKind::ALL.into_iter().find(|k| k.name() == first);
        let Some(kind) = kind else {
            return wrong(format!(
                "{first:?} is no protocol of a packet in words: tcp, udp, icmp, arp or nd (others by --hex)"
            ));
        };
        let mut words = words.peekable();
        let mut spec = if kind.asks() {
            question(kind, &mut words)?
        } else {
            ends(kind, &mut words)?
        };
        while let Some(option) = words.next() {
            let value = words.next();
            let Some(value) = value else {
                return wrong(format!(
                    "{option:?} stands alone, it needs a value behind it"
                ));
            };
            spec.option(option, value)?;
        }
        spec.check()
    }
}

fn question<'a>(
    kind: PacketKind,
    words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
) -> Result<PacketSpec> {
    if words.next() != Some("who-has") {
        return wrong(format!(
            "a question is written `{} who-has ADDRESS [tell ADDRESS]`",
            kind.name()
        ));
    }
    let (dst, _) = socket(kind, words.next().unwrap_or_default())?;
    let mut src = None;
    if words.peek() == Some(&"tell") {
        words.next();
        src = socket(kind, words.next().unwrap_or_default())?.0;
    }
    match dst {
        Some(dst) => Ok(PacketSpec::new(kind, src, dst)),
        None => wrong("who-has needs the address that is asked for"),
    }
}

fn ends<'a>(
    kind: PacketKind,
    words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
) -> Result<PacketSpec> {
    let mut src = (None, None);
    let Some(mut last) = words.next() else {
        return wrong(format!("{} needs at least a destination", kind.name()));
    };
    if words.peek() == Some(&">") {
        words.next();
        src = socket(kind, last)?;
        last = words.next().unwrap_or_default();
    }
    let (dst, dport) = socket(kind, last)?;
    let Some(dst) = dst else {
        return wrong(format!("{last:?} is no destination: it needs an address"));
    };
    if kind.has_ports() && dport.is_none() {
        let shown = SocketAddr::new(dst, 443);
        return wrong(format!(
            "{last:?} has no port, which {} needs: {shown}",
            kind.name()
        ));
    }
    let mut spec = PacketSpec::new(kind, src.0, dst);
    (spec.sport, spec.dport) = (src.1, dport.unwrap_or(0));
    Ok(spec)
}

/// `1.2.3.4:80`, `[::1]:80`, an address alone, or `:80`.
fn socket(kind: PacketKind, word: &str) -> Result<(Option<IpAddr>, Option<u16>)> {
    if word.is_empty() {
        return wrong("an address is missing at the end");
    }
    if let Ok(addr) = word.parse::<IpAddr>() {
        return Ok((Some(addr), None));
    }
    let bare = word.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
    if let Some(Ok(addr)) = bare.map(str::parse) {
        return Ok((Some(IpAddr::V6(addr)), None));
    }
    let read = match word.strip_prefix(':').map(str::parse) {
        Some(Ok(port)) => Some((None, port)),
        Some(Err(_)) => None,
        None => word
            .parse::<SocketAddr>()
            .ok()
            .map(|s| (Some(s.ip()), s.port())),
    };
    match read {
        Some(_) if !kind.has_ports() => wrong(format!(
            "{word:?} has a port, which {} has not",
            kind.name()
        )),
        Some((_, 0)) => wrong(format!("{word:?}: there is no port 0")),
        Some((addr, port)) => Ok((addr, Some(port))),
        None => wrong(format!(
            "{word:?} is no address (192.0.2.1, 2001:db8::1) and no socket (192.0.2.1:80, [2001:db8::1]:80)"
        )),
    }
}

impl PacketSpec {
    /// One with nothing unusual about it.
    pub const fn new(kind: PacketKind, src: Option<IpAddr>, dst: IpAddr) -> Self {
        Self {
            kind,
            src,
            dst,
            sport: None,
            dport: 0,
            flags: if matches!(kind, PacketKind::Tcp) {
                SYN
            } else {
                0
            },
            len: 0,
            ttl: if matches!(kind, PacketKind::Nd) {
                TTL_ND
            } else {
                TTL
            },
            from: None,
            to: None,
        }
    }

    fn option(&mut self, option: &str, value: &str) -> Result<()> {
        fn number<T: FromStr>(what: &str, value: &str, range: &str) -> Result<T> {
            value
                .parse()
                .map_err(|_| PacketError(format!("{what} {value:?} is no number of {range}")))
        }
        match (option, self.kind) {
            ("flags", PacketKind::Tcp) => self.flags = flags(value)?,
            ("len", PacketKind::Tcp | PacketKind::Udp | PacketKind::Icmp) => {
                self.len = number("len", value, "0 to 65000")?;
                if self.len > MOST {
                    return wrong(format!("len {value} is more than {MOST}"));
                }
            }
            ("ttl", PacketKind::Tcp | PacketKind::Udp | PacketKind::Icmp | PacketKind::Nd) => {
                self.ttl = number("ttl", value, "0 to 255")?;
            }
            ("id", PacketKind::Icmp) => self.sport = Some(number("id", value, "0 to 65535")?),
            ("from", _) => self.from = Some(mac(value)?),
            ("to", _) => self.to = Some(mac(value)?),
            ("flags" | "len" | "ttl" | "id", kind) => {
                return wrong(format!(
                    "{} packets have no {option:?} to be said",
                    kind.name()
                ));
            }
            _ => {
                return wrong(format!(
                    "{option:?} is none of flags, len, ttl, id, from (a MAC) and to (a MAC)"
                ));
            }
        }
        Ok(())
    }

    fn check(self) -> Result<Self> {
        if let Some(src) = self.src
            && src.is_ipv4() != self.dst.is_ipv4()
        {
            return wrong(format!("{src} and {} are of two families", self.dst));
        }
        match self.kind {
            PacketKind::Arp if self.dst.is_ipv6() => wrong(format!(
                "ARP asks for IPv4 addresses: nd who-has {}",
                self.dst
            )),
            PacketKind::Nd if self.dst.is_ipv4() => wrong(format!(
                "neighbour discovery asks for IPv6 addresses: arp who-has {}",
                self.dst
            )),
            _ => Ok(self),
        }
    }
}

/// `S`, `SA`, `.` for none.
fn flags(text: &str) -> Result<u8> {
    if text == "." {
        return Ok(0);
    }
    let mut flags = 0;
    for letter in text.chars() {
        match FLAGS
            .iter()
            .find(|(l, _)| *l == letter.to_ascii_uppercase())
        {
            Some((_, bit)) => flags |= bit,
            None => {
                return wrong(format!(
                    "flags {text:?}: {letter:?} is none of F, S, R, P, A, U (`.` for no flag)"
                ));
            }
        }
    }
    Ok(flags)
}

/// The letters of TCP flags, as [`PacketSpec`] takes them; `.`: none.
pub fn flag_letters(flags: u8) -> String {
    let letters = FLAGS.iter().filter(|(_, bit)| flags & bit != 0);
    let letters: String = letters.map(|(letter, _)| letter).collect();
    if letters.is_empty() {
        ".".into()
    } else {
        letters
    }
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let parts: Vec<&str> = text.split(':').collect();
    let mut mac = [0; 6];
    let fits = parts.len() == 6
        && parts.iter().zip(&mut mac).all(|(part, byte)| {
            let read = u8::from_str_radix(part, 16)
                .ok()
                .filter(|_| part.len() == 2);
            read.map(|b| *byte = b).is_some()
        });
    if fits {
        Ok(mac)
    } else {
        wrong(format!("{text:?} is no MAC (02:00:00:00:00:01)"))
    }
}

struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<String> = self.0.iter().map(|b| format!("{b:02x}")).collect();
        f.write_str(&bytes.join(":"))
    }
}

/// The words [`PacketSpec::from_str`] reads as the same packet; what is usual is left out.
impl fmt::Display for PacketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::new(self.kind, self.src, self.dst);
        write!(f, "{} ", self.kind.name())?;
        let ports = self.kind.has_ports();
        if self.kind.asks() {
            write!(f, "who-has {}", self.dst)?;
            if let Some(src) = self.src {
                write!(f, " tell {src}")?;
            }
        } else {
            match (self.src, self.sport.filter(|_| ports)) {
                (Some(src), Some(port)) => write!(f, "{} > ", SocketAddr::new(src, port))?,
                (Some(src), None) => write!(f, "{src} > ")?,
                (None, Some(port)) => write!(f, ":{port} > ")?,
                (None, None) => {}
            }
            if ports {
                write!(f, "{}", SocketAddr::new(self.dst, self.dport))?;
            } else {
                write!(f, "{}", self.dst)?;
            }
        }
        if self.flags != usual.flags {
            write!(f, " flags {}", flag_letters(self.flags))?;
        }
        if let Some(id) = self.sport.filter(|_| self.kind == PacketKind::Icmp) {
            write!(f, " id {id}")?;
        }
        if self.len != 0 {
            write!(f, " len {}", self.len)?;
        }
        if self.ttl != usual.ttl {
            write!(f, " ttl {}", self.ttl)?;
        }
        if let Some(mac) = self.from {
            write!(f, " from {}", Mac(mac))?;
        }
        if let Some(mac) = self.to {
            write!(f, " to {}", Mac(mac))?;
        }
        Ok(())
    }
}

impl TryFrom<String> for PacketSpec {
    type Error = PacketError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PacketSpec> for String {
    fn from(spec: PacketSpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests;
