//! The maps of programs that are loaded over copies: filled, wiped, filled again. Loading the programs takes a
//! second, other rows a moment.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::maps::{Map, MapType};
use netd_common::maps::name;

use super::copy::{keys, put, remove};
use super::error::{Error, Result, chain};
use super::tables::{NEW_ROWS, Tables};

/// One map.
struct Own {
    name: String,
    fd: OwnedFd,
    kind: MapType,
    key: usize,
    value: usize,
    room: u32,
}

/// The maps.
pub(super) struct Slate {
    maps: Vec<Own>,
}

impl Slate {
    /// The maps of a loaded object that none is taken out of yet.
    pub fn of(ebpf: &Ebpf) -> Result<Self> {
        let mut maps = Vec::new();
        for (name, map) in ebpf.maps() {
            let (Map::Array(data)
            | Map::HashMap(data)
            | Map::LpmTrie(data)
            | Map::LruHashMap(data)
            | Map::PerCpuArray(data)) = map
            else {
                continue;
            };
            let wrong = |why: String| Error::Load(format!("map {name}: {why}"));
            let info = data.info().map_err(|e| wrong(chain(&e)))?;
            let fd = data.fd().as_fd().try_clone_to_owned();
            maps.push(Own {
                name: name.into(),
                fd: fd.map_err(|e| wrong(e.to_string()))?,
                kind: info.map_type().map_err(|e| wrong(chain(&e)))?,
                key: info.key_size() as usize,
                value: info.value_size() as usize,
                room: info.max_entries(),
            });
        }
        Ok(Self { maps })
    }

    fn find(&self, name: &str) -> Result<&Own> {
        let found = self.maps.iter().find(|map| map.name == name);
        found.ok_or_else(|| Error::Load(format!("map {name} is missing")))
    }

    /// A map, to be written.
    pub fn map(&self, name: &str) -> Result<BorrowedFd<'_>> {
        Ok(self.find(name)?.fd.as_fd())
    }

    /// Writes rows, whose sizes are right.
    pub fn fill(&self, tables: &Tables) -> Result<()> {
        for (name, table) in tables {
            let to = self.map(name)?;
            for (key, value) in &table.rows {
                put(name, to, key, value)?;
            }
        }
        Ok(())
    }

    /// Whether these rows leave as much room as they say.
    pub fn suits(&self, tables: &Tables) -> bool {
        tables.iter().all(|(name, table)| {
            let (Some(free), Ok(map)) = (table.free, self.find(name)) else {
                return true;
            };
            let left = map.room.checked_sub(table.rows.len() as u32);
            left.is_some_and(|left| left == free || (free >= NEW_ROWS && left >= NEW_ROWS))
        })
    }

    /// Removes all rows, or makes those zero that cannot be removed; but what programs write before they read
    /// it (per-CPU arrays), constants, and the count of held ports, which its owner keeps.
    pub fn wipe(&self) -> Result<()> {
        for map in &self.maps {
            let (name, fd) = (map.name.as_str(), map.fd.as_fd());
            if map.kind == MapType::PerCpuArray || name == name::HELD || name.starts_with('.') {
                continue;
            }
            let failed = |e| Error::Load(format!("a copy of {name} cannot be read: {e}"));
            let mut found = Vec::new();
            keys(fd, map.key, map.room, &failed, |key| {
                found.push(key.to_vec());
                Ok(())
            })?;
            let zero = vec![0; map.value];
            for key in found {
                if map.kind == MapType::Array {
                    put(name, fd, &key, &zero)?;
                } else {
                    remove(name, fd, &key)?;
                }
            }
        }
        Ok(())
    }
}
