//! A record of the programs as a line of the API, and what it is about.

use netd_api::{Ends, Told, ToldClosed, ToldFlow, ToldPacket, hex};
use netd_common::flow::seen;
use netd_common::maps::{Closed, Event, EventKind, FlowKind, Outcome, event_flags};
use netd_common::reason::{DropReason, Hook};
use netd_common::tuple::proto;

use super::ends::{self, of_frame};
use super::names::Names;

/// What an event is about, for those who listen to some of it only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What happened.
    pub what: What,
    /// Numbers of endpoints it concerns.
    pub endpoints: Vec<u32>,
    /// Numbers of networks it concerns.
    pub networks: Vec<u32>,
    /// ifindexes it was at, or went to.
    pub devices: Vec<u32>,
    /// Why a packet was dropped.
    pub reason: Option<DropReason>,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum What {
    /// A flow began or ended.
    Flow,
    /// A new flow was refused.
    Refused,
    /// Another packet was dropped.
    Dropped,
    /// A packet went on.
    #[default]
    Passed,
}

/// Reasons that refuse a packet which would have begun a flow.
pub const fn refuses_flow(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::NoPortFree
            | DropReason::FlowTableFull
            | DropReason::FlowLimit
            | DropReason::NoUplinkAddress
            | DropReason::NotUplink
            | DropReason::SourceRefused
            | DropReason::Unpublished
            | DropReason::Isolated
            | DropReason::Internal
            | DropReason::NatAmbiguous
            | DropReason::Filtered
            | DropReason::UnsolicitedSyn
    )
}

/// What an event is about. `frame`: the first bytes of a packet.
pub fn about(event: &Event, frame: &[u8], names: &Names) -> About {
    let mut about = About::default();
    let mut add = |endpoint: u32, network: u32| {
        for (list, n) in [
            (&mut about.endpoints, endpoint),
            (&mut about.networks, network),
        ] {
            if n != 0 && !list.contains(&n) {
                list.push(n);
            }
        }
    };
    if event.kind == EventKind::Packet.code() {
        for ifindex in [event.ifindex, event.device] {
            if let Some(device) = names.devices.get(&ifindex) {
                add(device.endpoint, device.network);
            }
        }
        let (_, ends) = of_frame(frame, event.len as usize);
        for address in [ends.src, ends.dst].into_iter().flatten() {
            if let Some(endpoint) = names.addresses.get(&address) {
                add(*endpoint, names.network_of(*endpoint));
            }
        }
        about.devices = [event.ifindex, event.device]
            .into_iter()
            .filter(|d| *d != 0)
            .collect();
        about.reason = DropReason::from_code(event.reason);
        about.what = match about.reason {
            None => What::Passed,
            Some(reason) if refuses_flow(reason) => What::Refused,
            Some(_) => What::Dropped,
        };
    } else {
        for endpoint in [event.endpoint, event.client] {
            add(endpoint, names.network_of(endpoint));
        }
        add(0, event.network);
        about.what = What::Flow;
    }
    about
}

/// What is to be added to `bpf_ktime_get_ns` for the time since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub i128);

impl Clock {
    fn at(self, ktime: u64) -> u64 {
        u64::try_from(i128::from(ktime) + self.0).unwrap_or(0)
    }
}

/// The line of an event. `bytes`: the frame is to be in it.
pub fn line(event: &Event, frame: &[u8], names: &Names, clock: Clock, bytes: bool) -> Option<Told> {
    Some(match EventKind::from_code(event.kind)? {
        EventKind::Packet => packet(event, frame, names, clock, bytes)?,
        EventKind::FlowOpened => Told::Opened(flow(event, names, clock, None)?),
        EventKind::FlowClosed => Told::Closed(flow(event, names, clock, Some(closed(event)))?),
    })
}

