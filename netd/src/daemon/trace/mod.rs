//! `netd trace`: which frame, at which hook, and what the programs make of it. The core says what is
//! asked for and what things are called; programs are loaded and run on a thread beside it.
//!
//! | file | owns |
//! |---|---|
//! | `kept` | the programs of the last trace |
//! | `place` | where a packet comes in, and the addresses and MACs its words leave open |
//! | `names` | what things are called |
//! | `tell` | what is said of a packet that has been run |

mod kept;
mod names;
mod place;
mod tell;

use netd_api::{Trace, TracePacket, TraceRequest};
use netd_common::reason::Hook;

use super::core::{Core, Handle};
use super::error::{Result, ServiceError};
use crate::datapath::{At, Copies, Seen, Tracer, XdpMode};
use crate::net::veth;
use crate::trace::names::Names;
use crate::trace::{End, build, end, summary};
pub use kept::Kept;
use place::Place;

/// What `BPF_PROG_TEST_RUN` takes of a frame in one page.
const LONGEST: usize = 3_500;
/// An Ethernet header.
const SHORTEST: usize = 14;

/// A frame that is ready to be run.
pub struct Prepared {
    /// Where it comes in, in words.
    pub at: String,
    /// The first hook and its device.
    pub hook: (Hook, u32),
    /// The frame.
    pub frame: Vec<u8>,
    /// What things are called.
    pub names: Names,
    /// What was made up.
    pub remarks: Vec<String>,
    /// Makes copies of the maps.
    pub tracer: Tracer,
    /// Those of the last trace.
    pub kept: Kept,
}

/// One program's part.
pub struct Part {
    /// Its hook.
    pub hook: Hook,
    /// The hook's device.
    pub ifindex: u32,
    /// The mark the packet came with.
    pub mark: u32,
    /// The frame it got.
    pub frame: Vec<u8>,
    /// What it did.
    pub seen: Seen,
}

/// Traces a packet.
pub async fn trace(handle: &Handle, request: TraceRequest) -> Result<Trace> {
    let prepared = handle.call(move |core| core.prepare(&request)).await?;
    beside(move || {
        let (parts, copies) = prepared.run()?;
        let flow_entries = copies.flow_entries;
        prepared.kept.put(copies);
        Ok(prepared.tell(&parts, flow_entries))
    })
    .await
}

/// Runs something that takes a while on a thread of its own.
pub(super) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| ServiceError::node(format!("the thread that traces died: {e}")))?
}

impl Core {
    /// Finds the place and makes the frame.
    pub(super) fn prepare(&mut self, request: &TraceRequest) -> Result<Prepared> {
        let devices = veth::devices(&mut self.node.netlink)?;
        let names = self.names(&devices);
        let place = self.place(&request.at)?;
        let (at, hook) = match &place {
            Place::Endpoint(e, n) => (
                format!("endpoint {} on network {}", e.name, n.name),
                (Hook::EpOut, self.actual.ifindex(&e.device())),
            ),
            Place::Network(n) => (
                format!("the node, by the gateway of network {}", n.name),
                (Hook::GwOut, self.actual.ifindex(&n.inner())),
            ),
            Place::Uplink(ifindex) => {
                let xdp = self.uplinks.get(ifindex).map(|u| u.xdp);
                let first = if xdp == Some(XdpMode::Off) {
                    Hook::UpIn
                } else {
                    Hook::Xdp
                };
                (names.behind(*ifindex), (first, *ifindex))
            }
        };
        if hook.1 == 0 {
            return Err(ServiceError::conflict(format!(
                "{at} has no device now: nothing comes in there, see `netd status`"
            )));
        }
        let mut remarks = Vec::new();
        let frame = match &request.packet {
            TracePacket::Frame(digits) => bytes(digits)?,
            TracePacket::Words(spec) => {
                let mac = devices
                    .iter()
                    .find(|d| d.ifindex == hook.1)
                    .and_then(|d| d.mac);
                let ends = self.ends(&place, spec, mac, &mut remarks)?;
                build(spec, &ends)
            }
        };
        check(&frame)?;
        Ok(Prepared {
            at,
            hook,
            frame,
            names,
            remarks,
            tracer: self.node.datapath.tracer(),
            kept: self.traced.clone(),
        })
    }

