//! The programs, loaded once more and run on one frame, over copies of the live maps. Live state is read
//! and never written: the copies are in no pin and on no hook, and go with [`Copies`].

use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{TestRun as _, TestRunOptions, TestRunResult};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, Zeroable as _};
use netd_common::addr::{V4, V6};
use netd_common::flow::Timeouts;
use netd_common::maps::{Publish, PublishKey, name, watch};
use netd_common::reason::Hook;
use netd_common::trace::{NOTES, Note, Trace};
use netd_common::wire::{ETH_LEN, Family, Packet};

use super::FlowRecord;
use super::error::{Error, Result, chain};
use super::flows::{self, FlowTable};
use super::held::Held;
use super::load;
use super::slate::Slate;
use super::stages::Stages;
use super::table::{Raw, Table};

/// `sizeof(struct __sk_buff)`, and where its `mark` and `ifindex` are (`<linux/bpf.h>`).
const SKB: usize = 192;
const MARK: usize = 8;
const IFINDEX: usize = 40;
/// What a program may add to a frame.
const ROOM: usize = 512;

/// The programs and their copies of the maps.
pub struct Copies {
    ebpf: Ebpf,
    _stages: ProgramArray<MapData>,
    held: Held,
    /// The published ports that `held` has counted.
    counted: Vec<PublishKey>,
    publishes: Table<PublishKey, Publish>,
    pub(super) slate: Slate,
    notes: Array<MapData, Raw<Trace>>,
    flows4: FlowTable<V4>,
    flows6: FlowTable<V6>,
    pub(super) timeouts: Timeouts,
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

impl Copies {
    /// Loads the programs over maps that are of these sizes, which are empty.
    pub(super) fn load(
        room: impl IntoIterator<Item = (&'static str, u32)>,
        timeouts: Timeouts,
    ) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        let globals = load::Globals::new(false, 0, watch::TRACE);
        globals.set(&mut loader);
        for (name, entries) in room {
            loader.map_max_entries(name, entries);
        }
        let mut ebpf = loader
            .load(&load::object()?)
            .map_err(|e| Error::Load(chain(&e)))?;
        let slate = Slate::of(&ebpf)?;
        load::programs(&mut ebpf)?;
        let stages = Stages::fill(&mut ebpf)?;
        let notes = ebpf.take_map(name::TRACE);
        let notes = notes.ok_or_else(|| Error::Load(format!("map {} is missing", name::TRACE)))?;
        Ok(Self {
            _stages: stages,
            held: Held::take(&mut ebpf, &[])?,
            counted: Vec::new(),
            publishes: Table::take(&mut ebpf, name::PUBLISH)?,
            slate,
            notes: notes
                .try_into()
                .map_err(|e: aya::maps::MapError| Error::Load(chain(&e)))?,
            flows4: Table::take(&mut ebpf, name::FLOW4)?,
            flows6: Table::take(&mut ebpf, name::FLOW6)?,
            timeouts,
            flow_entries: (0, 0),
            ebpf,
        })
    }

    /// Counts the published ports anew.
    pub(super) fn count_held(&mut self) -> Result<()> {
        for key in std::mem::take(&mut self.counted) {
            self.held.note(&key, false)?;
        }
        for (key, _) in self.publishes.all()? {
            self.held.note(&key, true)?;
            self.counted.push(key);
        }
        Ok(())
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