fn packet(event: &Event, frame: &[u8], names: &Names, clock: Clock, bytes: bool) -> Option<Told> {
    let (proto, ends) = of_frame(frame, event.len as usize);
    let outcome = Outcome::from_code(event.outcome)?;
    let reason = DropReason::from_code(event.reason);
    let device = |ifindex: u32| names.devices.get(&ifindex);
    let owner = [event.ifindex, event.device]
        .into_iter()
        .filter_map(device)
        .find(|d| d.network != 0);
    let told = ToldPacket {
        time_ns: clock.at(event.time),
        hook: Hook::from_code(event.hook)?.name().into(),
        device: names.device(event.ifindex),
        endpoint: owner.and_then(|d| names.endpoint(d.endpoint)),
        network: owner.and_then(|d| names.network(d.network)),
        verdict: verdict(outcome).into(),
        reason: reason.map(|r| r.name().into()),
        to_device: (event.device != 0).then(|| names.device(event.device)),
        proto,
        nat: (event.flags & event_flags::REWRITTEN != 0).then(|| ends::ends(&event.to)),
        ends,
        len: event.len + if tag(event).is_some() { 4 } else { 0 },
        vlan: (event.flags & event_flags::VLAN != 0).then_some(event.vlan_tci),
        frame: bytes.then(|| hex(&tagged(event, frame))),
    };
    Some(match reason.filter(|_| !bytes) {
        None => Told::Packet(told),
        Some(reason) if refuses_flow(reason) => Told::Refused(told),
        Some(_) => Told::Dropped(told),
    })
}

/// The VLAN tag that the kernel has moved out of a frame.
fn tag(event: &Event) -> Option<[u8; 4]> {
    let tci = event.vlan_tci.to_be_bytes();
    let proto = event.vlan_proto.0;
    (event.flags & event_flags::VLAN != 0).then_some([proto[0], proto[1], tci[0], tci[1]])
}

/// The frame as it was on the wire: with that tag.
fn tagged(event: &Event, frame: &[u8]) -> Vec<u8> {
    match (tag(event), frame.split_at_checked(12)) {
        (Some(tag), Some((macs, rest))) => [macs, &tag, rest].concat(),
        _ => frame.to_vec(),
    }
}

const fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Dropped => "dropped",
        Outcome::Redirected => "redirected",
        Outcome::Copied => "copied",
    }
}

fn flow(
    event: &Event,
    names: &Names,
    clock: Clock,
    closed: Option<ToldClosed>,
) -> Option<ToldFlow> {
    let (before, after): (Ends, Ends) = (ends::ends(&event.tuple), ends::ends(&event.to));
    Some(ToldFlow {
        time_ns: clock.at(event.time),
        kind: FlowKind::from_code(event.flow_kind)?.name().into(),
        proto: ends::proto(event.tuple.proto),
        endpoint: names.endpoint(event.endpoint),
        network: names.network(event.network),
        client: names.endpoint(event.client),
        publish: names.publishes.get(&event.publish).copied(),
        nat: (before != after).then_some(after),
        ends: before,
        closed,
    })
}

