//! The flow table from user space: listing, ending and collecting. A flow is two entries; they are
//! judged together by `netd_common::flow::life` and go together. What is to end is found here and ended by
//! the program `netd_flow_end`, which judges once more at that moment and keeps the endpoints' counts.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

use aya::programs::SchedClassifier;
use netd_common::addr::{Addr, Be16};
use netd_common::flow::{Life, SECOND, Timeouts, is_left_over, is_pair, life, silent_since};
use netd_common::maps::{Dir, Ending, Flow, FlowKind, Usage, ending, is_called, name, payer};
use netd_common::tuple::Tuple;

use super::error::{Error, Result, chain};
use super::table::Table;
use super::{FLOW_END, FlowRecord, sys};

/// `CLOCK_MONOTONIC` in ns, the clock of `bpf_ktime_get_ns`.
pub(super) fn now() -> u64 {
    let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    t.map_or(0, |t| {
        t.tv_sec().cast_unsigned() * SECOND + t.tv_nsec().cast_unsigned()
    })
}

/// One family's flow table.
pub(super) type FlowTable<A> = Table<Tuple<A>, Flow<A>>;

/// An address as user space has it.
pub(super) fn address<A: Addr>(a: A) -> IpAddr {
    let v6 = std::net::Ipv6Addr::from(a.to_16());
    if A::IS_V4 {
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    } else {
        IpAddr::V6(v6)
    }
}

/// A flow as its original entry has it; `reply` and `life` where they are known.
fn record<A: Addr>(
    (key, o): (&Tuple<A>, &Flow<A>),
    reply: Option<&Flow<A>>,
    life: Option<Life>,
) -> FlowRecord {
    let socket = |a: A, p: Be16| (address(a), p.get());
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
        reply: reply.map_or((0, 0), |r| (r.packets, r.bytes)),
        state: life.map_or("", |l| l.state.name()),
        idle_ns: life.map_or(0, |l| l.idle),
        expires_ns: life.map_or(0, |l| l.left),
    }
}

pub(super) const fn is_original<A: Addr>(flow: &Flow<A>) -> bool {
    flow.dir == Dir::Original.code()
}

/// Shows all flows of a family: key and value of the original entry, the reply entry, and how they live.
pub(super) fn each<A: Addr + Hash>(
    table: &FlowTable<A>,
    timeouts: &Timeouts,
    mut visit: impl FnMut(&Tuple<A>, &Flow<A>, &Flow<A>, Life),
) -> Result<()> {
    let now = now();
    let by_key: HashMap<Tuple<A>, Flow<A>> = table.all()?.into_iter().collect();
    for (key, o) in &by_key {
        if let Some(r) = by_key.get(&o.to.reverse()).filter(|r| is_pair(o, r)) {
            visit(key, o, r, life(o, r, now, timeouts));
        }
    }
    Ok(())
}

/// All flows of a family.
pub(super) fn list<A: Addr + Hash>(
    table: &FlowTable<A>,
    timeouts: &Timeouts,
) -> Result<Vec<FlowRecord>> {
    let mut all = Vec::new();
    each(table, timeouts, |key, o, r, life| {
        all.push(record((key, o), Some(r), Some(life)));
    })?;
    Ok(all)
}

/// The flow that one of its packets belongs to, by the tuple netd sees it with.
pub(super) fn find<A: Addr>(
    table: &FlowTable<A>,
    key: Tuple<A>,
    timeouts: &Timeouts,
) -> Result<Option<FlowRecord>> {
    let Some(entry) = table.get(key)? else {
        return Ok(None);
    };
    let other_key = entry.to.reverse();
    let Some(other) = table.get(other_key)? else {
        return Ok(None);
    };
    let ((key, o), r) = if is_original(&entry) {
        ((key, entry), other)
    } else {
        ((other_key, other), entry)
    };
    let life = life(&o, &r, now(), timeouts);
    Ok(Some(record((&key, &o), Some(&r), Some(life))))
}

/// How many flows of a family there are.
pub(super) fn count<A: Addr>(table: &FlowTable<A>) -> Result<u32> {
    let mut flows = 0;
    table.scan(|_, flow| flows += u32::from(is_original(flow)))?;
    Ok(flows)
}

