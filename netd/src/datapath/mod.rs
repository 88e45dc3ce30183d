//! The data path as user space sees it: load, pin, hook, and write the maps. Never imports `net`.
//!
//! | file | owns |
//! |---|---|
//! | `load` | the embedded object, the pinned maps' layouts |
//! | `hooks` | TCX, clsact and XDP |
//! | `endpoint_hooks` | how endpoint devices are hooked, quickly first |
//! | `inject` | a frame that no device has sent |
//! | `cgroup` | the socket hooks |
//! | `check` | whether hooks and pins are still there |
//! | `stages` | the programs in which others go on |
//! | `table` | a hash map with our types |
//! | `held` | which ports are held |
//! | `from` | who may come to a publish |
//! | `learned` | learned MACs: list, forget, collect, count |
//! | `flows`, `collector` | the flow table: list, end, collect |
//! | `watch` | programs that tell, hooked while somebody watches |
//! | `trace` | a frame run through the programs, over copies of the maps |
//! | `tables`, `copy` | the maps as rows, and copies made of rows alone |
//! | `slate` | the maps of such copies: wiped and filled again |
//! | `mappings` | the table of mappings: list, collect |
//! | `log` | log lines of the programs |
//! | [`probe`] | what the kernel can, by trying |
//! | `sys` | bpf(2) where aya has no call |

mod cgroup;
mod check;
mod collector;
mod copy;
mod endpoint_hooks;
mod error;
mod flows;
mod from;
mod held;
mod hooks;
mod inject;
mod learned;
mod load;
mod log;
mod mappings;
pub mod probe;
mod rows;
mod slate;
mod stages;
mod sys;
mod table;
mod tables;
mod trace;
mod types;
mod watch;

pub use cgroup::SOCKETS;
pub use check::{Hooked, Role};
pub use collector::{Collected, Collector};
pub use error::{Error, Result};
pub use load::{CLASSIFIERS, FLOW_END, GENERATION, INSTEAD, LAYOUTS, OBJECT, XDP};
pub use tables::{MapRows, RawRows, Tables, Tracer};
pub use trace::{At, Copies, Seen};
pub use types::{AttachMode, Filter, FlowRecord, LearnedRecord, MappingRecord, Options, XdpMode};
pub use watch::{Events, Load, Loaded};

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use aya::Ebpf;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, MapData, PerCpuArray};
use netd_common::addr::{V4, V6};
use netd_common::maps::{
    FdbEntry, FdbKey, Float, HostEntry, Learned, Limits, Meter, Node, Port, Publish, PublishKey,
    SegmentKey, Source, Stat, Target, Uplink, Usage, name,
};
use netd_common::reason::{DropReason, Hook};

use self::check::Anchors;
use self::endpoint_hooks::EndpointHooks;
/// Priority of netd's clsact filters: tells them from those of others.
pub const FILTER_PRIORITY: u16 = hooks::PRIORITY;

use self::flows::{Ender, FlowTable};
use self::held::Held;
use self::load::Pins;
use self::mappings::{MappingTable, Suspects};
use self::stages::Stages;
use self::table::{Raw, Table};
use self::watch::Watching;

/// One counter: hook, reason (`None`: passed), packets, bytes.
pub type Counted = (Hook, Option<DropReason>, u64, u64);

