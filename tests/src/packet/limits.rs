//! How many flows there may be, and ending them: the maps and the program behind that, by hand.

use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use netd::datapath::FLOW_END;
use netd_common::maps::{Limits, Usage, ending, name};

use super::hosts::{Family, Host};
use super::table::Plain;
use super::world::World;

/// Which flows end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Those that are given.
    Always,
    /// Those of them that are over.
    IfOver,
}

impl World {
    /// Changes the limits.
    pub fn limits(&self, change: impl FnOnce(&mut Limits)) {
        let pin = MapData::from_pin(self.pin(name::LIMITS)).expect("a pinned map");
        let mut map: Array<MapData, Plain<Limits>> = Map::Array(pin).try_into().expect("an array");
        let mut limits = map.get(&0, 0).expect("the limits").0;
        change(&mut limits);
        map.set(0, Plain(limits), 0).expect("the limits are set");
    }

    fn usage(&self) -> HashMap<MapData, u32, Plain<Usage>> {
        let pin = MapData::from_pin(self.pin(name::USAGE)).expect("a pinned map");
        Map::HashMap(pin).try_into().expect("a hash map")
    }

    /// Flows an endpoint is counted with.
    pub fn flows_used(&self, who: &Host) -> u64 {
        let used = self.usage().get(&who.endpoint, 0);
        used.map_or(0, |used| used.0.flows)
    }

    /// Makes that count another.
    pub fn set_flows_used(&self, who: &Host, flows: u64) {
        let used = Usage { flows, called: 0 };
        let set = self.usage().insert(who.endpoint, Plain(used), 0);
        set.expect("the count is set");
    }

    /// Lets the data path look for flows that are over at once: as if the last time were long ago.
    pub fn forget_sweep(&mut self) {
        let map = self.loaded.datapath.ebpf().map_mut("SWEPT").expect("a map");
        let mut map: Array<_, u64> = map.try_into().expect("an array");
        map.set(0, 0, 0).expect("the time is set");
    }

    /// Runs `netd_flow_end` on all flows of a family, with the time each began as `change` leaves it; how
    /// many ended.
    pub fn flow_end(&mut self, family: Family, how: Ending, change: impl Fn(&mut u64)) -> u32 {
        let mut frame = vec![0; ending::HEAD];
        frame[ending::FAMILY] = if family == Family::V4 { 4 } else { 6 };
        frame[ending::MODE] = match how {
            Ending::Always => ending::END,
            Ending::IfOver => ending::END_IF_OVER,
        };
        self.table(family).originals(|key, created| {
            let mut created = created;
            change(&mut created);
            frame.extend_from_slice(key);
            frame.extend_from_slice(&created.to_ne_bytes());
        });
        let program = self.loaded.datapath.ebpf().program_mut(FLOW_END);
        let program: &mut SchedClassifier = program
            .and_then(|p| p.try_into().ok())
            .expect("a TC program");
        let result = program.test_run(TestRunOptions {
            data_in: Some(&frame),
            ..TestRunOptions::new()
        });
        result.expect("it runs").return_value
    }
}
