//! Names: of objects, of devices, and MAC addresses.

use std::fmt;

use netd_common::addr::{Mac, is_group};

use super::ModelError;

/// Longest name of an object.
const LONGEST: usize = 63;
/// Longest name of a device (`IFNAMSIZ` - 1).
const LONGEST_DEVICE: usize = 15;

/// Checks the name of an object: 1-63 of `[a-zA-Z0-9_.-]`, beginning with a letter or digit.
pub fn check(what: &'static str, name: &str) -> Result<(), ModelError> {
    let bad = |why: String| ModelError::Name {
        what,
        name: name.into(),
        why,
    };
    if name.is_empty() || name.len() > LONGEST {
        return Err(bad(format!(
            "it has {} characters; 1 to {LONGEST} are allowed",
            name.len()
        )));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(bad("it must begin with a letter or digit".into()));
    }
    match name
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !"_.-".contains(*c))
    {
        Some(c) => Err(bad(format!(
            "{c:?} is not allowed; use letters, digits, '_', '.' and '-'"
        ))),
        None => Ok(()),
    }
}

/// Checks the name of a device: 1-15 bytes, what the kernel takes (`dev_valid_name`).
pub fn check_device(name: &str) -> Result<(), ModelError> {
    let bad = |why: String| ModelError::Name {
        what: "device",
        name: name.into(),
        why,
    };
    if name.is_empty() || name.len() > LONGEST_DEVICE {
        return Err(bad(format!(
            "it has {} characters; a device name has 1 to {LONGEST_DEVICE}",
            name.len()
        )));
    }
    if name == "." || name == ".." {
        return Err(bad("the kernel does not allow it".into()));
    }
    match name
        .chars()
        .find(|c| *c == '/' || *c == ':' || c.is_whitespace() || c.is_control())
    {
        Some(c) => Err(bad(format!("{c:?} is not allowed in a device name"))),
        None if name == "lo" => Err(bad("it is the loopback device".into())),
        None => Ok(()),
    }
}

/// A MAC that reads and shows as `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ShowMac(
    /// The bytes, in wire order.
    pub Mac,
);

impl fmt::Display for ShowMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let colon = if i == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

/// Reads a unicast MAC written `aa:bb:cc:dd:ee:ff`.
pub fn parse_mac(text: &str) -> Result<Mac, ModelError> {
    let bad = |why: &str| ModelError::Mac {
        mac: text.into(),
        why: why.into(),
    };
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let hex = |p: &&str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
        let part = parts.next().filter(hex);
        *byte = part
            .and_then(|p| u8::from_str_radix(p, 16).ok())
            .ok_or_else(|| bad("it is written aa:bb:cc:dd:ee:ff"))?;
    }
    if parts.next().is_some() {
        return Err(bad("it is written aa:bb:cc:dd:ee:ff"));
    }
    if is_group(mac) || mac == [0; 6] {
        return Err(bad("it must be a unicast address that is not zero"));
    }
    Ok(mac)
}

/// A stable hash of text, for names that have to be cut (FNV-1a, 64 bits).
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Device name of a gateway pair's outer end: `nd-NETWORK`, shortened with a hash over 15 characters.
pub fn outer_device(network: &str) -> String {
    let plain = format!("nd-{network}");
    if plain.len() <= LONGEST_DEVICE {
        return plain;
    }
    format!("nd-{}{:06x}", &network[..6], hash(network) & 0xff_ffff)
}

/// Device name of a gateway pair's inner end.
pub fn inner_device(network: &str) -> String {
    format!("ndi{:012x}", hash(network) & 0xffff_ffff_ffff)
}

/// Name of the node-side device of an endpoint.
pub fn endpoint_device(id: &str) -> String {
    format!("nde{id}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn object_names() {
        for good in ["a", "web", "0", "a.b_c-d", &"x".repeat(63)] {
            assert!(check("network", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "\u{e9}", &"x".repeat(64)] {
            let e = check("network", bad).unwrap_err().to_string();
            assert!(e.contains("network") && !e.contains('\n'), "{e}");
        }
    }

    #[test]
    fn a_device_name_of_16_characters_is_refused_in_one_line() {
        let e = check_device("abcdefghijklmnop").unwrap_err().to_string();
        assert!(e.contains("abcdefghijklmnop") && e.contains("16 characters") && e.contains("15"));
        assert!(check_device("abcdefghijklmno").is_ok());
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "lo"] {
            assert!(check_device(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn macs() {
        assert_eq!(
            parse_mac("02:0a:FF:00:00:01").unwrap(),
            [2, 10, 255, 0, 0, 1]
        );
        for bad in [
            "",
            "02:0a:ff:00:00",
            "02:0a:ff:00:00:01:02",
            "1:2:3:4:5:6",
            "01:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "02:0a:ff:00:00:+1",
        ] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
        assert_eq!(
            ShowMac([2, 10, 255, 0, 0, 1]).to_string(),
            "02:0a:ff:00:00:01"
        );
    }

    proptest! {
        #[test]
        fn made_device_names_are_valid_and_differ(a in "[a-z0-9][a-z0-9_.-]{0,62}", b in "[a-z0-9][a-z0-9_.-]{0,62}") {
            for n in [outer_device(&a), inner_device(&a)] {
                prop_assert!(check_device(&n).is_ok(), "{}", n);
            }
            if a != b {
                prop_assert_ne!(outer_device(&a), outer_device(&b));
                prop_assert_ne!(inner_device(&a), inner_device(&b));
            }
        }
    }
}
