//! Calls of socket functions by real processes, and what they saw.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use netd_tests::lab::{Host, Lab, Proto};
use serde::{Deserialize, Serialize};

const CLIENT: &str = include_str!("client.py");

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    proto: &'static str,
    /// 4 or 6: the socket's family, which need not be the address's.
    socket: u8,
    /// `connect`, `send` or `bind`.
    how: &'static str,
    to: String,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    options: Vec<&'static str>,
    /// Number of the socket's protocol; 0: the usual one.
    number: u32,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Name of the error number, or `time-out`.
    pub error: Option<String>,
    /// What the server said.
    pub answer: Option<String>,
    /// `getpeername`: address and port.
    pub peer: Option<String>,
    /// `recvfrom`: address and port.
    pub source: Option<String>,
}

impl Call {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "addresses and texts are given as they are at hand"
    )]
    fn new(how: &'static str, proto: Proto, to: impl ToString, port: u16) -> Self {
        let to = to.to_string();
        Self {
            proto: proto.name(),
            socket: if to.contains(':') { 6 } else { 4 },
            how,
            to,
            port,
            bind: None,
            device: None,
            options: vec![],
            number: 0,
        }
    }

    /// `connect`, one question, one answer.
    pub fn connect(proto: Proto, to: impl ToString, port: u16) -> Self {
        Self::new("connect", proto, to, port)
    }

    /// `sendto` and `recvfrom`.
    pub fn send(to: impl ToString, port: u16) -> Self {
        Self::new("send", Proto::Udp, to, port)
    }

    /// `bind`, and `listen` for TCP.
    pub fn bind(proto: Proto, to: impl ToString, port: u16) -> Self {
        Self::new("bind", proto, to, port)
    }

    /// The same, bound to an address first.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "addresses and texts are given as they are at hand"
    )]
    pub fn from(self, bind: impl ToString) -> Self {
        Self {
            bind: Some(bind.to_string()),
            ..self
        }
    }

    /// The same, bound to a device first.
    pub fn by(self, device: &str) -> Self {
        Self {
            device: Some(device.to_owned()),
            ..self
        }
    }

    /// The same with options of `SOL_SOCKET` set.
    pub fn with(self, options: &[&'static str]) -> Self {
        Self {
            options: options.to_vec(),
            ..self
        }
    }

    /// The same by a socket of another protocol.
    pub fn number(self, number: u32) -> Self {
        Self { number, ..self }
    }
}

/// Every way to ask `to`: TCP, UDP connected and not.
#[expect(
    clippy::needless_pass_by_value,
    reason = "addresses and texts are given as they are at hand"
)]
pub fn ways(to: impl ToString, port: u16) -> [Call; 3] {
    let to = to.to_string();
    [
        Call::connect(Proto::Tcp, &to, port),
        Call::connect(Proto::Udp, &to, port),
        Call::send(&to, port),
    ]
}

/// `::ffff:a.b.c.d`
pub fn mapped(ip: IpAddr) -> String {
    format!("::ffff:{ip}")
}

/// Makes calls on a host.
pub fn make(host: &Host, calls: &[Call]) -> Result<Vec<Seen>> {
    let text = host.ok("python3", &["-c", CLIENT, &serde_json::to_string(calls)?])?;
    let seen: Vec<Seen> = serde_json::from_str(&text).with_context(|| text.clone())?;
    if seen.len() != calls.len() {
        bail!("{} calls, but {text}", calls.len());
    }
    Ok(seen)
}

/// Makes calls on a host, all of which must fail with an error.
pub fn fail(host: &Host, calls: &[Call], error: &str) -> Result<()> {
    for (call, seen) in calls.iter().zip(make(host, calls)?) {
        if seen.error.as_deref() != Some(error) {
            bail!("{call:?} on {}: {seen:?}, not {error}", host.name);
        }
    }
    Ok(())
}

/// Makes calls on a host; each must be answered by a server that saw `sources` (IPv4, IPv6), and name
/// to the process the address it called.
pub fn answered(host: &Host, calls: &[Call], sources: &[IpAddr]) -> Result<()> {
    for (call, seen) in calls.iter().zip(make(host, calls)?) {
        check(call, &seen, sources)
            .with_context(|| format!("{call:?} on {}: {seen:?}", host.name))?;
    }
    Ok(())
}

fn check(call: &Call, seen: &Seen, sources: &[IpAddr]) -> Result<()> {
    let answer = seen.answer.as_deref().context("no answer")?;
    let source = answer.split(' ').next().unwrap_or_default();
    let source: IpAddr = source.trim_matches(['[', ']']).parse()?;
    if !sources.contains(&source) {
        bail!("the server saw {source}, not one of {sources:?}");
    }
    // The kernel takes the unspecified address for loopback, and names that.
    let called = match call.to.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        to => to,
    };
    let name = Some(format!("{called} {}", call.port));
    if call.how == "connect" && seen.peer != name {
        bail!("getpeername says another address than {name:?}");
    }
    if call.proto == "udp" && seen.source != name {
        bail!("recvfrom says another address than {name:?}");
    }
    Ok(())
}

/// A lab with network `web` and endpoint `a`, whose port 80 is published as 8080 for TCP and UDP.
pub fn published(lab: &Lab) -> Result<(netd_tests::lab::Network, netd_tests::lab::Endpoint)> {
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    for proto in Proto::ALL {
        lab.publish("a", &format!("8080:80/{}", proto.name()))?;
    }
    Ok((web, a))
}
