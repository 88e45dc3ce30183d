//! Notes of the programs to steps in words, and how a program ended to one sentence.

use netd_api::TraceStep;
use netd_common::maps::{Dir, FlowKind};
use netd_common::reason::{DropReason, Hook};
use netd_common::stage::Stage;
use netd_common::trace::{Note, Point, source, taken};
use netd_common::wire::Eth;

use super::frame::summary;
use super::names::Names;
use crate::datapath::Seen;
use crate::model::name::ShowMac;

/// How a program ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Dropped.
    Dropped(DropReason),
    /// Copies went to these devices, the frame itself is over.
    Copied(Vec<u32>),
    /// To the other end of this device's veth, in another namespace.
    Peer(u32),
    /// The node's stack receives it from this device.
    Received(u32),
    /// Out of this device, where the program on its egress sees it.
    Sent(u32),
    /// A fragment that waits for the first one of its datagram, which says where it goes.
    Waits,
    /// Cut to fragments, each of which goes on by itself.
    Cut,
    /// On to the next program on the hook, and the stack.
    Next,
}

fn noted(seen: &Seen) -> impl DoubleEndedIterator<Item = (Point, Note)> {
    let known = |n: &Note| Some((Point::from_code(n.point)?, *n));
    seen.notes.iter().filter_map(known)
}

/// How it ended.
pub fn end(seen: &Seen) -> End {
    let dropped = noted(seen).rev().find(|(p, _)| *p == Point::Verdict);
    let reason = dropped.and_then(|(_, n)| DropReason::from_code(n.b as u8));
    if let Some(reason) = reason {
        return End::Dropped(reason);
    }
    for (point, note) in noted(seen).rev() {
        match point {
            Point::Waits => return End::Waits,
            Point::Cut => return End::Cut,
            Point::Peer => return End::Peer(note.a),
            Point::Receive => return End::Received(note.a),
            Point::Send | Point::Neigh => return End::Sent(note.a),
            Point::Flood => {
                let copies = noted(seen).filter(|(p, _)| *p == Point::Copy);
                return End::Copied(copies.map(|(_, n)| n.a).collect());
            }
            _ => {}
        }
    }
    End::Next
}

/// Reasons that the guard on an endpoint has, or the parsers before it.
const fn is_guards(reason: DropReason) -> bool {
    use DropReason as R;
    matches!(
        reason,
        R::Truncated
            | R::BadHeader
            | R::BadLength
            | R::ExtHeaders
            | R::SpoofedMac
            | R::SpoofedIp
            | R::SpoofedArp
            | R::SpoofedNd
            | R::EtherType
            | R::Martian
            | R::NoPort
            | R::SourceRoute
            | R::DhcpServer
            | R::InvalidMac
            | R::MacLimit
    )
}

/// What a program found and did with a frame, in words.
pub fn steps(names: &Names, hook: Hook, ifindex: u32, frame: &[u8], seen: &Seen) -> Vec<TraceStep> {
    let mut steps = Vec::new();
    let mut say = |point: &str, text: String| {
        steps.push(TraceStep {
            point: point.into(),
            text,
        });
    };
    say("hook", from(names, hook, ifindex));
    let ended = end(seen);
    let mut guarded =
        hook != Hook::EpOut || matches!(ended, End::Dropped(reason) if is_guards(reason));
    let last_rewrite = noted(seen).filter(|(p, _)| *p == Point::Rewrite).count();
    let mut rewrites = 0;
    for (point, note) in noted(seen) {
        if !guarded && !matches!(point, Point::Source | Point::Address) {
            guarded = true;
            say(
                "guard",
                "the endpoint may send this: MAC and address are its own".into(),
            );
        }
        guarded |= matches!(point, Point::Source | Point::Address);
        let text = match point {
            Point::Rewrite => {
                rewrites += 1;
                if rewrites != last_rewrite {
                    continue;
                }
                rewrite(frame, &seen.frame)
            }
            Point::Begun => begun(note, frame, seen),
            Point::Flow => known_flow(note, frame, seen),
            _ => words(names, point, note, frame, seen),
        };
        say(point.name(), text);
    }
    if seen.lost > 0 {
        say(
            "more",
            format!("{} steps more than can be noted", seen.lost),
        );
    }
    steps
}

fn from(names: &Names, hook: Hook, ifindex: u32) -> String {
    let who = names.behind(ifindex);
    match hook {
        Hook::EpOut => format!("leaves {who}"),
        Hook::EpIn => format!("on its way to {who}"),
        Hook::GwOut => format!("from the node, by {who}"),
        Hook::UpIn | Hook::Xdp => format!("comes in by {who}"),
        Hook::UpOut => format!("on its way out by {who}"),
    }
}

