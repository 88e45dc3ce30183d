//! What the programs cost by themselves: nanoseconds a packet spends in them (`BPF_PROG_TEST_RUN`, nothing
//! hooked, nothing sent), and how much of each the verifier walks.
//!
//! The kernel can run a program many times on one packet, but a program that rewrites it meets its own
//! rewrite the second time. So each packet is run alone, many times, and what a run alone has of overhead is
//! taken off: the difference between both ways for a packet that is not rewritten.

use netd::datapath::{CLASSIFIERS, SOCKETS, XDP};
use netd_common::addr::Be16;
use netd_common::reason::Hook;
use netd_common::stage::Stage;
use netd_common::tuple::proto;
use serde::Serialize;

use super::options::Options;
use super::stats;
use crate::packet::{A, B, Family, Flags, GATEWAY, NODE, OUTSIDE, Packet, World};

/// Entries of the flow tables: more than the new flows that are measured.
const FLOWS: u32 = 65_536;
/// A port that is published to B.
const PUBLISHED: u16 = 8_080;

/// One packet's way.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    /// What happens to it.
    pub what: &'static str,
    /// Where.
    pub program: &'static str,
    /// Median nanoseconds, IPv4.
    pub v4_ns: f64,
    /// Median nanoseconds, IPv6.
    pub v6_ns: f64,
}

/// One program.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Its name.
    pub program: &'static str,
    /// Instructions the verifier walked; `None`: the kernel does not say.
    pub verified: Option<u32>,
    /// Instructions it has.
    pub instructions: Option<u32>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Programs {
    /// Packets' ways.
    pub ways: Vec<Way>,
    /// The programs.
    pub sizes: Vec<Size>,
}

/// Measures.
pub fn measure(options: &Options) -> Programs {
    let runs = if options.quick { 50 } else { 5_000 };
    let (mut four, mut six, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    World::with_flow_entries(FLOWS, |w| four = ways(w, Family::V4, runs));
    World::with_flow_entries(FLOWS, |w| six = ways(w, Family::V6, runs));
    World::fresh(|w| sizes = sizes_of(w));
    let ways = four.into_iter().zip(six);
    let ways = ways.map(|((what, hook, v4_ns), (_, _, v6_ns))| Way {
        what,
        program: hook.name(),
        v4_ns,
        v6_ns,
    });
    Programs {
        ways: ways.collect(),
        sizes,
    }
}

/// The packets of one family: what, where, median ns.
fn ways(w: &mut World, family: Family, runs: u16) -> Vec<(&'static str, Hook, f64)> {
    // As a daemon has it: the test's own range is small.
    w.uplink(|uplink| (uplink.port_min, uplink.port_max) = (Be16::new(1024), Be16::new(u16::MAX)));
    w.publish(None, family, proto::TCP, PUBLISHED, &B, 80);
    let switched = Packet::udp(&A, 1, &B, 2, family).bytes();
    let many = w.time(Hook::EpOut, A.device, &switched, 200 * u32::from(runs));
    let mut alone = |hook: Hook, device: &str, frame: &dyn Fn(u16) -> Vec<u8>| {
        let times: Vec<f64> = (0..runs)
            .map(|n| w.time(hook, device, &frame(n), 1))
            .collect();
        stats::median(&times).unwrap_or_default()
    };
    let overhead = alone(Hook::EpOut, A.device, &|_| switched.clone()) - many;

    let data = |packet: Packet| packet.flags(Flags::ACK).bytes();
    let out = |n: u16, flags| Packet::tcp(&A, 10_000 + n, &OUTSIDE, 80, flags, family).to_gateway();
    let call = |n: u16, flags| {
        let packet = Packet::tcp(&OUTSIDE, 10_000 + n, &NODE, PUBLISHED, flags, family);
        packet.to_mac(NODE.mac)
    };
    let own = Packet::udp(&NODE, 5_000, &OUTSIDE, 53, family).from_mac(NODE.mac);
    let to_node = Packet::udp(&OUTSIDE, 53, &NODE, 5_000, family).to_mac(NODE.mac);
    let to_endpoint = Packet::udp(&GATEWAY, 1, &B, 2, family).bytes();
    // The first of each pair makes the flows that the second one's packets belong to.
    let mut measured = vec![
        (
            "new flow, masqueraded",
            Hook::EpOut,
            alone(Hook::EpOut, A.device, &|n| out(n, Flags::SYN).bytes()),
        ),
        (
            "masqueraded",
            Hook::EpOut,
            alone(Hook::EpOut, A.device, &|n| data(out(n, Flags::SYN))),
        ),
        (
            "answer to a masqueraded flow",
            Hook::UpIn,
            alone(Hook::UpIn, NODE.device, &|n| {
                let answer = out(n, Flags::SYN).from_uplink(10_000 + n).answer();
                data(answer.to_mac(NODE.mac))
            }),
        ),
        (
            "new flow to a published port",
            Hook::UpIn,
            alone(Hook::UpIn, NODE.device, &|n| call(n, Flags::SYN).bytes()),
        ),
        (
            "to a published port",
            Hook::UpIn,
            alone(Hook::UpIn, NODE.device, &|n| data(call(n, Flags::SYN))),
        ),
        (
            "from the node to an endpoint",
            Hook::GwOut,
            alone(Hook::GwOut, GATEWAY.device, &|_| to_endpoint.clone()),
        ),
        (
            "the node's own, from outside",
            Hook::UpIn,
            alone(Hook::UpIn, NODE.device, &|_| to_node.bytes()),
        ),
        (
            "the node's own, to outside",
            Hook::UpOut,
            alone(Hook::UpOut, NODE.device, &|_| own.bytes()),
        ),
    ];
    for (_, _, ns) in &mut measured {
        *ns -= overhead;
    }
    measured.insert(0, ("switched inside a network", Hook::EpOut, many));
    measured
}

/// Every program, those that wait for a stage and for a call included.
fn sizes_of(w: &mut World) -> Vec<Size> {
    let stages = Stage::ALL.iter().map(|stage| stage.program());
    let programs = CLASSIFIERS.into_iter().chain(stages).chain([XDP]);
    let ebpf = w.datapath().ebpf();
    programs
        .chain(SOCKETS)
        .filter_map(|program| {
            // The socket hooks are loaded where there is a cgroup to hook them on.
            let info = ebpf.program_mut(program)?.info().ok()?;
            let bytes = info.size_translated();
            Some(Size {
                program,
                verified: info.verified_instruction_count(),
                instructions: bytes.map(|bytes| bytes / 8),
            })
        })
        .collect()
}
