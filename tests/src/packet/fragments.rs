//! The maps of fragments, raw: a test ages what waits there, or counts it.

use aya::maps::{Array, HashMap, Map, MapData};
use netd_common::addr::{Addr, V4, V6};
use netd_common::maps::fragment::{Frag, FragKey, PATIENCE, ROOM, Waiting, state};

use super::table::{Plain, uptime};
use super::world::World;

/// Bytes of the values, as aya handles them.
const RECORD: usize = size_of::<Frag>();
const SLOT: usize = size_of::<Waiting>();

impl World {
    fn fragment_map(&mut self, name: &str) -> &mut Map {
        self.datapath()
            .ebpf()
            .map_mut(name)
            .expect("the map is there")
    }

    /// Lets all datagrams and all fragments that wait be older than they may be.
    pub fn age_fragments(&mut self) {
        self.date_fragments(uptime().saturating_sub(2 * PATIENCE));
    }

    /// Lets none of them become too old, however slow the machine is.
    pub fn keep_fragments(&mut self) {
        self.date_fragments(uptime() + 1_000 * PATIENCE);
    }

    fn date_fragments(&mut self, at: u64) {
        self.date_records::<V4>("FRAG4", at);
        self.date_records::<V6>("FRAG6", at);
        let map = self.fragment_map("FRAG_WAIT");
        let mut slots: Array<&mut MapData, [u8; SLOT]> = map.try_into().expect("an array");
        for n in 0..slots.len() {
            let mut slot = slots.get(&n, 0).expect("a slot");
            let since = std::mem::offset_of!(Waiting, since);
            slot[since..since + 8].copy_from_slice(&at.to_ne_bytes());
            slots.set(n, slot, 0).expect("a slot");
        }
    }

    fn date_records<A: Addr>(&mut self, name: &str, last: u64) {
        let map = self.fragment_map(name);
        let mut records: HashMap<&mut MapData, Plain<FragKey<A>>, [u8; RECORD]> =
            map.try_into().expect("a hash map");
        let keys: Vec<_> = records.keys().map(|key| key.expect("a key")).collect();
        for key in keys {
            let mut record = records.get(&key, 0).expect("a record");
            let at = std::mem::offset_of!(Frag, last);
            record[at..at + 8].copy_from_slice(&last.to_ne_bytes());
            records.insert(key, record, 0).expect("a record");
        }
    }

    /// Datagrams that are not finished, of both families.
    pub fn datagrams(&mut self) -> usize {
        self.count_records::<V4>("FRAG4") + self.count_records::<V6>("FRAG6")
    }

    fn count_records<A: Addr>(&mut self, name: &str) -> usize {
        let map = self.fragment_map(name);
        let records: HashMap<&mut MapData, Plain<FragKey<A>>, [u8; RECORD]> =
            map.try_into().expect("a hash map");
        records.keys().count()
    }

    /// Fragments that wait.
    pub fn waiting(&mut self) -> usize {
        let map = self.fragment_map("FRAG_WAIT");
        let slots: Array<&mut MapData, [u8; SLOT]> = map.try_into().expect("an array");
        let full = |slot: [u8; SLOT]| {
            let mut word = [0; 8];
            word.copy_from_slice(&slot[..8]);
            u64::from_ne_bytes(word) & state::MASK == state::FULL
        };
        slots
            .iter()
            .filter(|s| full(*s.as_ref().expect("a slot")))
            .count()
    }
}

const _: () = assert!(SLOT == ROOM + 32 && std::mem::offset_of!(Waiting, state) == 0);
