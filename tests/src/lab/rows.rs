//! Rows of a node's maps, read from their pins: what the daemon has told the programs.

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use netd_common::maps::{self, Port, name};

use super::Node;
use crate::packet::Plain;

impl Node {
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

    /// The row of the node itself.
    pub fn node_row(&self) -> Result<maps::Node> {
        let map: Array<MapData, Plain<maps::Node>> =
            Map::Array(self.pinned(name::NODE)?).try_into()?;
        Ok(map.get(&0, 0)?.0)
    }
}