fn closed(event: &Event) -> ToldClosed {
    let (either, both) = (event.seen | event.reply_seen, event.seen & event.reply_seen);
    let tcp = event.tuple.proto == proto::TCP;
    let why = match Closed::from_code(event.closed) {
        Some(Closed::Ended) => "ended",
        _ if tcp && either & seen::RST != 0 => "reset",
        _ if tcp && both & seen::FIN != 0 => "closed",
        Some(Closed::Over | Closed::MadeRoom) | None => "idle",
    };
    ToldClosed {
        why: why.into(),
        lived_ns: event.time.saturating_sub(event.created),
        packets: event.packets,
        bytes: event.bytes,
        reply_packets: event.reply_packets,
        reply_bytes: event.reply_bytes,
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use netd_common::addr::Be16;
    use netd_common::tuple::Tuple;

    use super::super::names::Device;
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        let device = |name: &str, endpoint, network| Device {
            name: name.into(),
            endpoint,
            network,
        };
        names.devices.insert(2, device("up0", 0, 0));
        names.devices.insert(4, device("nde1", 7, 1));
        names.endpoints.insert(7, ("api".into(), 1));
        names.endpoints.insert(8, ("db".into(), 3));
        names.networks.insert(1, "web".into());
        names.addresses.insert("10.0.0.5".parse().unwrap(), 7);
        names
    }

    fn tuple(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> Tuple<[u8; 16]> {
        Tuple {
            src,
            dst,
            sport: Be16::new(sport),
            dport: Be16::new(dport),
            proto: 6,
            pad: [0; 3],
        }
        .to_16()
    }

    fn flow_event(kind: EventKind) -> Event {
        Event {
            kind: kind.code(),
            time: 50,
            created: 20,
            endpoint: 7,
            client: 8,
            network: 1,
            tuple: tuple([10, 0, 0, 5], 4000, [1, 1, 1, 1], 443),
            to: tuple([192, 0, 2, 2], 5000, [1, 1, 1, 1], 443),
            packets: 3,
            ..Event::zeroed()
        }
    }

    #[test]
    fn a_flow_is_told_with_names_and_both_of_its_tuples() {
        let event = flow_event(EventKind::FlowOpened);
        let told = line(&event, &[], &names(), Clock(1000), false);
        let Some(Told::Opened(flow)) = told else {
            panic!("{told:?}");
        };
        assert_eq!((flow.time_ns, flow.kind.as_str()), (1050, "masquerade"));
        assert_eq!(flow.endpoint.as_deref(), Some("api"));
        assert_eq!(flow.client.as_deref(), Some("db"));
        assert_eq!(flow.network.as_deref(), Some("web"));
        assert_eq!((flow.ends.sport, flow.closed), (Some(4000), None));
        let nat = flow.nat.expect("it is translated");
        assert_eq!(nat.src, Some("192.0.2.2".parse().unwrap()));
        let about = about(&event, &[], &names());
        assert_eq!((about.endpoints, about.networks), (vec![7, 8], vec![1, 3]));
    }

    #[test]
    fn a_captured_frame_has_its_vlan_tag_where_it_was() {
        let frame: Vec<u8> = (0..20).collect();
        let event = Event {
            flags: event_flags::VLAN,
            vlan_tci: 0x2005,
            vlan_proto: Be16::new(0x88a8),
            len: 20,
            ..Event::zeroed()
        };
        let Some(Told::Packet(packet)) = line(&event, &frame, &names(), Clock(0), true) else {
            panic!("a capture shows packets");
        };
        let text = packet.frame.expect("bytes");
        assert_eq!(text, "000102030405060708090a0b88a820050c0d0e0f10111213");
        assert_eq!((packet.len, packet.vlan), (24, Some(0x2005)));
    }

    #[test]
    fn why_a_flow_ended_is_told() {
        let (fin, rst) = (seen::FIN, seen::RST);
        for (code, seen, reply_seen, why) in [
            (Closed::Over, fin, fin, "closed"),
            (Closed::Over, fin, 0, "idle"),
            (Closed::Over, 0, rst, "reset"),
            (Closed::Over, 0, 0, "idle"),
            (Closed::MadeRoom, 0, 0, "idle"),
            (Closed::Ended, fin, fin, "ended"),
        ] {
            let event = Event {
                closed: code.code(),
                seen,
                reply_seen,
                ..flow_event(EventKind::FlowClosed)
            };
            let Some(Told::Closed(flow)) = line(&event, &[], &names(), Clock(0), false) else {
                panic!("{event:?}");
            };
            let closed = flow.closed.expect("it ended");
            assert_eq!(
                (closed.why.as_str(), closed.lived_ns, closed.packets),
                (why, 30, 3)
            );
        }
    }

    #[test]
    fn a_packet_concerns_its_devices_and_whose_addresses_it_names() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 99, 0, 0]);
        frame.extend([198, 51, 100, 1, 10, 0, 0, 5]);
        let event = Event {
            ifindex: 2,
            hook: Hook::UpIn as u8,
            outcome: Outcome::Dropped.code(),
            reason: DropReason::Unpublished as u8,
            len: 34,
            ..Event::zeroed()
        };
        let found = about(&event, &frame, &names());
        assert_eq!(found.what, What::Refused);
        assert_eq!((found.endpoints, found.networks), (vec![7], vec![1]));
        let told = line(&event, &frame, &names(), Clock(0), false);
        let Some(Told::Refused(packet)) = told else {
            panic!("{told:?}");
        };
        assert_eq!(
            (packet.hook.as_str(), packet.device.as_str()),
            ("up_in", "up0")
        );
        assert_eq!(packet.reason.as_deref(), Some("unpublished"));
        assert_eq!((packet.endpoint, packet.proto.as_str()), (None, "99"));
        let Some(Told::Packet(packet)) = line(&event, &frame[..2], &names(), Clock(0), true) else {
            panic!("a capture shows packets");
        };
        assert_eq!(packet.frame.as_deref(), Some("0000"));
    }
}
