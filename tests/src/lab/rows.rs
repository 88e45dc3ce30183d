//! Rows of a node's maps, read from their pins: what the daemon has told the programs. And mappings made
//! older than they are: nobody has to wait for what takes its time.

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use bytemuck::Pod;
use netd_common::addr::{Addr, V4, V6};
use netd_common::mapping;
use netd_common::maps::{self, Mapping, Port, mapping_flags, name};
use netd_common::tuple::Tuple;

use super::Node;
use crate::packet::Plain;

type Mappings<A> = HashMap<MapData, Plain<Tuple<A>>, Plain<Mapping<A>>>;

/// Makes the mappings of one family that have an outside port and no flow idle since `by` nanoseconds before;
/// how many there are.
fn age<A: Addr>(mut map: Mappings<A>, port: u16, by: u64) -> Result<usize>
where
    Tuple<A>: bytemuck::Pod,
    Mapping<A>: bytemuck::Pod,
{
    let all = map.iter().collect::<Result<Vec<_>, _>>()?;
    let mut aged = 0;
    for (key, Plain(mut row)) in all {
        let outside = row.flags & mapping_flags::OUTSIDE != 0;
        if !outside && row.other.dport.get() == port && mapping::flows(row.word) == 0 {
            row.idle = row.idle.saturating_sub(by);
            map.insert(key, Plain(row), 0)?;
            aged += 1;
        }
    }
    Ok(aged)
}

/// Whether a mapping of one family has an outside port.
fn has<A: Addr>(map: &Mappings<A>, port: u16) -> Result<bool>
where
    Tuple<A>: bytemuck::Pod,
    Mapping<A>: bytemuck::Pod,
{
    let keys = map.keys().collect::<Result<Vec<_>, _>>()?;
    Ok(keys.iter().any(|key| key.0.dport.get() == port))
}

impl Node {
    fn mappings(&self) -> Result<(Mappings<V4>, Mappings<V6>)> {
        Ok((
            Map::HashMap(self.pinned(name::MAP4)?).try_into()?,
            Map::HashMap(self.pinned(name::MAP6)?).try_into()?,
        ))
    }

    /// Makes mappings at rest with an outside port, of all protocols and both families, rest since so many
    /// nanoseconds before; how many there are.
    pub fn age_resting(&self, port: u16, by: u64) -> Result<usize> {
        let (v4, v6) = self.mappings()?;
        Ok(age(v4, port, by)? + age(v6, port, by)?)
    }

    /// Whether any mapping has an outside port, at rest or not.
    pub fn maps_port(&self, port: u16) -> Result<bool> {
        let (v4, v6) = self.mappings()?;
        Ok(has(&v4, port)? || has(&v6, port)?)
    }

    fn pinned(&self, map: &str) -> Result<MapData> {
        let mut generations = std::fs::read_dir(self.bpf_dir())?;
        let generation = generations.next().context("nothing is pinned")??.path();
        let pin = generation.join("maps").join(map);
        MapData::from_pin(&pin).with_context(|| format!("no map at {}", pin.display()))
    }

    /// The row of a device of the node.
    pub fn port_row(&self, ifindex: u32) -> Result<Port> {
        let map: HashMap<MapData, u32, Plain<Port>> =
            Map::HashMap(self.pinned(name::PORT)?).try_into()?;
        Ok(map.get(&ifindex, 0)?.0)
    }

    /// All rows of a hash map.
    pub fn rows<K: Pod, V: Pod>(&self, map: &str) -> Result<Vec<(K, V)>> {
        let map: HashMap<MapData, Plain<K>, Plain<V>> =
            Map::HashMap(self.pinned(map)?).try_into()?;
        let rows = map.iter().map(|row| row.map(|(k, v)| (k.0, v.0)));
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// The row of the node itself.
    pub fn node_row(&self) -> Result<maps::Node> {
        let map: Array<MapData, Plain<maps::Node>> =
            Map::Array(self.pinned(name::NODE)?).try_into()?;
        Ok(map.get(&0, 0)?.0)
    }
}
