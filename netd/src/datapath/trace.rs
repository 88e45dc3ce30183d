//! The programs, loaded once more and run on one frame, over copies of the live maps. Live state is read
//! and never written: the copies are in no pin and on no hook, and go with [`Copies`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{TestRun as _, TestRunOptions, TestRunResult};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, Zeroable as _};
use netd_common::addr::{Addr, V4, V6};
use netd_common::flow::Timeouts;
use netd_common::maps::{Flow, PublishKey, name, watch};
use netd_common::reason::Hook;
use netd_common::trace::{NOTES, Note, Trace};
use netd_common::tuple::Tuple;
use netd_common::wire::{ETH_LEN, Family, Packet};

use super::copy::{Source, is_flows, target};
use super::error::{Error, Result, chain};
use super::flows::{self, FlowTable, address};
use super::held::Held;
use super::load::{self, LAYOUTS, OBJECT, Pins};
use super::stages::Stages;
use super::table::{Raw, Table};
use super::{FlowRecord, sys};

/// Flow entries that are all copied; of more, only those with an address of the packet.
const ALL_FLOWS: usize = 16_384;
/// Room for new flows, where the live table has as much.
const NEW_FLOWS: u32 = 1_024;

/// `sizeof(struct __sk_buff)`, and where its `mark` and `ifindex` are (`<linux/bpf.h>`).
const SKB: usize = 192;
const MARK: usize = 8;
const IFINDEX: usize = 40;
/// What a program may add to a frame.
const ROOM: usize = 512;

/// Makes copies. It reads the pins alone, so another thread than the data path's may have it.
#[derive(Clone, Debug)]
pub struct Tracer {
    pub(super) pins: Pins,
    pub(super) timeouts: Timeouts,
}

/// The programs and their copies of the maps.
pub struct Copies {
    ebpf: Ebpf,
    _stages: ProgramArray<MapData>,
    _held: Held,
    notes: Array<MapData, Raw<Trace>>,
    flows4: FlowTable<V4>,
    flows6: FlowTable<V6>,
    timeouts: Timeouts,
    /// What of the flow tables was copied: entries, of how many.
    pub flow_entries: (u32, u32),
}

/// A frame at a hook.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The hook.
    pub hook: Hook,
    /// Its device.
    pub ifindex: u32,
    /// The packet's mark.
    pub mark: u32,
    /// The frame.
    pub frame: &'a [u8],
}

/// What a program did with a frame.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The frame as it left the program.
    pub frame: Vec<u8>,
    /// Its mark.
    pub mark: u32,
    /// What was decided, in order; the last is the verdict.
    pub notes: Vec<Note>,
    /// Notes that did not fit.
    pub lost: u32,
    /// The flow the packet belongs to afterwards.
    pub flow: Option<FlowRecord>,
}

/// Rows of a flow table that are to be copied.
struct Picked {
    rows: RawRows,
    live: u32,
    room: u32,
}

fn flow_rows<A: Addr>(source: &Source, about: &[IpAddr]) -> Result<Picked> {
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
    Ok(Picked {
        rows: if live as usize > all.len() { some } else { all },
        live,
        room: source.room,
    })
}

/// Keys and values as bytes.
pub type RawRows = Vec<(Vec<u8>, Vec<u8>)>;

impl Tracer {
    pub(super) fn sources(&self) -> Result<Vec<Source>> {
        let open =
            |(name, ..): &(&'static str, u32, u32)| Source::open(name, &self.pins.maps.join(name));
        LAYOUTS.iter().map(open).collect()
    }

    /// All rows of the live maps, by map: the counters and what belongs to sockets left out.
    pub fn live(&self) -> Result<BTreeMap<&'static str, RawRows>> {
        let mut all = BTreeMap::new();
        for ((name, ..), source) in LAYOUTS.iter().zip(self.sources()?) {
            let mut rows = Vec::new();
            source.rows(|key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                Ok(())
            })?;
            rows.sort_unstable();
            all.insert(*name, rows);
        }
        Ok(all)
    }

    /// Loads the programs and copies the maps. `about`: the addresses of the packet.
    pub fn copy(&self, about: &[IpAddr]) -> Result<Copies> {
        let sources = self.sources()?;
        let mut loader = EbpfLoader::new();
        let globals = load::Globals::new(false, 0, watch::TRACE);
        globals.set(&mut loader);
        let (mut flow_entries, mut tables) = ((0, 0), Vec::new());
        for ((name, ..), source) in LAYOUTS.iter().zip(&sources) {
            if !is_flows(name) {
                loader.map_max_entries(name, source.room);
                continue;
            }
            let found = if *name == name::FLOW4 {
                flow_rows::<V4>(source, about)?
            } else {
                flow_rows::<V6>(source, about)?
            };
            // As full as the live one, if that is full.
            let free = found.room.saturating_sub(found.live).min(NEW_FLOWS);
            let copied = found.rows.len() as u32;
            loader.map_max_entries(name, (copied + free).max(1));
            flow_entries.0 += copied;
            flow_entries.1 += found.live;
            tables.push((*name, found.rows));
        }
        let ebpf = loader.load(OBJECT).map_err(|e| Error::Load(chain(&e)))?;
        for ((name, ..), source) in LAYOUTS.iter().zip(&sources) {
            let to = target(&ebpf, name)?;
            match tables.iter().find(|(table, _)| table == name) {
                Some((_, rows)) => rows
                    .iter()
                    .try_for_each(|(key, flow)| source.put(to, key, flow))?,
                None => source.copy_to(to)?,
            }
        }
        Copies::assemble(ebpf, self.timeouts, flow_entries)
    }
}

