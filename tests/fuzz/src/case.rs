//! One case: a frame and where it comes from. Its text form is one line: `ep_out:a 0 0200...`, the place,
//! the GSO segment size (0: none), the frame in hexadecimal.

use std::fmt::{self, Write as _};
use std::str::FromStr;

/// Where a frame comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Out of an endpoint: its place in [`Cast::endpoints`](crate::cast::Cast).
    EpOut(u8),
    /// Out of the gateway pair of a network: its place in `gateways`.
    GwOut(u8),
    /// From outside, at TC.
    UpIn,
    /// From the node's stack to the outside.
    UpOut,
    /// From outside, at XDP.
    Xdp,
}

impl At {
    /// Every place.
    pub const ALL: [Self; 8] = [
        Self::EpOut(0),
        Self::EpOut(1),
        Self::EpOut(2),
        Self::GwOut(0),
        Self::GwOut(1),
        Self::UpIn,
        Self::UpOut,
        Self::Xdp,
    ];
}

/// A case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// Where the frame comes from.
    pub at: At,
    /// Payload bytes of a segment; 0: no GSO packet.
    pub gso: u16,
    /// Its bytes.
    pub frame: Vec<u8>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |n: u8| char::from(b'a' + n);
        match self {
            Self::EpOut(n) => write!(f, "ep_out:{}", letter(*n)),
            Self::GwOut(n) => write!(f, "gw_out:{}", letter(*n)),
            Self::UpIn => f.write_str("up_in"),
            Self::UpOut => f.write_str("up_out"),
            Self::Xdp => f.write_str("xdp"),
        }
    }
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|at| at.to_string() == text);
        found.ok_or_else(|| format!("`{text}` is no place of a frame"))
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes from hexadecimal.
pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let pair = |at: usize| {
        let two = text.get(at..at + 2);
        two.and_then(|two| u8::from_str_radix(two, 16).ok())
            .ok_or_else(|| format!("no bytes in hexadecimal: `{text}`"))
    };
    (0..text.len()).step_by(2).map(pair).collect()
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at, self.gso, hex(&self.frame))
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [at, gso, rest @ ..] = &words[..] else {
            return Err(format!("`{line}` is no case: PLACE GSO FRAME"));
        };
        Ok(Self {
            at: at.parse()?,
            gso: gso.parse().map_err(|e| format!("`{gso}`: {e}"))?,
            frame: unhex(&rest.concat())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_the_case_it_was_made_from() {
        for at in At::ALL {
            let case = Case {
                at,
                gso: 1400,
                frame: vec![0, 1, 0xff],
            };
            assert_eq!(case.to_string().parse(), Ok(case));
        }
        assert!("up_in 0 0g".parse::<Case>().is_err());
        assert!("up_in 0 012".parse::<Case>().is_err());
        assert!("nowhere 0 01".parse::<Case>().is_err());
        assert!("up_in".parse::<Case>().is_err());
    }
}
