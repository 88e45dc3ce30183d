//! The table of mappings from user space: listing, and collecting what is over. A mapping is two rows, made
//! and removed by the programs alone; what is to go is found here and freed by `netd_flow_end`, which judges
//! once more at that moment.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;

use netd_common::addr::{Addr, Be16};
use netd_common::flow::{HALF_MADE, Timeouts};
use netd_common::mapping::{self, flows as count, is_dead, is_over, stays};
use netd_common::maps::{Ending, Flow, Mapping, ending, flow_flags, mapping_flags};
use netd_common::tuple::Tuple;

use super::error::Result;
use super::flows::{self, Ender, FlowTable, address, is_original, now};
use super::table::Table;
use super::types::{Filter, MappingRecord};

/// One family's table of mappings.
pub(super) type MappingTable<A> = Table<Tuple<A>, Mapping<A>>;

const fn is_outside<A: Addr>(row: &Mapping<A>) -> bool {
    row.flags & mapping_flags::OUTSIDE != 0
}

/// All mappings of a family; of its flows, how long they will last.
pub(super) fn list<A: Addr + Hash>(
    table: &MappingTable<A>,
    flows_table: &FlowTable<A>,
    timeouts: &Timeouts,
) -> Result<Vec<MappingRecord>> {
    let mut left: HashMap<Tuple<A>, u64> = HashMap::new();
    flows::each(flows_table, timeouts, |key, o, _, life| {
        for mapping in mappings_of(key, o) {
            let longest = left.entry(mapping).or_default();
            *longest = life.left.max(*longest);
        }
    })?;
    let now = now();
    let mut all = Vec::new();
    table.scan(|key, m| {
        if is_outside(m) || is_dead(m.word) {
            return;
        }
        let socket = |a: A, p: Be16| (address(a), p.get());
        let flows = count(m.word);
        let strict = m.flags & mapping_flags::STRICT != 0;
        let stays = stays(m.flags);
        all.push(MappingRecord {
            proto: key.proto,
            endpoint: m.endpoint,
            network: m.network,
            inside: socket(key.src, key.sport),
            outside: socket(m.other.dst, m.other.dport),
            strict,
            filter: if m.flags & mapping_flags::FILTER_ANY != 0 {
                Filter::Any
            } else if m.flags & mapping_flags::FILTER_ADDRESS != 0 {
                Filter::Address
            } else {
                Filter::AddressAndPort
            },
            flows,
            state: match (flows, strict) {
                (0, true) => "quarantine",
                (0, false) => "ending",
                _ => "used",
            },
            age_ns: now.saturating_sub(m.created),
            expires_ns: if flows == 0 {
                stays.saturating_sub(now.saturating_sub(m.idle))
            } else {
                // The last of its flows ends, and what comes after that begins.
                left.get(key).copied().unwrap_or(0) + if strict { stays } else { 0 }
            },
        });
    })?;
    Ok(all)
}

/// Frees the mappings whose outside socket has one of these addresses, whatever they hold; how many.
pub(super) fn free<A: Addr>(
    table: &MappingTable<A>,
    ender: &Ender,
    outside: &BTreeSet<IpAddr>,
) -> Result<u32> {
    let mut found = Vec::new();
    table.scan(|key, m| {
        if !is_outside(m) && outside.contains(&address(m.other.dst)) {
            let (key, created) = (*key, m.created);
            found.push(Ending { key, created });
        }
    })?;
    ender.end(&found, ending::FREE)
}

/// Mappings that count flows of which the table has none, by key: creation, word, idle since.
pub(super) type Suspects<A> = HashMap<Tuple<A>, (u64, u64, u64)>;

/// Frees what is over. With `thorough` also rows that have lost their other half, and mappings whose flows
/// are gone although they count some: those only if they were so when that was last looked at, and nothing has
/// happened to them since.
pub(super) fn collect<A: Addr + Hash>(
    table: &MappingTable<A>,
    flows_table: &FlowTable<A>,
    ender: &Ender,
    thorough: bool,
    suspects: &mut Suspects<A>,
) -> Result<()> {
    let now = now();
    let mut over = Vec::new();
    let ending = |key: &Tuple<A>, m: &Mapping<A>| Ending {
        key: *key,
        created: m.created,
    };
    if !thorough {
        table.scan(|key, m| {
            if !is_outside(m) && is_over(m.word, m.flags, m.idle, now) {
                over.push(ending(key, m));
            }
        })?;
        return ender.end(&over, ending::FREE_IF_OVER).map(drop);
    }
    let held = held(flows_table)?;
    let rows: HashMap<Tuple<A>, Mapping<A>> = table.all()?.into_iter().collect();
    let (mut lost, mut found) = (Vec::new(), Suspects::new());
    for (key, m) in &rows {
        if is_outside(m) {
            let whole = rows.get(&m.other).is_some_and(|i| mapping::is_pair(i, m));
            if !whole && now.saturating_sub(m.created) > HALF_MADE {
                over.push(ending(key, m));
            }
        } else if is_over(m.word, m.flags, m.idle, now) {
            over.push(ending(key, m));
        } else if count(m.word) > 0 && !held.contains(key) {
            let seen = (m.created, m.word, m.idle);
            if suspects.get(key) == Some(&seen) {
                lost.push(ending(key, m));
            }
            found.insert(*key, seen);
        }
    }
    *suspects = found;
    ender.end(&over, ending::FREE_IF_OVER)?;
    let freed = ender.end(&lost, ending::FREE)?;
    if freed > 0 {
        tracing::warn!("{freed} mappings counted flows that were gone, and are freed");
    }
    Ok(())
}

/// The mappings that a flow holds, by its original entry: that of the socket that began it, that of the one it
/// called.
fn mappings_of<A: Addr>(key: &Tuple<A>, flow: &Flow<A>) -> impl Iterator<Item = Tuple<A>> + use<A> {
    let has = |flag| flow.flags & flag != 0;
    let own = has(flow_flags::MAPPED).then(|| mapping::source(key, &flow.to, flow.flags));
    let called = has(flow_flags::CALLED).then(|| mapping::called(key, &flow.to));
    own.into_iter().chain(called)
}

/// The mappings that flows hold.
fn held<A: Addr + Hash>(table: &FlowTable<A>) -> Result<HashSet<Tuple<A>>> {
    let mut held = HashSet::new();
    table.scan(|key, flow| {
        if is_original(flow) {
            held.extend(mappings_of(key, flow));
        }
    })?;
    Ok(held)
}