/// The loaded programs, their maps and their hooks. All of it is pinned: dropping this value leaves
/// the data path running.
pub struct Datapath {
    ebpf: Ebpf,
    pins: Pins,
    options: Options,
    watching: Option<Watching>,
    mode: AttachMode,
    endpoints: EndpointHooks,
    stages: Stages,
    anchors: Anchors,
    /// Uplinks that got their clsact qdisc from netd.
    clsact: BTreeSet<String>,
    log: Option<log::Log>,
    limits: Limits,
    ender: Ender,
    usage: Table<u32, Usage>,
    ports: Table<u32, Port>,
    fdb: Table<FdbKey, FdbEntry>,
    learned: Table<FdbKey, Learned>,
    meters: Table<u32, Meter>,
    aged: Table<u32, u64>,
    hosts4: Table<V4, HostEntry>,
    hosts6: Table<V6, HostEntry>,
    segments: Table<SegmentKey, Target>,
    flows4: FlowTable<V4>,
    flows6: FlowTable<V6>,
    mappings4: MappingTable<V4>,
    mappings6: MappingTable<V6>,
    publishes: Table<PublishKey, Publish>,
    floats: Table<V6, Float>,
    from: LpmTrie<MapData, Raw<Source>, u32>,
    held: Held,
    uplinks: Table<u32, Uplink>,
    locals: Table<V6, u32>,
    deny: LpmTrie<MapData, Raw<V6>, u32>,
    node: Array<MapData, Raw<Node>>,
    stats: PerCpuArray<MapData, Raw<Stat>>,
}

/// The set of programs that is hooked.
fn hooked<'a>(ebpf: &'a mut Ebpf, watching: &'a mut Option<Watching>) -> &'a mut Ebpf {
    match watching {
        Some(watching) => &mut watching.ebpf,
        None => ebpf,
    }
}

impl Datapath {
    /// Loads the embedded programs and reuses the pinned maps that fit. Hooks get the new programs,
    /// without a gap, when they are asked for again. Needs `CAP_BPF` and `CAP_NET_ADMIN`.
    pub fn open(options: &Options) -> Result<Self> {
        let mode = match options.attach_mode {
            Some(mode) => mode,
            None if load::kernel_at_least(6, 6) => AttachMode::Tcx,
            None => AttachMode::Clsact,
        };
        let endpoints = EndpointHooks::new(options.attach_mode, mode == AttachMode::Tcx);
        let (mut ebpf, pins) = load::load(options)?;
        // Those of before stay if these are refused. A kernel that never had any may do without.
        if cgroup::hooked(&pins) {
            cgroup::load(&mut ebpf)?;
        }
        sys::trim();
        let stages = Stages::pin(&mut ebpf, &pins.stages)?;
        let anchors = Anchors::cast(&pins)?;
        let e = &mut ebpf;
        let missing = |name: &str| Error::Load(format!("map {name} is missing"));
        let wrong = |e: aya::maps::MapError| Error::Load(error::chain(&e));
        let publishes = Table::take(e, name::PUBLISH)?;
        let rows: Vec<PublishKey> = publishes.all()?.iter().map(|(key, _)| *key).collect();
        let flows4: FlowTable<V4> = Table::take(e, name::FLOW4)?;
        let limits = Limits {
            timeouts: options.timeouts,
            per_endpoint: u64::from(
                options
                    .flows_per_endpoint
                    .unwrap_or_else(|| Options::share_of(flows4.room())),
            ),
        };
        let mut row: Array<MapData, Raw<Limits>> = e
            .take_map(name::LIMITS)
            .ok_or_else(|| missing(name::LIMITS))?
            .try_into()
            .map_err(wrong)?;
        row.set(0, Raw(limits), 0).map_err(wrong)?;
        let ender = Ender::new(load::classifier(e, FLOW_END)?)?;
        let mut datapath = Self {
            log: if options.verbose {
                Some(log::Log::new(e)?)
            } else {
                None
            },
            limits,
            ender,
            usage: Table::take(e, name::USAGE)?,
            ports: Table::take(e, name::PORT)?,
            fdb: Table::take(e, name::FDB)?,
            learned: Table::take(e, name::LEARNED)?,
            meters: Table::take(e, name::METER)?,
            aged: Table::take(e, name::AGED)?,
            hosts4: Table::take(e, name::HOST4)?,
            hosts6: Table::take(e, name::HOST6)?,
            segments: Table::take(e, name::SEGMENT)?,
            floats: Table::take(e, name::FLOAT)?,
            flows4,
            flows6: Table::take(e, name::FLOW6)?,
            mappings4: Table::take(e, name::MAP4)?,
            mappings6: Table::take(e, name::MAP6)?,
            from: e
                .take_map(name::FROM)
                .ok_or_else(|| missing(name::FROM))?
                .try_into()
                .map_err(wrong)?,
            publishes,
            held: Held::take(e, &rows)?,
            uplinks: Table::take(e, name::UPLINK)?,
            locals: Table::take(e, name::LOCAL)?,
            deny: e
                .take_map(name::DENY)
                .ok_or_else(|| missing(name::DENY))?
                .try_into()
                .map_err(wrong)?,
            node: e
                .take_map(name::NODE)
                .ok_or_else(|| missing(name::NODE))?
                .try_into()
                .map_err(wrong)?,
            stats: e
                .take_map(name::STATS)
                .ok_or_else(|| missing(name::STATS))?
                .try_into()
                .map_err(wrong)?,
            ebpf,
            pins,
            options: options.clone(),
            watching: None,
            mode,
            endpoints,
            stages,
            anchors,
            clsact: Self::clsact_made(&options.bpf_dir).into_iter().collect(),
        };
        // A daemon that was killed may have left the map without the word, or the word without the map.
        datapath.floats_noted()?;
        Ok(datapath)
    }