/// One note that needs no more than its numbers and the frame.
fn words(names: &Names, point: Point, note: Note, frame: &[u8], seen: &Seen) -> String {
    let before = summary(frame);
    let dst = before
        .addresses
        .get(1)
        .map_or_else(|| "the destination".into(), ToString::to_string);
    let mac = |dst: bool| match Eth::parse(frame) {
        Ok(eth) => ShowMac(if dst { eth.dst } else { eth.src }).to_string(),
        Err(_) => "?".into(),
    };
    match point {
        Point::Verdict => match DropReason::from_code(note.b as u8) {
            Some(reason) => format!("dropped: {}", reason.name()),
            None => "passes".into(),
        },
        Point::Stage => {
            let stage = Stage::ALL.iter().find(|s| **s as u32 == note.a);
            format!(
                "goes on in {}",
                stage.map_or("another program", |s| s.program())
            )
        }
        Point::Source => {
            let what = match note.b {
                source::KNOWN => "known here",
                source::LEARNED => "learned with this frame",
                source::MOVED => "moved here with this frame",
                _ => "not learned: there is no room",
            };
            format!(
                "source MAC {} is a guest's behind the endpoint: {what}",
                mac(false)
            )
        }
        Point::Address if note.a == 1 => "the source is another address of the endpoint's".into(),
        Point::Address => "the source is nobody's: a guest's behind the endpoint".into(),
        Point::Fdb => format!("FDB: {} is the MAC of {}", mac(true), names.behind(note.a)),
        Point::Learned => {
            format!(
                "LEARNED: {} was heard from {}",
                mac(true),
                names.behind(note.a)
            )
        }
        Point::Unknown => format!("nobody is known to have the MAC {}", mac(true)),
        Point::Flood => {
            format!(
                "a copy for each of the segment's {} switch ports but the sender's own",
                note.a
            )
        }
        Point::Copy if note.b == 1 => {
            format!("a copy to the node's stack, by {}", names.device(note.a))
        }
        Point::Copy => format!("a copy to {}", names.behind(note.a)),
        Point::Answer => format!("netd answers itself: {}", summary(&seen.frame).text),
        Point::NoFlow => format!("no flow is known for {}", before.ends),
        Point::Host => host(names, note, &dst),
        Point::Fib => fib(names, note, &dst),
        Point::Publish => {
            format!(
                "PUBLISH: {}, of {}",
                names.publish(note.a),
                names.endpoint(note.b)
            )
        }
        Point::Float => {
            let (who, network) = (names.endpoint(note.a), names.network(note.b));
            format!("FLOAT: {dst} is a floating address of {who} on {network}")
        }
        Point::Socket => "a socket of the node itself has this very conversation".into(),
        Point::Taken if note.b == taken::HELD => {
            format!(
                "port {} is published, or a socket of the node has it: another is tried",
                note.a
            )
        }
        Point::Taken => {
            format!(
                "a flow has port {} towards this destination: another is tried",
                note.a
            )
        }
        Point::Peer => format!("handed to {}", names.behind(note.a)),
        Point::Receive => format!("handed to the node's stack, by {}", names.device(note.a)),
        Point::Send => format!("sent out of {}", names.device(note.a)),
        Point::Neigh => {
            format!(
                "sent out of {}; the kernel resolves the next hop's MAC",
                names.device(note.a)
            )
        }
        Point::Node => format!("{dst} is an address of the node, and the port is not published"),
        Point::Told | Point::Cut | Point::Waits => instead(point, note, seen),
        Point::Flow | Point::Begun | Point::Rewrite => String::new(),
    }
}

/// What became of a packet that does not go on as it is.
fn instead(point: Point, note: Note, seen: &Seen) -> String {
    match point {
        Point::Told => format!("its sender is told: {}", summary(&seen.frame).text),
        Point::Cut => format!(
            "larger than its exit takes: cut to fragments of {} bytes",
            note.a
        ),
        _ => "the first fragment of its datagram has not come yet: it waits for that".into(),
    }
}

/// Who has an address on a network of netd.
fn host(names: &Names, note: Note, dst: &str) -> String {
    let network = names.network(note.b);
    if note.a == 0 {
        format!("HOST: {dst} is the gateway of {network}")
    } else {
        format!("HOST: {dst} is {} on {network}", names.endpoint(note.a))
    }
}

/// What the routing table said (`BPF_FIB_LKUP_RET_*` of `<linux/bpf.h>`).
fn fib(names: &Names, note: Note, dst: &str) -> String {
    let device = names.device(note.b);
    let said = match note.a {
        0 => format!("by {device}"),
        7 => format!("by {device}, where the next hop's MAC is not known yet"),
        1 => "a blackhole route".into(),
        2 => "an unreachable route, or none".into(),
        3 => "a prohibit route".into(),
        4 => "not to be forwarded: the node's own address, or none it has a route for".into(),
        5 => "forwarding is off on the gateway's inner end".into(),
        6 => "a route with an encapsulation that is not supported".into(),
        8 => format!("by {device}, whose MTU is smaller than the packet"),
        9 => "no source address for it".into(),
        other => format!(
            "answer {} (a kernel newer than this netd, or an error)",
            other.cast_signed()
        ),
    };
    format!("routing table: {dst} {said}")
}

