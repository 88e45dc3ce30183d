//! The flow table from user space: listing, ending and collecting. A flow is two entries; they are
//! judged together by `netd_common::flow::life` and go together.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use netd_common::addr::{Addr, Be16};
use netd_common::flow::{Life, SECOND, Timeouts, life};
use netd_common::maps::{Dir, Flow, FlowKind};
use netd_common::tuple::Tuple;

use super::FlowRecord;
use super::error::Result;
use super::table::Table;

/// An entry whose other half is missing may just be in the making; after this long it is not.
const HALF_MADE: u64 = 5 * SECOND;

/// `CLOCK_MONOTONIC` in ns, the clock of `bpf_ktime_get_ns`.
pub(super) fn now() -> u64 {
    let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    t.map_or(0, |t| {
        t.tv_sec().cast_unsigned() * SECOND + t.tv_nsec().cast_unsigned()
    })
}

/// One family's flow table.
pub(super) type FlowTable<A> = Table<Tuple<A>, Flow<A>>;

type Entry<A> = (Tuple<A>, Flow<A>);

/// Both entries of each flow, and entries without their other half.
struct Pairs<A> {
    whole: Vec<(Entry<A>, Entry<A>)>,
    halves: Vec<Entry<A>>,
}

fn pairs<A: Addr + Hash>(table: &FlowTable<A>) -> Result<Pairs<A>> {
    let mut by_key: HashMap<Tuple<A>, Flow<A>> = table.all()?.into_iter().collect();
    let originals: Vec<Tuple<A>> = by_key
        .iter()
        .filter(|(_, f)| Dir::from_code(f.dir) == Dir::Original)
        .map(|(k, _)| *k)
        .collect();
    let mut pairs = Pairs {
        whole: Vec::with_capacity(originals.len()),
        halves: Vec::new(),
    };
    for key in originals {
        let Some(original) = by_key.remove(&key) else {
            continue;
        };
        let reply_key = original.to.reverse();
        match by_key.remove(&reply_key) {
            Some(reply) if reply.created == original.created => {
                pairs.whole.push(((key, original), (reply_key, reply)));
            }
            Some(other) => {
                by_key.insert(reply_key, other);
                pairs.halves.push((key, original));
            }
            None => pairs.halves.push((key, original)),
        }
    }
    pairs.halves.extend(by_key);
    Ok(pairs)
}

fn ip<A: Addr>(a: A) -> IpAddr {
    let v6 = std::net::Ipv6Addr::from(a.to_16());
    if A::IS_V4 {
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    } else {
        IpAddr::V6(v6)
    }
}

fn record<A: Addr>(original: &Entry<A>, reply: &Entry<A>, life: Life) -> FlowRecord {
    let ((key, o), (_, r)) = (original, reply);
    let socket = |a: A, p: Be16| (ip(a), p.get());
    FlowRecord {
        kind: FlowKind::from_code(o.kind).unwrap_or(FlowKind::Forward),
        proto: key.proto,
        endpoint: o.endpoint,
        network: o.network,
        publish: o.publish,
        client: o.client,
        src: socket(key.src, key.sport),
        dst: socket(key.dst, key.dport),
        nat_src: socket(o.to.src, o.to.sport),
        nat_dst: socket(o.to.dst, o.to.dport),
        original: (o.packets, o.bytes),
        reply: (r.packets, r.bytes),
        state: life.state.name(),
        idle_ns: life.idle,
        expires_ns: life.left,
    }
}

/// All flows of a family.
pub(super) fn list<A: Addr + Hash>(
    table: &FlowTable<A>,
    timeouts: &Timeouts,
) -> Result<Vec<FlowRecord>> {
    let now = now();
    Ok(pairs(table)?
        .whole
        .iter()
        .map(|(o, r)| record(o, r, life(&o.1, &r.1, now, timeouts)))
        .collect())
}

/// Ends both entries of a flow.
fn end<A: Addr>(table: &mut FlowTable<A>, original: Tuple<A>, reply: Tuple<A>) -> Result<()> {
    table.remove(original)?;
    table.remove(reply)?;
    Ok(())
}

/// Ends the flows `which` picks.
pub(super) fn remove<A: Addr + Hash>(
    table: &mut FlowTable<A>,
    timeouts: &Timeouts,
    which: &dyn Fn(&FlowRecord) -> bool,
) -> Result<u32> {
    let now = now();
    let mut ended = 0;
    for (o, r) in pairs(table)?.whole {
        if which(&record(&o, &r, life(&o.1, &r.1, now, timeouts))) {
            end(table, o.0, r.0)?;
            ended += 1;
        }
    }
    Ok(ended)
}

/// Ends the flows that have been silent too long: looked at once more, one by one, just before.
pub(super) fn collect<A: Addr + Hash>(
    table: &mut FlowTable<A>,
    timeouts: &Timeouts,
) -> Result<u32> {
    let found = pairs(table)?;
    let start = now();
    let mut ended = 0;
    for ((key, o), (reply_key, r)) in found.whole {
        if life(&o, &r, start, timeouts).left > 0 {
            continue;
        }
        let (Some(o), Some(r)) = (table.get(key)?, table.get(reply_key)?) else {
            continue;
        };
        if o.created == r.created && life(&o, &r, now(), timeouts).left == 0 {
            end(table, key, reply_key)?;
            ended += 1;
        }
    }
    for (key, half) in found.halves {
        if start.saturating_sub(half.created) > HALF_MADE
            && table
                .get(key)?
                .is_some_and(|now| now.created == half.created)
            && table
                .get(half.to.reverse())?
                .is_none_or(|other| other.created != half.created)
        {
            table.remove(key)?;
        }
    }
    Ok(ended)
}
