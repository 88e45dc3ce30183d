//! The maps as rows: all that is in the live ones, and copies made of rows alone, which may come from another
//! host. What is in a live map is only read.

use std::collections::BTreeMap;

use aya::EbpfLoader;
use aya::maps::MapType;
use netd_common::flow::Timeouts;
use netd_common::maps::watch;

use super::copy::{put, target};
use super::error::{Error, Result, chain};
use super::load::{self, LAYOUTS, OBJECT};
use super::trace::{Copies, RawRows, Tracer};

/// Room for new rows, where the live map has as much.
const NEW_ROWS: u32 = 1_024;

/// One map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MapRows {
    /// Entries it has room for beyond its rows; none: as many as the programs say.
    pub free: Option<u32>,
    /// Its rows, key and value as the programs have them.
    pub rows: RawRows,
}

/// Maps by name.
pub type Tables = BTreeMap<String, MapRows>;

impl Tracer {
    /// All rows of the live maps that are copied for a trace.
    pub fn tables(&self) -> Result<Tables> {
        let mut tables = Tables::new();
        for ((name, ..), source) in LAYOUTS.iter().zip(self.sources()?) {
            let mut rows = RawRows::new();
            source.rows(|key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                Ok(())
            })?;
            rows.sort_unstable();
            let left = source.room.saturating_sub(rows.len() as u32).min(NEW_ROWS);
            let free = (source.kind() == MapType::Hash).then_some(left);
            if free.is_some() || !rows.is_empty() {
                tables.insert((*name).into(), MapRows { free, rows });
            }
        }
        Ok(tables)
    }

    /// Copies made of these rows.
    pub fn copy_of(&self, tables: &Tables) -> Result<Copies> {
        Copies::of(tables, self.timeouts)
    }
}

impl Copies {
    /// Loads the programs over maps with these rows and no others. Rows whose maps are unknown, or of other
    /// sizes, are refused: another version of netd has written them.
    pub fn of(tables: &Tables, timeouts: Timeouts) -> Result<Self> {
        for (name, table) in tables {
            check(name, table)?;
        }
        let mut loader = EbpfLoader::new();
        let globals = load::Globals::new(false, 0, watch::TRACE);
        globals.set(&mut loader);
        for (name, table) in tables {
            if let Some(free) = table.free {
                let room = (table.rows.len() as u32).saturating_add(free);
                loader.map_max_entries(name, room.max(1));
            }
        }
        let ebpf = loader.load(OBJECT).map_err(|e| Error::Load(chain(&e)))?;
        for (name, table) in tables {
            let to = target(&ebpf, name)?;
            for (key, value) in &table.rows {
                put(name, to, key, value)?;
            }
        }
        let rows: usize = tables.values().map(|table| table.rows.len()).sum();
        Self::assemble(ebpf, timeouts, (rows as u32, rows as u32))
    }
}

/// Whether the programs have such a map: the kernel would read a short row beyond its end.
fn check(name: &str, table: &MapRows) -> Result<()> {
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
            check(name, &MapRows { free: None, rows }).map_err(|e| e.to_string())
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
