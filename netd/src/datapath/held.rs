//! Which ports of the node are held: counts of the rows of `PUBLISH`, and claims on ports that are just
//! being published. Says nothing about where a port leads.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use netd_common::addr::Be16;
use netd_common::maps::{Held as Row, PublishKey, name};
use netd_common::sock::{held_index, is_v4};

use super::error::{Error, Result, chain};
use super::table::Raw;
use crate::failpoint;

/// `HELD`. The map is not pinned: it is filled before the programs of its load are hooked.
pub(super) struct Held {
    map: Array<MapData, Raw<Row>>,
    /// The same map, to pin it.
    data: MapData,
    claims: Vec<u32>,
}

impl Held {
    /// Takes the map out of a loaded object and counts the rows that are there.
    pub fn take(ebpf: &mut Ebpf, rows: &[PublishKey]) -> Result<Self> {
        let map = ebpf
            .take_map(name::HELD)
            .ok_or_else(|| Error::Load(format!("map {} is missing", name::HELD)))?;
        let wrong = |why: String| Error::Load(format!("map {}: {why}", name::HELD));
        let fd = match &map {
            Map::Array(data) => data.fd().as_fd().try_clone_to_owned(),
            _ => return Err(wrong("it is not an array".into())),
        };
        let data = fd
            .map_err(|e| wrong(e.to_string()))
            .and_then(|fd| MapData::from_fd(fd).map_err(|e| wrong(chain(&e))))?;
        let map = Array::try_from(map).map_err(|e| wrong(chain(&e)))?;
        let mut held = Self {
            map,
            data,
            claims: Vec::new(),
        };
        let mut counts: BTreeMap<u32, Row> = BTreeMap::new();
        for key in rows {
            count(counts.entry(index(key)).or_default(), key, true);
        }
        for (index, row) in counts {
            held.set(index, row)?;
        }
        Ok(held)
    }

    /// Pins the map, for another load of the programs to take it up.
    pub fn pin(&self, pin: &Path) -> Result<()> {
        let failed = |why: String| Error::Load(format!("{}: {why}", pin.display()));
        self.data.pin(pin).map_err(|e| failed(chain(&e)))
    }

    fn get(&self, index: u32) -> Result<Row> {
        let row = self.map.get(&index, 0).map_err(failed("look-up"))?;
        Ok(row.0)
    }

    fn set(&mut self, index: u32, row: Row) -> Result<()> {
        failpoint::step(name::HELD);
        self.map.set(index, Raw(row), 0).map_err(failed("insert"))
    }

    /// Counts a row that comes (`true`) or goes.
    pub fn note(&mut self, key: &PublishKey, comes: bool) -> Result<()> {
        let mut row = self.get(index(key))?;
        count(&mut row, key, comes);
        self.set(index(key), row)
    }

    /// Lets no process bind a port from now on. Claims add up.
    pub fn claim(&mut self, proto: u8, port: u16) -> Result<()> {
        let index = held_index(proto, Be16::new(port));
        let mut row = self.get(index)?;
        row.claims += 1;
        self.set(index, row)?;
        self.claims.push(index);
        Ok(())
    }

    /// Ends all claims.
    pub fn release(&mut self) -> Result<()> {
        while let Some(index) = self.claims.last().copied() {
            let mut row = self.get(index)?;
            row.claims = row.claims.saturating_sub(1);
            self.set(index, row)?;
            self.claims.pop();
        }
        Ok(())
    }
}

fn index(key: &PublishKey) -> u32 {
    held_index(key.proto, key.port)
}

fn count(row: &mut Row, key: &PublishKey, comes: bool) {
    let rows = if is_v4(key.addr) {
        &mut row.v4
    } else {
        &mut row.v6
    };
    *rows = if comes {
        rows.saturating_add(1)
    } else {
        rows.saturating_sub(1)
    };
}

fn failed(op: &'static str) -> impl FnOnce(aya::maps::MapError) -> Error {
    move |e| Error::Map {
        map: name::HELD,
        op,
        why: chain(&e),
    }
}
