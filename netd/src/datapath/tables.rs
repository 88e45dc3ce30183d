//! The maps as rows: what is in the live ones, and copies made of rows alone, which may come from another host.
//! What is in a live map is only read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::maps::MapType;
use netd_common::addr::{Addr, V4, V6};
use netd_common::flow::Timeouts;
use netd_common::maps::{Flow, name};
use netd_common::tuple::Tuple;

use super::copy::Source;
use super::error::{Error, Result};
use super::flows::address;
use super::load::{LAYOUTS, Pins};
use super::sys;
use super::trace::Copies;

/// So much room, or more, makes no difference to the few packets that are run.
pub(super) const NEW_ROWS: u32 = 64;
/// What a map is loaded with that has as much room: the next packet may need more rows.
const ROOMY: u32 = 1_024;
/// Flow entries that are all copied; of more, only those with an address of the packet.
const ALL_FLOWS: usize = 16_384;

/// Keys and values as bytes.
pub type RawRows = Vec<(Vec<u8>, Vec<u8>)>;

/// One map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MapRows {
    /// Entries it has room for beyond its rows, 64 standing for more as well; none: as many as the programs
    /// say.
    pub free: Option<u32>,
    /// Its rows, key and value as the programs have them.
    pub rows: RawRows,
}

/// Maps by name.
pub type Tables = BTreeMap<String, MapRows>;

/// Makes copies. It reads the pins alone, so another thread than the data path's may have it.
#[derive(Clone, Debug)]
pub struct Tracer {
    pub(super) pins: Pins,
    pub(super) timeouts: Timeouts,
}

/// A map's rows, and how many there are.
type Found = (RawRows, u32);

