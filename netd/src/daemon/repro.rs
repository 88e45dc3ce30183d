//! `netd repro`: a traced packet with the rows, devices and routes that decided about it, checked by running
//! it again from those rows alone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netd_api::{Repro, ReproRequest, TraceRequest};
use netd_common::trace::{Point, taken};
use nix::time::{ClockId, clock_gettime};

use super::core::Handle;
use super::error::{Result, ServiceError};
use super::trace::{Part, Prepared, beside};
use crate::datapath::{Copies, Tables};
use crate::net::{Netlink, replay, sysctl, veth};
use crate::repro::{Case, Device, Message, Run, gateways, pick, related, source};
use crate::trace::{end, summary};

/// Makes a case of a packet.
pub async fn repro(handle: &Handle, request: ReproRequest) -> Result<Repro> {
    let prepared = handle
        .call(move |core| match &request.hook {
            Some(hook) => core.prepare_seen(&request.at, hook, &request.packet),
            None => core.prepare(&TraceRequest {
                at: request.at,
                packet: request.packet,
            }),
        })
        .await?;
    beside(move || make(&prepared)).await
}

fn make(prepared: &Prepared) -> Result<Repro> {
    let clock = now()?;
    let (parts, copies) = prepared.run()?;
    let (tables, is_fixed, copies) = needed(prepared, &parts, copies)?;
    prepared.kept.put(copies);
    let runs: Vec<Run> = parts
        .iter()
        .enumerate()
        .map(|(n, part)| Run {
            // What one program makes by lot, the next one gets.
            out: (is_fixed.get(n) == Some(&true)).then(|| part.seen.frame.clone()),
            ..run_of(part)
        })
        .collect();
    let (devices, messages) = surroundings(&parts, &tables, &related(&runs_with_frames(&parts)))?;
    let case = Case {
        clock,
        devices,
        messages,
        tables,
        runs,
    };
    let (_, reason, verdict) = prepared.verdict(&parts);
    let packet = format!("{} from {}", summary(&prepared.frame).text, prepared.at);
    let mut remarks = prepared.remarks.clone();
    remarks.extend(sockets(&parts));
    Ok(Repro {
        source: source(&case, &packet, &verdict, &remarks),
        case: case.to_string(),
        packet,
        reason,
        verdict,
        remarks,
    })
}

/// The clock the programs read.
fn now() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_err(|e| ServiceError::node(format!("the monotonic clock cannot be read: {e}")))?;
    Ok(now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned())
}

fn run_of(part: &Part) -> Run {
    Run {
        hook: part.hook,
        ifindex: part.ifindex,
        mark: part.mark,
        frame: part.frame.clone(),
        end: end(&part.seen),
        out: None,
    }
}

fn runs_with_frames(parts: &[Part]) -> Vec<Run> {
    let whole = |part: &Part| Run {
        out: Some(part.seen.frame.clone()),
        ..run_of(part)
    };
    parts.iter().map(whole).collect()
}

/// The rows that are needed, and of which parts the frame is the same in each run. If the rows picked do not
/// decide as the live ones did, all are taken.
fn needed(
    prepared: &Prepared,
    parts: &[Part],
    mut copies: Copies,
) -> Result<(Tables, Vec<bool>, Copies)> {
    let all = prepared.tracer.tables()?;
    let picked = pick(&all, &runs_with_frames(parts));
    let mut found = None;
    for tables in [picked, all] {
        copies = copies.again(&tables)?;
        let again = prepared.follow(&mut copies)?;
        let ends = |parts: &[Part]| -> Vec<_> {
            let ended = |p: &Part| (p.hook, p.ifindex, p.mark, end(&p.seen));
            parts.iter().map(ended).collect()
        };
        if ends(&again) != ends(parts) {
            continue;
        }
        let both = again.iter().zip(parts);
        let is_fixed: Vec<bool> = both.map(|(a, b)| a.seen.frame == b.seen.frame).collect();
        if is_fixed.iter().all(|is| *is) {
            return Ok((tables, is_fixed, copies));
        }
        // With all rows it is another frame as well: it is drawn by lot, and the few rows are enough.
        found.get_or_insert((tables, is_fixed));
    }
    let (tables, is_fixed) = found.ok_or_else(|| {
        ServiceError::conflict(
            "what becomes of the packet hangs on more than rows and routes (a row that came or went \
             meanwhile, another that is counted anew): ask again",
        )
    })?;
    Ok((tables, is_fixed, copies))
}

/// The devices the case needs, and the rules and routes about its addresses.
fn surroundings(
    parts: &[Part],
    tables: &Tables,
    about: &[IpAddr],
) -> Result<(Vec<Device>, Vec<Message>)> {
    let mut netlink = Netlink::open()?;
    let recorded = replay::record(&mut netlink, about)?;
    let mut wanted: BTreeSet<u32> = parts.iter().map(|p| p.ifindex).collect();
    // The routing table is asked from gateways.
    wanted.extend(gateways(tables));
    wanted.extend(recorded.iter().flat_map(|r| r.devices.iter().copied()));
    let on = |family: &str, device: &str, name: &str| {
        sysctl::get(family, device, name).is_ok_and(|value| value != 0)
    };
    let devices = veth::devices(&mut netlink)?;
    let devices = devices
        .iter()
        .filter(|d| wanted.contains(&d.ifindex))
        .map(|d| Device {
            ifindex: d.ifindex,
            name: d.name.clone(),
            mtu: d.mtu,
            mac: d.mac.unwrap_or_default(),
            up: d.up,
            forwards4: on("ipv4", &d.name, "forwarding"),
            forwards6: on("ipv6", &d.name, "forwarding"),
            speaks6: sysctl::get("ipv6", &d.name, "disable_ipv6").is_ok_and(|off| off == 0),
        })
        .collect();
    let messages = recorded.into_iter().map(|r| Message {
        is_rule: r.is_rule,
        words: r.words,
        bytes: r.bytes,
    });
    Ok((devices, messages.collect()))
}

/// What sockets of the node have decided, which a case does not have.
fn sockets(parts: &[Part]) -> Option<String> {
    let notes = || parts.iter().flat_map(|p| &p.seen.notes);
    let socket = notes().any(|n| {
        n.point == Point::Socket as u32 || (n.point == Point::Taken as u32 && n.b == taken::HELD)
    });
    socket.then(|| {
        "a socket of the node, or a published port, had a part in it; sockets are not in the case".into()
    })
}