    /// The same for a frame that was seen at a hook of a device.
    pub(super) fn prepare_seen(
        &mut self,
        device: &str,
        hook: &str,
        packet: &TracePacket,
    ) -> Result<Prepared> {
        let devices = veth::devices(&mut self.node.netlink)?;
        let found = Hook::ALL.iter().find(|h| h.name() == hook);
        let found = found.ok_or_else(|| {
            let all: Vec<&str> = Hook::ALL.iter().map(|h| h.name()).collect();
            ServiceError::bad(format!(
                "{hook:?} is no hook: it is one of {}",
                all.join(", ")
            ))
        })?;
        let ifindex = devices.iter().find(|d| d.name == device);
        let ifindex = ifindex.map(|d| d.ifindex).ok_or_else(|| {
            ServiceError::missing(format!(
                "the node has no device {device} any more: what decided about its packets is gone with it"
            ))
        })?;
        let TracePacket::Frame(digits) = packet else {
            return Err(ServiceError::bad(
                "a packet seen at a hook is a frame, not words",
            ));
        };
        let frame = bytes(digits)?;
        check(&frame)?;
        Ok(Prepared {
            at: format!("netd_{hook} on {device}"),
            hook: (*found, ifindex),
            frame,
            names: self.names(&devices),
            remarks: vec![],
            tracer: self.node.datapath.tracer(),
            kept: self.traced.clone(),
        })
    }
}

/// Whether the kernel runs programs on it.
fn check(frame: &[u8]) -> Result<()> {
    if (SHORTEST..=LONGEST).contains(&frame.len()) {
        return Ok(());
    }
    Err(ServiceError::bad(format!(
        "a frame of {} bytes cannot be traced: the kernel runs programs on {SHORTEST} to {LONGEST}",
        frame.len()
    )))
}

/// Bytes from hexadecimal digits; spaces and colons between them do not count.
fn bytes(digits: &str) -> Result<Vec<u8>> {
    let wrong = || ServiceError::bad("the frame is not an even number of hexadecimal digits");
    let digits: Vec<u8> = digits.bytes().filter(|b| !b" :\n\t".contains(b)).collect();
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err(wrong());
    }
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok();
    digits
        .chunks(2)
        .map(|p| pair(p).ok_or_else(wrong))
        .collect()
}

impl Prepared {
    /// Runs the programs the frame meets, one after the other.
    pub fn run(&self) -> Result<(Vec<Part>, Copies)> {
        let about = summary(&self.frame).addresses;
        let mut copies = self.tracer.copy(&about, self.kept.take())?;
        let parts = self.follow(&mut copies)?;
        Ok((parts, copies))
    }

    /// The same with copies that are there.
    pub fn follow(&self, copies: &mut Copies) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        let mut next = Some((self.hook.0, self.hook.1, 0, self.frame.clone()));
        while let Some((hook, ifindex, mark, frame)) = next.take() {
            let seen = copies.run(At {
                hook,
                ifindex,
                mark,
                frame: &frame,
            })?;
            next = match (hook, end(&seen)) {
                (Hook::Xdp, End::Next) => Some((Hook::UpIn, ifindex, 0, seen.frame.clone())),
                (Hook::EpOut | Hook::GwOut | Hook::UpIn, End::Sent(out))
                    if self.names.is_uplink(out) =>
                {
                    Some((Hook::UpOut, out, seen.mark, seen.frame.clone()))
                }
                _ => None,
            };
            parts.push(Part {
                hook,
                ifindex,
                mark,
                frame,
                seen,
            });
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use netd_api::hex;

    use super::*;

    #[test]
    fn a_frame_is_read_from_digits_with_or_without_separators() {
        assert_eq!(bytes("00 0a:ff\n01").unwrap(), [0, 10, 255, 1]);
        for wrong in ["0", "0g", "zz", "é0"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bytes(&hex(&[1, 2, 255])).unwrap(), [1, 2, 255]);
    }
}