/// The program that ends flows. Handles are cheap: each thread has one.
pub(super) struct Ender(Arc<RwLock<OwnedFd>>);

impl Ender {
    /// From the loaded program.
    pub fn new(program: &SchedClassifier) -> Result<Self> {
        let wrong = |why: String| Error::Load(format!("program {FLOW_END}: {why}"));
        let fd = program.fd().map_err(|e| wrong(chain(&e)))?;
        let fd = fd.as_fd().try_clone_to_owned();
        let fd = fd.map_err(|e| wrong(e.to_string()))?;
        Ok(Self(Arc::new(RwLock::new(fd))))
    }

    /// Another handle.
    pub fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Lets all handles run the program of a [`Self::handle`].
    pub fn replace(&self, program: OwnedFd) {
        // What a panic elsewhere has left is a whole descriptor all the same.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = program;
    }

    /// The program, to run it without holding the lock.
    pub fn handle(&self) -> Result<OwnedFd> {
        let fd = self.0.read().unwrap_or_else(PoisonError::into_inner);
        fd.try_clone().map_err(|e| Error::Load(e.to_string()))
    }

    /// Ends flows, or frees mappings, as the mode says; how many.
    pub(super) fn end<A: Addr>(&self, flows: &[Ending<A>], mode: u8) -> Result<u32> {
        let mut ended = 0;
        if flows.is_empty() {
            return Ok(0);
        }
        let program = self.handle()?;
        for some in flows.chunks(ending::MOST) {
            let mut frame = vec![0; ending::HEAD];
            frame[ending::FAMILY] = if A::IS_V4 { 4 } else { 6 };
            frame[ending::MODE] = mode;
            frame.extend_from_slice(bytemuck::cast_slice(some));
            ended += sys::run(program.as_fd(), &frame).map_err(|e| Error::Map {
                map: if A::IS_V4 { name::FLOW4 } else { name::FLOW6 },
                op: "ending of flows",
                why: e.to_string(),
            })?;
        }
        Ok(ended)
    }
}

/// Ends the flows `which` picks; it sees nothing of the replies: neither their counters nor a state.
pub(super) fn remove<A: Addr>(
    table: &FlowTable<A>,
    ender: &Ender,
    which: &dyn Fn(&FlowRecord) -> bool,
) -> Result<u32> {
    let mut picked = Vec::new();
    table.scan(|key, flow| {
        if is_original(flow) && which(&record((key, flow), None, None)) {
            let (key, created) = (*key, flow.created);
            picked.push(Ending { key, created });
        }
    })?;
    ender.end(&picked, ending::END)
}

/// What one walk through a table found and did.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Entries that were there.
    pub entries: u32,
    /// Flows that ended.
    pub ended: u32,
    /// Flows by the endpoint that pays for them.
    pub by_endpoint: HashMap<u32, Usage>,
}

/// Ends the flows that have been silent too long, and with `halves` also entries that lost their other
/// half. What looks over by one entry is judged by both, in the kernel, just before it ends.
pub(super) fn collect<A: Addr>(
    table: &FlowTable<A>,
    ender: &Ender,
    timeouts: &Timeouts,
    halves: bool,
) -> Result<Walk> {
    let now = now();
    let mut walk = Walk::default();
    let mut found = Vec::new();
    let mut failed = None;
    table.scan(|key, flow| {
        walk.entries += 1;
        let mine = is_original(flow);
        if mine {
            let payer = payer(flow.endpoint, flow.client);
            let count = walk.by_endpoint.entry(payer).or_default();
            count.flows += 1;
            count.called += u64::from(is_called(flow.kind, flow.flags));
        }
        let silent = now.saturating_sub(silent_since(flow)) >= timeouts.shortest(key.proto);
        if (mine && silent) || (halves && is_left_over(flow, now)) {
            let (key, created) = (*key, flow.created);
            found.push(Ending { key, created });
        }
        // A list is worked off before it grows: the whole table may be silent.
        if found.len() == ending::MOST {
            match ender.end(&found, ending::END_IF_OVER) {
                Ok(ended) => walk.ended += ended,
                Err(e) => failed = Some(e),
            }
            found.clear();
        }
    })?;
    walk.ended += ender.end(&found, ending::END_IF_OVER)?;
    match failed {
        Some(e) => Err(e),
        None => Ok(walk),
    }
}