    /// What traces a packet through these programs and maps.
    pub fn tracer(&self) -> Tracer {
        Tracer {
            pins: self.pins.clone(),
            timeouts: self.limits.timeouts,
        }
    }

    /// How TC programs are hooked.
    pub fn attach_mode(&self) -> AttachMode {
        self.mode
    }

    /// All hooks have the programs of this load: what earlier loads have left for theirs is removed.
    /// `starting`: nobody watches yet.
    pub fn hooks_replaced(&self, starting: bool) -> Result<()> {
        self.stages.only(starting)
    }

    /// The loaded object whose programs are hooked, for tests that run them on packets of their own.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        hooked(&mut self.ebpf, &mut self.watching)
    }

    /// Hooks `netd_ep_out` and `netd_ep_in` on an endpoint's node-side device. Idempotent. The device
    /// must be visible in the calling thread's network namespace (likewise below).
    pub fn hook_endpoint(&mut self, device: &str) -> Result<()> {
        let ebpf = hooked(&mut self.ebpf, &mut self.watching);
        self.endpoints.hook(ebpf, &self.pins, device)
    }

    /// Whether [`Self::move_hook`] has something to do.
    pub fn hooks_wait(&self) -> bool {
        self.endpoints.is_waiting()
    }

    /// Moves one endpoint device on to its faster hook, without a gap. Takes 20 ms: for idle moments.
    pub fn move_hook(&mut self) -> Result<()> {
        let ebpf = hooked(&mut self.ebpf, &mut self.watching);
        self.endpoints.move_one(ebpf, &self.pins)
    }

    /// Lets a frame take the way of one that the endpoint behind a node-side device has sent, as far as
    /// it is flooded: a frame to one receiver goes nowhere. The calling thread must be in the node's
    /// network namespace.
    pub fn flood_from(&mut self, ifindex: u32, frame: &[u8]) -> Result<()> {
        inject::flood(&mut self.ebpf, ifindex, frame)
    }

    /// Hooks `netd_gw_out` on a gateway pair's inner end. Idempotent.
    pub fn hook_gateway(&mut self, inner: &str) -> Result<()> {
        hooks::tc(
            hooked(&mut self.ebpf, &mut self.watching),
            &self.pins,
            self.mode,
            inner,
            &[hooks::GW_OUT],
        )
        .map(drop)
    }

    /// Hooks `netd_up_in`, `netd_up_out` and `netd_xdp` on an uplink. Idempotent. Says how XDP went;
    /// `xdp`: `None` is native, else generic.
    pub fn hook_uplink(&mut self, device: &str, xdp: Option<XdpMode>) -> Result<XdpMode> {
        let ebpf = hooked(&mut self.ebpf, &mut self.watching);
        let made = hooks::tc(
            ebpf,
            &self.pins,
            self.mode,
            device,
            &[hooks::UP_IN, hooks::UP_OUT],
        )?;
        if made {
            let mark = self.pins.mark(device);
            fs::create_dir_all(&mark).map_err(Error::pin(&mark))?;
            self.clsact.insert(device.into());
        }
        hooks::xdp(ebpf, &self.pins, device, xdp)
    }

    /// Loads the programs of the socket hooks, which [`Datapath::open`] leaves alone: a kernel may be
    /// without them, and the rest works.
    pub fn load_sockets(&mut self) -> Result<()> {
        cgroup::load(&mut self.ebpf)
    }

    /// Hooks the `netd_sock_*` programs on a cgroup (the directory of one, on cgroup2); all or none.
    /// Idempotent. Which addresses the node has is to be said first.
    pub fn hook_sockets(&mut self, cgroup: &Path) -> Result<()> {
        cgroup::hook(&mut self.ebpf, &self.pins, cgroup)
    }

    /// Whether all socket hooks are pinned.
    pub fn sockets_pinned(&self) -> bool {
        cgroup::pinned(&self.pins)
    }

    /// Removes the socket hooks.
    pub fn unhook_sockets(&mut self) -> Result<()> {
        cgroup::unhook(&self.pins)
    }

    /// Removes every hook and pin of a device, there or gone. Idempotent.
    pub fn unhook(&mut self, device: &str) -> Result<()> {
        self.endpoints.forget(device);
        hooks::unhook(&self.pins, device)
    }

    /// Devices that have hooks.
    pub fn hooked(&self) -> Result<Vec<String>> {
        let dir = &self.pins.links;
        let entries = fs::read_dir(dir).map_err(Error::pin(dir))?;
        Ok(entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .map(|n| n.replace('%', "."))
            .collect())
    }

    /// Counters that are not zero.
    pub fn stats(&self) -> Result<Vec<Counted>> {
        let reasons = || std::iter::once(None).chain(DropReason::ALL.iter().copied().map(Some));
        let mut lines = Vec::new();
        for hook in Hook::ALL {
            for reason in reasons() {
                let cpus = self
                    .stats
                    .get(&hook.stat(reason), 0)
                    .map_err(|e| Error::Map {
                        map: name::STATS,
                        op: "look-up",
                        why: error::chain(&e),
                    })?;
                let packets: u64 = cpus.iter().map(|c| c.0.packets).sum();
                let bytes: u64 = cpus.iter().map(|c| c.0.bytes).sum();
                if packets > 0 {
                    lines.push((*hook, reason, packets, bytes));
                }
            }
        }
        Ok(lines)
    }

    /// All flows of both families.
    pub fn flows(&self) -> Result<Vec<FlowRecord>> {
        let timeouts = &self.limits.timeouts;
        let mut all = flows::list(&self.flows4, timeouts)?;
        all.extend(flows::list(&self.flows6, timeouts)?);
        Ok(all)
    }

    /// All mappings of both families.
    pub fn mappings(&self) -> Result<Vec<MappingRecord>> {
        let timeouts = &self.limits.timeouts;
        let mut all = mappings::list(&self.mappings4, &self.flows4, timeouts)?;
        all.extend(mappings::list(&self.mappings6, &self.flows6, timeouts)?);
        Ok(all)
    }

    /// Frees the mappings whose outside socket has one of these addresses, whatever they hold; how many.
    pub fn mappings_free(&mut self, outside: &BTreeSet<IpAddr>) -> Result<u32> {
        Ok(mappings::free(&self.mappings4, &self.ender, outside)?
            + mappings::free(&self.mappings6, &self.ender, outside)?)
    }

    /// How many flows of both families there are.
    pub fn flows_count(&self) -> Result<u32> {
        Ok(flows::count(&self.flows4)? + flows::count(&self.flows6)?)
    }

    /// Ends the flows for which `which` is true; says how many. It sees nothing of the replies: neither
    /// their counters nor a state.
    pub fn flows_remove(&mut self, which: &dyn Fn(&FlowRecord) -> bool) -> Result<u32> {
        Ok(flows::remove(&self.flows4, &self.ender, which)?
            + flows::remove(&self.flows6, &self.ender, which)?)
    }

    /// What ends expired flows, for a thread of its own.
    pub fn collector(&self) -> Result<Collector> {
        Ok(Collector {
            flows4: self.flows4.share()?,
            flows6: self.flows6.share()?,
            mappings4: self.mappings4.share()?,
            mappings6: self.mappings6.share()?,
            suspects: (Suspects::new(), Suspects::new()),
            usage: self.usage.share()?,
            ender: self.ender.share(),
            timeouts: self.limits.timeouts,
            walks: 0,
            last: std::collections::HashMap::new(),
        })
    }

    /// Ends expired flows and what is left of others, at once; says how many flows.
    pub fn flows_collect(&mut self) -> Result<u32> {
        Ok(self.collector()?.collect(true)?.ended)
    }

    /// Flows an endpoint is counted with, and how many it may have.
    pub fn flow_use(&self, endpoint: u32) -> Result<(u64, u64)> {
        let used = self.usage.get(endpoint)?.unwrap_or_default();
        Ok((used.flows, self.limits.per_endpoint))
    }

    /// Forgets the counter of an endpoint that is gone with its flows.
    pub fn flow_use_remove(&mut self, endpoint: u32) -> Result<()> {
        self.usage.remove(endpoint).map(drop)
    }

    /// Endpoints that have a counter.
    pub fn flow_users(&self) -> Result<Vec<u32>> {
        Ok(self.usage.all()?.into_iter().map(|(n, _)| n).collect())
    }

    /// Readable when the programs have written log lines (only with `verbose`).
    pub fn log_fd(&self) -> Option<std::os::fd::RawFd> {
        self.log.as_ref().map(log::Log::fd)
    }

    /// Hands the programs' log lines, decoded, to `tracing`.
    pub fn log_flush(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Uplinks that got their clsact qdisc from netd. It is left behind by `unhook` and `wipe`, as
    /// others may have put filters there since: whoever unhooks removes it when it is empty.
    pub fn clsact_made(bpf_dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(Pins::below(bpf_dir).clsact);
        entries
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .map(|n| n.replace('%', "."))
            .collect()
    }

    /// Removes every hook, pin and map under a pin directory, programs loaded or not. For `netd cleanup`.
    pub fn wipe(bpf_dir: &Path) -> Result<()> {
        if !bpf_dir.is_dir() {
            return Ok(());
        }
        let entries = fs::read_dir(bpf_dir).map_err(Error::pin(bpf_dir))?;
        let generations = entries.filter_map(|e| Some(e.ok()?.path()));
        for root in generations.filter(|path| path.is_dir()) {
            let pins = Pins::at(&root);
            let devices = fs::read_dir(&pins.links).into_iter().flatten();
            for device in devices.filter_map(|e| e.ok()?.file_name().into_string().ok()) {
                hooks::unhook(&pins, &device.replace('%', "."))?;
            }
            fs::remove_dir_all(&root).map_err(Error::pin(&root))?;
        }
        Ok(())
    }

    /// Whether programs are hooked, whoever has loaded them.
    pub fn is_hooked(bpf_dir: &Path) -> bool {
        let devices = fs::read_dir(Pins::below(bpf_dir).links);
        devices.is_ok_and(|mut devices| devices.next().is_some())
    }
}
