//! The table of mappings by hand: a test ages its rows, empties it, or takes one half away.

use aya::maps::{Array, HashMap, Map, MapData};
use netd_common::addr::{V4, V6};
use netd_common::flow::SECOND;
use netd_common::maps::{Mapping, Node, Range, mapping_flags, name};
use netd_common::tuple::Tuple;

use super::hosts::Family;
use super::table::Plain;
use super::world::World;

type Rows<A> = HashMap<MapData, Plain<Tuple<A>>, Plain<Mapping<A>>>;

enum Table {
    V4(Rows<V4>),
    V6(Rows<V6>),
}

macro_rules! each {
    ($table:expr, $map:ident => $body:expr) => {
        match &mut $table {
            Table::V4($map) => $body,
            Table::V6($map) => $body,
        }
    };
}

impl World {
    fn mappings(&self, family: Family) -> Table {
        let open = |name| Map::HashMap(MapData::from_pin(self.pin(name)).expect("a pinned map"));
        match family {
            Family::V4 => Table::V4(open(name::MAP4).try_into().expect("a hash map")),
            Family::V6 => Table::V6(open(name::MAP6).try_into().expect("a hash map")),
        }
    }

    /// Rows of a family: a mapping has two.
    pub fn mapping_rows(&self, family: Family) -> usize {
        each!(self.mappings(family), map => map.keys().count())
    }

    /// Makes every mapping, and since when it is idle, so many seconds older.
    pub fn age_mappings(&mut self, family: Family, seconds: u64) {
        each!(self.mappings(family), map => {
            let all: Vec<_> = map.iter().map(|row| row.expect("a row")).collect();
            for (key, mut row) in all {
                row.0.created -= seconds * SECOND;
                row.0.idle -= seconds * SECOND;
                map.insert(key, row, 0).expect("the row is written back");
            }
        });
    }

    /// Ends all flows and frees all mappings, in quarantine or not.
    pub fn forget_mappings(&mut self, family: Family) {
        let ended = self.datapath().flows_remove(&|_| true);
        ended.expect("the flows end");
        each!(self.mappings(family), map => {
            let all: Vec<_> = map.keys().map(|key| key.expect("a key")).collect();
            for key in all {
                map.remove(&key).expect("the row is there");
            }
        });
    }

    /// Takes the row under the inside socket of every mapping away.
    pub fn lose_inside_row(&mut self, family: Family) {
        each!(self.mappings(family), map => {
            let all: Vec<_> = map.iter().map(|row| row.expect("a row")).collect();
            for (key, row) in all {
                if row.0.flags & mapping_flags::OUTSIDE == 0 {
                    map.remove(&key).expect("the row is there");
                }
            }
        });
    }

    /// Takes both entries of every flow away, as no program does.
    pub fn forget_flows(&mut self, family: Family) {
        let mut table = self.table(family);
        table.remove(super::Half::Original);
        table.remove(super::Half::Reply);
    }

    /// Lets SYNs to these ports that belong to nothing die without a word.
    pub fn silent(&mut self, min: u16, max: u16) {
        let pin = MapData::from_pin(self.pin(name::NODE)).expect("a pinned map");
        let mut map: Array<MapData, Plain<Node>> = Map::Array(pin).try_into().expect("an array");
        let mut node = map.get(&0, 0).expect("the node").0;
        node.silent[0] = Range { min, max };
        map.set(0, Plain(node), 0).expect("the node is set");
    }
}
