//! `netd trace`: which frame, at which hook, and what the programs make of it. The core says what is
//! asked for and what things are called; programs are loaded and run on a thread beside it.

use std::net::IpAddr;

use netd_api::{PacketSpec, Trace, TracePacket, TraceProgram, TraceRequest, hex};
use netd_common::addr::Mac;
use netd_common::reason::Hook;

use super::core::{Core, Handle};
use super::error::{Result, ServiceError};
use crate::datapath::{At, Copies, Seen, Tracer, XdpMode};
use crate::model::{Endpoint, ModelError, Network};
use crate::net::veth::{self, Device};
use crate::trace::names::{Names, Role};
use crate::trace::{End, Ends, build, end, fixed_mac, steps, summary};

/// The MAC of whoever is behind the uplink, or of nobody at all: made up, and said to be.
const SOMEBODY: Mac = [0x02, 0, 0, 0, 0xff, 0xff];
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
        Ok(prepared.tell(&parts, copies.flow_entries))
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

/// Where a packet comes in.
enum Place<'a> {
    Endpoint(&'a Endpoint, &'a Network),
    Network(&'a Network),
    Uplink(u32),
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
        })
    }

    fn names(&self, devices: &[Device]) -> Names {
        let mut names = Names::default();
        let d = &self.desired;
        let mut device = |name: String, role| {
            names
                .devices
                .insert(self.actual.ifindex(&name), (name, role));
        };
        for n in d.networks.values() {
            device(n.outer(), Role::Gateway(n.name.clone()));
            device(n.inner(), Role::Inner(n.name.clone()));
        }
        for e in d.endpoints.values() {
            device(e.device(), Role::Endpoint(e.name.clone()));
        }
        names.devices.remove(&0);
        for (ifindex, uplink) in &self.uplinks {
            names
                .devices
                .insert(*ifindex, (uplink.name.clone(), Role::Uplink));
        }
        names.endpoints = d
            .endpoints
            .values()
            .map(|e| (e.number, e.name.clone()))
            .collect();
        names.networks = d
            .networks
            .values()
            .map(|n| (n.number, n.name.clone()))
            .collect();
        names.publishes = d
            .publishes
            .values()
            .map(|p| (p.number, p.spec.to_string()))
            .collect();
        for d in devices {
            let entry = names.devices.entry(d.ifindex);
            entry
                .or_insert_with(|| (d.name.clone(), Role::Other))
                .0
                .clone_from(&d.name);
        }
        names
    }

    /// What a name is: it may say so itself (`network:web`).
    fn place(&self, text: &str) -> Result<Place<'_>> {
        let (kind, name) = match text.split_once(':') {
            Some((kind @ ("endpoint" | "network" | "uplink"), name)) => (Some(kind), name),
            _ => (None, text),
        };
        let asked = |wanted: &str| kind.is_none_or(|k| k == wanted);
        let mut found = Vec::new();
        if asked("uplink") {
            let uplink = self.uplinks.iter().find(|(_, u)| u.name == name);
            found.extend(uplink.map(|(ifindex, _)| Place::Uplink(*ifindex)));
        }
        if asked("network") {
            found.extend(self.desired.network(name).ok().map(Place::Network));
        }
        let endpoint = self.desired.endpoint(name, None);
        if let Ok(e) = &endpoint
            && asked("endpoint")
            && let Some(network) = self.desired.networks.get(&e.network)
        {
            found.push(Place::Endpoint(e, network));
        }
        if found.len() > 1 {
            return Err(ServiceError::conflict(format!(
                "{name:?} names several things: say endpoint:{name}, network:{name} or uplink:{name}"
            )));
        }
        if let Some(place) = found.pop() {
            return Ok(place);
        }
        let uplinks: Vec<&str> = self.uplinks.values().map(|u| u.name.as_str()).collect();
        let uplinks = if uplinks.is_empty() {
            "none".into()
        } else {
            uplinks.join(", ")
        };
        Err(match endpoint {
            Err(ModelError::Missing { .. }) | Ok(_) => ServiceError::missing(format!(
                "{text:?} is no endpoint (`netd endpoint ls`), network (`netd network ls`) or uplink \
                 ({uplinks}) of this node"
            )),
            Err(e) => e.into(),
        })
    }

    /// Addresses and MACs that the words leave open.
    fn ends(
        &self,
        place: &Place<'_>,
        spec: &PacketSpec,
        device_mac: Option<Mac>,
        remarks: &mut Vec<String>,
    ) -> Result<Ends> {
        let v6 = spec.dst.is_ipv6();
        let family = if v6 { "IPv6" } else { "IPv4" };
        let (own, src_mac, who) = match place {
            Place::Endpoint(e, _) => {
                let own = if v6 {
                    e.v6().map(IpAddr::V6)
                } else {
                    e.v4().map(IpAddr::V4)
                };
                (own, e.mac, format!("endpoint {}", e.name))
            }
            Place::Network(n) => {
                let own = n.gateways.iter().copied().find(|g| g.is_ipv6() == v6);
                (
                    own,
                    n.gateway_mac,
                    format!("the gateway of network {}", n.name),
                )
            }
            Place::Uplink(_) => (None, SOMEBODY, "the outside".into()),
        };
        let src = spec.src.or(own).ok_or_else(|| {
            ServiceError::bad(format!(
                "{who} has no {family} address of its own: say the source, as `SOURCE > {}`",
                spec.dst
            ))
        })?;
        let dst_mac = match (spec.to.or_else(|| fixed_mac(spec)), place) {
            (Some(mac), _) => mac,
            (None, Place::Uplink(_)) => device_mac.unwrap_or(SOMEBODY),
            (None, Place::Endpoint(_, n) | Place::Network(n)) => {
                self.next_hop(n, matches!(place, Place::Network(_)), spec.dst, remarks)?
            }
        };
        Ok(Ends {
            src,
            src_mac,
            dst_mac,
        })
    }

    /// The MAC a host on a network sends to for an address.
    fn next_hop(
        &self,
        network: &Network,
        node: bool,
        dst: IpAddr,
        remarks: &mut Vec<String>,
    ) -> Result<Mac> {
        let has = |e: &&Endpoint| e.addresses.iter().any(|a| a.addr() == dst);
        if let Some(owner) = self.desired.endpoints_of(network.number).find(has) {
            return Ok(owner.mac);
        }
        if network.gateways.contains(&dst) && !node {
            return Ok(network.gateway_mac);
        }
        let on_link = network.subnets.iter().any(|s| s.contains(&dst)) || node;
        if let Some(subnet) = network.subnets.iter().find(|s| s.contains(&dst))
            && subnet.broadcast() == dst
            && dst.is_ipv4()
        {
            return Ok([0xff; 6]);
        }
        if on_link {
            remarks.push(format!(
                "nobody on network {} is known to have {dst}: its MAC is made up",
                network.name
            ));
            return Ok(SOMEBODY);
        }
        if network.has_gateway() {
            return Ok(network.gateway_mac);
        }
        Err(ServiceError::bad(format!(
            "network {} has no gateway to {dst}: say the MAC it is sent to, as `to MAC`",
            network.name
        )))
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
        let mut copies = self.tracer.copy(&summary(&self.frame).addresses)?;
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

    fn tell(self, parts: &[Part], (copied, live): (u32, u32)) -> Trace {
        let programs = parts.iter().map(|p| TraceProgram {
            program: format!("netd_{}", p.hook.name()),
            device: self.names.device(p.ifindex),
            steps: steps(&self.names, p.hook, p.ifindex, &p.frame, &p.seen),
            frame: hex(&p.seen.frame),
        });
        let programs = programs.collect();
        let (passes, reason, verdict) = self.verdict(parts);
        let mut remarks = self.remarks;
        if copied < live {
            remarks.push(format!(
                "of {live} flow entries the {copied} with an address of this packet were looked at: a port \
                 that another flow has may look free"
            ));
        }
        Trace {
            at: self.at,
            packet: summary(&self.frame).text,
            frame: hex(&self.frame),
            remarks,
            programs,
            passes,
            reason,
            verdict,
        }
    }

    /// Whether it passes, why not, and one sentence.
    pub fn verdict(&self, parts: &[Part]) -> (bool, Option<String>, String) {
        let Some(last) = parts.last() else {
            return (false, None, "no program has seen it".into());
        };
        let text = summary(&last.seen.frame).text;
        let names = &self.names;
        let answers = last.frame.get(..12) != last.seen.frame.get(..12)
            && matches!(end(&last.seen), End::Peer(d) | End::Sent(d) if d == last.ifindex);
        let sentence = match end(&last.seen) {
            End::Dropped(reason) => {
                let text = format!("dropped by netd_{}: {}", last.hook.name(), reason.name());
                return (false, Some(reason.name().into()), text);
            }
            End::Copied(to) if to.is_empty() => {
                return (
                    false,
                    None,
                    "reaches nobody: there is no other switch port".into(),
                );
            }
            End::Copied(to) => {
                let to: Vec<String> = to.iter().map(|d| names.behind(*d)).collect();
                format!("flooded to {}", to.join(", "))
            }
            End::Peer(to) | End::Sent(to) if answers => {
                format!("answered to {}: {text}", names.behind(to))
            }
            End::Peer(to) => format!("reaches {} as {text}", names.behind(to)),
            End::Received(from) => {
                format!(
                    "reaches the node's stack, by {}, as {text}",
                    names.device(from)
                )
            }
            End::Sent(out) => format!("leaves by {} as {text}", names.device(out)),
            End::Waits => {
                "waits for the first fragment of its datagram, and goes where that goes".into()
            }
            End::Next if last.hook == Hook::UpOut => {
                format!("leaves by {} as {text}", names.device(last.ifindex))
            }
            End::Next => format!("goes on to the node's stack as {text}"),
        };
        (true, None, sentence)
    }
}

#[cfg(test)]
mod tests {
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