impl Copies {
    /// Loads the programs of an object whose maps have their rows.
    pub(super) fn assemble(
        mut ebpf: Ebpf,
        timeouts: Timeouts,
        flow_entries: (u32, u32),
    ) -> Result<Self> {
        load::programs(&mut ebpf)?;
        let stages = Stages::fill(&mut ebpf)?;
        let publishes: Table<PublishKey, netd_common::maps::Publish> =
            Table::take(&mut ebpf, name::PUBLISH)?;
        let keys: Vec<PublishKey> = publishes.all()?.iter().map(|(key, _)| *key).collect();
        let held = Held::take(&mut ebpf, &keys)?;
        let notes = ebpf.take_map(name::TRACE);
        let notes = notes.ok_or_else(|| Error::Load(format!("map {} is missing", name::TRACE)))?;
        Ok(Self {
            _stages: stages,
            _held: held,
            notes: notes
                .try_into()
                .map_err(|e: aya::maps::MapError| Error::Load(chain(&e)))?,
            flows4: Table::take(&mut ebpf, name::FLOW4)?,
            flows6: Table::take(&mut ebpf, name::FLOW6)?,
            timeouts,
            flow_entries,
            ebpf,
        })
    }

    /// Runs the program of a hook on a frame. The calling thread must be in the node's network namespace.
    pub fn run(&mut self, at: At<'_>) -> Result<Seen> {
        let wrong = |why: String| Error::Inject {
            ifindex: at.ifindex,
            why,
        };
        self.notes
            .set(0, Raw(Trace::zeroed()), 0)
            .map_err(|e| wrong(chain(&e)))?;
        let mut out = vec![0; at.frame.len() + ROOM];
        let mut context = [0u8; SKB];
        context[MARK..MARK + 4].copy_from_slice(&at.mark.to_ne_bytes());
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&at.ifindex.to_ne_bytes());
        let mut context_out = [0u8; SKB];
        let mut options = TestRunOptions {
            data_in: Some(at.frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let ran: std::result::Result<TestRunResult, _> = if at.hook == Hook::Xdp {
            load::xdp(&mut self.ebpf)?.test_run(options)
        } else {
            options.ctx_in = Some(&context);
            options.ctx_out = Some(&mut context_out);
            let program = format!("netd_{}", at.hook.name());
            load::classifier(&mut self.ebpf, &program)?.test_run(options)
        };
        let size = ran.map_err(|e| wrong(chain(&e)))?.data_size_out as usize;
        out.truncate(size);
        let trace = self.notes.get(&0, 0).map_err(|e| wrong(chain(&e)))?.0;
        let kept = trace.count.min(NOTES as u32);
        let mut mark = [0; 4];
        mark.copy_from_slice(&context_out[MARK..MARK + 4]);
        Ok(Seen {
            frame: out,
            mark: u32::from_ne_bytes(mark),
            notes: trace.notes[..kept as usize].to_vec(),
            lost: trace.count - kept,
            flow: self.flow(at.frame)?,
        })
    }

    /// The flow a frame belongs to.
    fn flow(&self, frame: &[u8]) -> Result<Option<FlowRecord>> {
        fn find<A: Family + Pod>(
            table: &FlowTable<A>,
            frame: &[u8],
            timeouts: &Timeouts,
        ) -> Result<Option<FlowRecord>> {
            let packet = A::parse(frame, ETH_LEN).and_then(|ip| Packet::parse(frame, ip));
            match packet {
                Ok(packet) => flows::find(table, packet.tuple, timeouts),
                Err(_) => Ok(None),
            }
        }
        match frame.get(12..14) {
            Some([0x08, 0x00]) => find(&self.flows4, frame, &self.timeouts),
            Some([0x86, 0xdd]) => find(&self.flows6, frame, &self.timeouts),
            _ => Ok(None),
        }
    }
}