fn all_rows(source: &Source) -> Result<Found> {
    let mut rows = RawRows::new();
    source.rows(|key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    rows.sort_unstable();
    let live = rows.len() as u32;
    Ok((rows, live))
}

/// All flow entries, or those with one of these addresses.
fn flow_rows<A: Addr>(source: &Source, about: &[IpAddr]) -> Result<Found> {
    let (mut all, mut some, mut live) = (Vec::new(), Vec::new(), 0);
    let bytes = |key: &Tuple<A>, flow: &Flow<A>| {
        let (key, flow) = (bytemuck::bytes_of(key), bytemuck::bytes_of(flow));
        (key.to_vec(), flow.to_vec())
    };
    sys::scan(source.fd(), |key: &Tuple<A>, flow: &Flow<A>| {
        live += 1;
        if all.len() < ALL_FLOWS {
            all.push(bytes(key, flow));
        }
        let ends = [key.src, key.dst, flow.to.src, flow.to.dst];
        if ends.iter().any(|end| about.contains(&address(*end))) {
            some.push(bytes(key, flow));
        }
    })
    .map_err(|e| Error::Map {
        map: if A::IS_V4 { name::FLOW4 } else { name::FLOW6 },
        op: "dump",
        why: e.to_string(),
    })?;
    let rows = if live as usize > all.len() { some } else { all };
    Ok((rows, live))
}

impl Tracer {
    /// The rows of the live maps, as `find` finds them by the map's name: the counters and what belongs to
    /// sockets left out.
    fn read(&self, find: impl Fn(&str, &Source) -> Result<Found>) -> Result<Tables> {
        let mut tables = Tables::new();
        for (name, ..) in LAYOUTS {
            let source = Source::open(name, &self.pins.maps.join(name))?;
            let (rows, live) = find(name, &source)?;
            // As full as the live one, if that is full.
            let free = source.room.saturating_sub(live).min(NEW_ROWS);
            let free = (source.kind() == MapType::Hash).then_some(free);
            if free.is_some() || !rows.is_empty() {
                tables.insert(name.into(), MapRows { free, rows });
            }
        }
        Ok(tables)
    }

    /// All rows of the live maps.
    pub fn tables(&self) -> Result<Tables> {
        self.read(|_, source| all_rows(source))
    }

    /// Copies of the live maps, for a packet with these addresses: of a large flow table only their flows.
    /// `used`: copies made before, whose programs need not be loaded again.
    pub fn copy(&self, about: &[IpAddr], used: Option<Copies>) -> Result<Copies> {
        let live = std::cell::Cell::new(0);
        let tables = self.read(|name, source| {
            let found = match name {
                name::FLOW4 => flow_rows::<V4>(source, about)?,
                name::FLOW6 => flow_rows::<V6>(source, about)?,
                _ => return all_rows(source),
            };
            live.set(live.get() + found.1);
            Ok(found)
        })?;
        let mut copies = match used {
            Some(used) => used.again(&tables)?,
            None => Copies::of(&tables, self.timeouts)?,
        };
        copies.flow_entries.1 = live.get();
        Ok(copies)
    }
}

impl Copies {
    /// Loads the programs over maps with these rows and no others. Rows whose maps are unknown, or of other
    /// sizes, are refused: another version of netd has written them.
    pub fn of(tables: &Tables, timeouts: Timeouts) -> Result<Self> {
        check(tables)?;
        let room = LAYOUTS.iter().filter_map(|(name, ..)| {
            let table = tables.get(*name)?;
            let free = table.free?;
            let room = (table.rows.len() as u32).saturating_add(free).max(1);
            let roomy = free >= NEW_ROWS;
            Some((*name, if roomy { room.max(ROOMY) } else { room }))
        });
        Self::load(room, timeouts)?.filled(tables)
    }

    /// The same programs over these rows and no others: of what ran before nothing is left. They are loaded
    /// anew only if these rows want maps of other sizes.
    pub fn again(self, tables: &Tables) -> Result<Self> {
        check(tables)?;
        if !self.slate.suits(tables) {
            let timeouts = self.timeouts;
            drop(self);
            return Self::of(tables, timeouts);
        }
        self.slate.wipe()?;
        self.filled(tables)
    }

    fn filled(mut self, tables: &Tables) -> Result<Self> {
        self.slate.fill(tables)?;
        self.count_held()?;
        let flows = [name::FLOW4, name::FLOW6].map(|map| tables.get(map));
        let flows: usize = flows.iter().flatten().map(|table| table.rows.len()).sum();
        self.flow_entries = (flows as u32, flows as u32);
        Ok(self)
    }
}

fn check(tables: &Tables) -> Result<()> {
    tables
        .iter()
        .try_for_each(|(name, table)| fits(name, table))
}

/// Whether the programs have such a map: the kernel would read a short row beyond its end.
fn fits(name: &str, table: &MapRows) -> Result<()> {
    let other = |what: String| {
        Error::Load(format!(
            "{what}: the rows were written by a netd with other maps than this one"
        ))
    };
    let layout = LAYOUTS.iter().find(|(known, ..)| *known == name);
    let Some((_, key, value)) = layout else {
        return Err(other(format!("there is no map {name}")));
    };
    for (k, v) in &table.rows {
        if (k.len(), v.len()) != (*key as usize, *value as usize) {
            return Err(other(format!(
                "a row of {name} has a key of {} and a value of {} bytes, not {key} and {value}",
                k.len(),
                v.len()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_other_layouts_are_refused_by_name() {
        let refused = |name: &str, key: usize, value: usize| {
            let rows = vec![(vec![0; key], vec![0; value])];
            fits(name, &MapRows { free: None, rows }).map_err(|e| e.to_string())
        };
        assert_eq!(refused("LOCAL", 16, 4), Ok(()));
        let e = refused("LOCAL", 16, 3).unwrap_err();
        assert!(
            e.contains("a row of LOCAL") && e.contains("other maps"),
            "{e}"
        );
        assert!(refused("LOCAL", 4, 4).is_err());
        let e = refused("NOSUCH", 1, 1).unwrap_err();
        assert!(e.contains("no map NOSUCH"), "{e}");
    }
}
