//! The raw entries of what was learned and flooded: time is a value, so a test ages them.

use aya::maps::{HashMap, Map, MapData};
use bytemuck::Pod;
use netd_common::maps::{FdbKey, Learned, Meter, name};

use super::hosts::Host;
use super::table::{Plain, uptime};
use super::world::World;

impl World {
    fn raw<K: Pod, V: Pod>(&self, map: &'static str) -> HashMap<MapData, Plain<K>, Plain<V>> {
        let map = MapData::from_pin(self.pin(map)).expect("a pinned map");
        Map::HashMap(map).try_into().expect("a hash map")
    }

    fn change<K: Pod, V: Pod>(&self, map: &'static str, change: impl Fn(&mut V)) -> usize {
        let mut map = self.raw::<K, V>(map);
        let rows: Vec<_> = map.iter().map(|row| row.expect("a row")).collect();
        let n = rows.len();
        for (key, mut value) in rows {
            change(&mut value.0);
            map.insert(key, value, 0).expect("the row is written back");
        }
        n
    }

    /// Makes every learned MAC last seen this many seconds ago; a negative number: in the future.
    pub fn last_heard(&self, seconds_ago: i64) -> u64 {
        let seen = uptime().saturating_add_signed(-seconds_ago * 1_000_000_000);
        assert_ne!(
            self.change::<FdbKey, Learned>(name::LEARNED, |l| l.last_seen = seen),
            0
        );
        seen
    }

    /// When each learned MAC was last seen.
    pub fn heard(&self) -> Vec<u64> {
        let map = self.raw::<FdbKey, Learned>(name::LEARNED);
        map.iter()
            .map(|row| row.expect("a row").1.0.last_seen)
            .collect()
    }

    /// Fills the table of learned MACs with those of a network that is not there.
    pub fn fill_learned(&self) {
        let mut map = self.raw::<FdbKey, Learned>(name::LEARNED);
        for n in 0u32.. {
            let [a, b, c, d] = n.to_be_bytes();
            let key = FdbKey::new(77, [2, 7, a, b, c, d]);
            let value = Learned {
                owner: Learned::owned_by(1, &key),
                last_seen: uptime(),
            };
            if map.insert(Plain(key), Plain(value), 0).is_err() {
                return;
            }
        }
    }

    /// Writes a wrong count of removed MACs.
    pub fn miscount(&self, who: &Host, removed: u64) {
        let mut map = self.raw::<u32, u64>(name::AGED);
        let device = self.index(who.device);
        map.insert(Plain(device), Plain(removed), 0)
            .expect("the row is written");
    }

    /// When the bucket of a switch port's floods is full.
    pub fn bucket_full(&self, who: &Host) -> u64 {
        let map = self.raw::<u32, Meter>(name::METER);
        let key = Plain(self.index(who.device));
        map.get(&key, 0).expect("its row").0.flood
    }

    /// The bucket of a switch port's floods is full `seconds` from now; a negative number: it is full.
    pub fn bucket(&self, who: &Host, seconds: i64) {
        let mut map = self.raw::<u32, Meter>(name::METER);
        let key = Plain(self.index(who.device));
        let mut meter = map
            .get(&key, 0)
            .expect("the row of a switch port that has flooded");
        meter.0.flood = uptime().saturating_add_signed(seconds * 1_000_000_000);
        map.insert(key, meter, 0).expect("the row is written back");
    }
}
