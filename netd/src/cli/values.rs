//! Values on the command line that have a shape of their own: targets, endpoints, labels, gateways.

use std::net::IpAddr;

use ipnet::IpNet;

/// The forms a TARGET can have, for error texts.
const FORMS: &str =
    "a TARGET is the NAME of a namespace in /run/netns, an absolute /path, or pid:N";

/// A TARGET, as the API takes it.
pub fn target(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(format!("it is empty: {FORMS}"));
    }
    if let Some(pid) = text.strip_prefix("pid:") {
        return match pid.parse::<u32>() {
            Ok(1..) => Ok(text.into()),
            _ => Err(format!("{pid:?} is not a process id: {FORMS}")),
        };
    }
    if text.contains('/') && !text.starts_with('/') {
        return Err(format!("it is a relative path: {FORMS}"));
    }
    if text == "." || text == ".." {
        return Err(format!("it is a relative path: {FORMS}"));
    }
    Ok(text.into())
}

/// An endpoint: name, id, unique prefix of the id, or a TARGET.
pub fn endpoint(text: &str) -> Result<String, String> {
    target(text).map_err(|e| format!("{e} (or give the name or id of an endpoint)"))
}

/// The name of something: not empty, so that it cannot vanish from a path of the API.
pub fn name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("a name is not empty".into()),
        "." | ".." => Err("a name begins with a letter or digit".into()),
        _ => Ok(text.into()),
    }
}

/// Who may come: a prefix, or one address.
pub fn source(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .map(|net| net.trunc())
        .or_else(|_| one())
        .map_err(|_| "it is written as a prefix (192.0.2.0/24, 2001:db8::/32) or an address".into())
}

/// `K=V`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("a label is written KEY=VALUE".into()),
    }
}

/// What `--gateway` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// This address.
    Ip(IpAddr),
    /// The network has none.
    None,
}

/// `IP` or `none`.
pub fn gateway(text: &str) -> Result<Gateway, String> {
    if text == "none" {
        return Ok(Gateway::None);
    }
    text.parse()
        .map(Gateway::Ip)
        .map_err(|_| "a gateway is an IP address, or none".into())
}

/// Frames a second, or `off`, which the API writes 0.
pub fn storm(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(n @ 1..) => Ok(n),
        Err(_) if text == "off" => Ok(0),
        Ok(0) | Err(_) => Err("a storm limit is a number of frames a second, or off".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_three_forms() {
        for good in [
            "box",
            "/run/netns/box",
            "/proc/7/ns/net",
            "pid:1",
            "web.1",
            "0a1b2c",
        ] {
            assert_eq!(target(good).as_deref(), Ok(good));
        }
        for bad in [
            "", "a/b", "./box", "../box", "..", ".", "pid:", "pid:x", "pid:0", "pid:-1",
        ] {
            let e = target(bad).unwrap_err();
            assert!(
                e.contains("NAME") && e.contains("/path") && e.contains("pid:N"),
                "{bad}: {e}"
            );
        }
    }

    #[test]
    fn labels_and_gateways_are_read() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        assert!(label("=b").is_err() && label("a").is_err());
        assert_eq!(gateway("none"), Ok(Gateway::None));
        assert_eq!(
            gateway("fd00::1"),
            Ok(Gateway::Ip("fd00::1".parse().unwrap()))
        );
        assert!(gateway("None!").is_err());
        assert_eq!((storm("off"), storm("7")), (Ok(0), Ok(7)));
        for bad in ["0", "-1", "on", ""] {
            assert!(storm(bad).is_err(), "{bad}");
        }
    }
}