fn begun(note: Note, frame: &[u8], seen: &Seen) -> String {
    let from = summary(frame).ends;
    let to = summary(&seen.frame).ends;
    let kind = FlowKind::from_code(note.a as u8).map_or("unknown", FlowKind::name);
    if from == to {
        format!("a {kind} flow begins: {from}")
    } else {
        format!("a {kind} flow begins: {from} becomes {to}")
    }
}

fn known_flow(note: Note, frame: &[u8], seen: &Seen) -> String {
    let kind = FlowKind::from_code(note.a as u8).map_or("unknown", FlowKind::name);
    let dir = match Dir::from_code(note.b as u8) {
        Dir::Original => "first",
        Dir::Reply => "answering",
    };
    let state = match &seen.flow {
        Some(flow) if !flow.state.is_empty() => format!(", {}", flow.state),
        _ => String::new(),
    };
    format!(
        "of a known {kind} flow{state}, from its {dir} side: {}",
        summary(frame).ends
    )
}

/// What is another now.
fn rewrite(before: &[u8], after: &[u8]) -> String {
    let (b, a) = (summary(before), summary(after));
    let mut changes = Vec::new();
    if b.ends != a.ends {
        changes.push(format!("{} becomes {}", b.ends, a.ends));
    }
    if let (Some(b), Some(a)) = (b.ttl, a.ttl)
        && a != b
    {
        changes.push(format!("time to live {b} becomes {a}"));
    }
    if changes.is_empty() {
        "nothing has to be changed".into()
    } else {
        changes.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::names::Role;

    fn names() -> Names {
        let mut names = Names::default();
        names
            .devices
            .insert(3, ("nde1".into(), Role::Endpoint("a".into())));
        names.devices.insert(4, ("up0".into(), Role::Uplink));
        names.endpoints.insert(7, "b".into());
        names.networks.insert(1, "web".into());
        names
    }

    fn seen(notes: &[(Point, u32, u32)]) -> Seen {
        Seen {
            frame: vec![0; 14],
            mark: 0,
            notes: notes
                .iter()
                .map(|(p, a, b)| Note {
                    point: *p as u32,
                    a: *a,
                    b: *b,
                })
                .collect(),
            lost: 0,
            flow: None,
        }
    }

    #[test]
    fn the_end_is_what_the_last_notes_say() {
        let up = Hook::EpOut as u32;
        let pass = (Point::Verdict, up, 0);
        for (notes, wanted) in [
            (&[(Point::Peer, 3, 0), pass][..], End::Peer(3)),
            (&[(Point::Receive, 9, 0), pass], End::Received(9)),
            (&[(Point::Neigh, 4, 0), pass], End::Sent(4)),
            (
                &[
                    (Point::Flood, 2, 0),
                    (Point::Copy, 3, 0),
                    (Point::Copy, 9, 1),
                    pass,
                ],
                End::Copied(vec![3, 9]),
            ),
            (&[(Point::Waits, 0, 0), pass], End::Waits),
            (
                &[(Point::Cut, 1_376, 0), (Point::Copy, 3, 1), pass],
                End::Cut,
            ),
            (&[pass], End::Next),
            (
                &[(Point::Host, 7, 1), (Point::Verdict, up, 14)],
                End::Dropped(DropReason::Isolated),
            ),
            // Sent on, and then something failed.
            (
                &[(Point::Peer, 3, 0), (Point::Verdict, up, 28)],
                End::Dropped(DropReason::Helper),
            ),
        ] {
            assert_eq!(end(&seen(notes)), wanted);
        }
    }

    #[test]
    fn each_point_has_words_and_numbers_become_names() {
        for point in Point::ALL {
            let seen = seen(&[(*point, 3, 0)]);
            let steps = steps(&names(), Hook::EpOut, 3, &[0; 14], &seen);
            let last = steps.last().unwrap();
            assert_eq!(last.point, point.name());
            assert!(last.text.len() > 5, "{point:?}: {:?}", last.text);
        }
        let seen = seen(&[(Point::Host, 7, 1), (Point::Fib, 7, 4)]);
        let steps = steps(&names(), Hook::EpOut, 3, &[0; 14], &seen);
        let text: Vec<&str> = steps.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(text[0], "leaves endpoint a");
        assert!(text[2].contains("endpoint b on network web"), "{text:?}");
        assert!(
            text[3].contains("by up0") && text[3].contains("MAC is not known"),
            "{text:?}"
        );
    }

    #[test]
    fn the_guard_is_said_to_have_agreed_only_where_it_has() {
        let said = |notes: &[(Point, u32, u32)]| {
            let steps = steps(&names(), Hook::EpOut, 3, &[0; 14], &seen(notes));
            steps.iter().any(|s| s.point == "guard")
        };
        let up = Hook::EpOut as u32;
        assert!(said(&[(Point::Fdb, 3, 0)]));
        assert!(said(&[(Point::Verdict, up, DropReason::Isolated as u32)]));
        assert!(!said(&[(Point::Verdict, up, DropReason::SpoofedIp as u32)]));
        assert!(!said(&[(Point::Source, 3, 0), (Point::Fdb, 3, 0)]));
    }
}
