//! The maps. Names, keys and values are `netd_common::maps`; sizes may be changed at load time.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use netd_common::addr::{V4, V6};
use netd_common::maps::fragment::{
    COUNTERS, Frag, FragKey, LINE, LINES, OWNERS, RECORDS, ROOM, Ring, Waiting,
};
use netd_common::maps::{
    Called, CalledKey, FdbEntry, FdbKey, Float, Flow, Held, HostEntry, Learned, Limits, Mapping,
    Meter, Node, Port, Publish, PublishKey, SegmentKey, SentKey, Source, Stat, Target, Uplink,
    Usage, size,
};
use netd_common::reason::STATS_LEN;
use netd_common::stage::SLOTS;
use netd_common::trace::Trace;
use netd_common::tuple::Tuple;

use crate::split::Saved;
use crate::sum::CHUNK_LEN;
use crate::watch::Seen;
use crate::work::Work;

/// Insert only if the key is not there.
pub const BPF_NOEXIST: u64 = 1;
/// `-EEXIST` as the map helpers return it.
pub const EEXIST: i32 = -17;

/// Do not allocate all entries at load time: right for maps that are seldom written.
const NO_PREALLOC: u32 = 1;

#[map]
pub static PORT: HashMap<u32, Port> = HashMap::with_max_entries(size::PORT, NO_PREALLOC);
#[map]
pub static FDB: HashMap<FdbKey, FdbEntry> = HashMap::with_max_entries(size::FDB, NO_PREALLOC);
#[map]
pub static LEARNED: HashMap<FdbKey, Learned> =
    HashMap::with_max_entries(size::LEARNED, NO_PREALLOC);
#[map]
pub static METER: HashMap<u32, Meter> = HashMap::with_max_entries(size::PORT, NO_PREALLOC);
#[map]
pub static AGED: HashMap<u32, u64> = HashMap::with_max_entries(size::PORT, NO_PREALLOC);
#[map]
pub static HOST4: HashMap<V4, HostEntry> = HashMap::with_max_entries(size::HOST, NO_PREALLOC);
#[map]
pub static HOST6: HashMap<V6, HostEntry> = HashMap::with_max_entries(size::HOST, NO_PREALLOC);
#[map]
pub static SEGMENT: HashMap<SegmentKey, Target> =
    HashMap::with_max_entries(size::SEGMENT, NO_PREALLOC);
#[map]
pub static FLOW4: HashMap<Tuple<V4>, Flow<V4>> = HashMap::with_max_entries(size::FLOW, 0);
#[map]
pub static FLOW6: HashMap<Tuple<V6>, Flow<V6>> = HashMap::with_max_entries(size::FLOW, 0);
#[map]
pub static MAP4: HashMap<Tuple<V4>, Mapping<V4>> = HashMap::with_max_entries(size::MAPPING, 0);
#[map]
pub static MAP6: HashMap<Tuple<V6>, Mapping<V6>> = HashMap::with_max_entries(size::MAPPING, 0);
#[map]
pub static SENT: LruHashMap<SentKey, u32> = LruHashMap::with_max_entries(size::SENT, 0);
#[map]
pub static USAGE: HashMap<u32, Usage> = HashMap::with_max_entries(size::USAGE, NO_PREALLOC);
#[map]
pub static LIMITS: Array<Limits> = Array::with_max_entries(1, 0);
#[map]
pub static PUBLISH: HashMap<PublishKey, Publish> =
    HashMap::with_max_entries(size::PUBLISH, NO_PREALLOC);
#[map]
pub static FLOAT: HashMap<V6, Float> = HashMap::with_max_entries(size::FLOAT, NO_PREALLOC);
#[map]
pub static FROM: LpmTrie<Source, u32> = LpmTrie::with_max_entries(size::FROM, NO_PREALLOC);
#[map]
pub static UPLINK: HashMap<u32, Uplink> = HashMap::with_max_entries(size::UPLINK, NO_PREALLOC);
#[map]
pub static LOCAL: HashMap<V6, u32> = HashMap::with_max_entries(size::LOCAL, NO_PREALLOC);
#[map]
pub static DENY: LpmTrie<V6, u32> = LpmTrie::with_max_entries(size::DENY, NO_PREALLOC);
#[map]
pub static NODE: Array<Node> = Array::with_max_entries(1, 0);
#[map]
pub static STATS: PerCpuArray<Stat> = PerCpuArray::with_max_entries(STATS_LEN, 0);

#[map]
pub static CALLED: LruHashMap<CalledKey, Called> = LruHashMap::with_max_entries(size::CALLED, 0);
#[map]
pub static HELD: Array<Held> = Array::with_max_entries(size::HELD, 0);

/// Programs in which others go on: [`netd_common::stage::Stage`].
#[map]
pub static STAGES: ProgramArray = ProgramArray::with_max_entries(SLOTS, 0);

/// What a watcher is told, and for how much of it there was no room; which devices are captured, with how
/// many bytes of each packet: [`netd_common::maps::Event`]. The loader sets their sizes.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(size::EVENTS, 0);
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WATCHED: HashMap<u32, u32> = HashMap::with_max_entries(size::PORT, NO_PREALLOC);
/// The packet at hand as it came, for a watcher.
#[map]
pub static SEEN: PerCpuArray<Seen> = PerCpuArray::with_max_entries(1, 0);

/// What was decided about a packet that is traced.
#[map]
pub static TRACE: Array<Trace> = Array::with_max_entries(1, 0);

/// By ifindex: when a device may answer at full rate again, [`netd_common::storm::take`].
#[map]
pub static ANSWERED: LruHashMap<u32, u64> = LruHashMap::with_max_entries(size::PORT, 0);

/// The payload and the options of a packet that is being cut: [`crate::split`].
#[map]
pub static SPLIT: PerCpuArray<Saved> = PerCpuArray::with_max_entries(1, 0);

/// Bytes of a packet that are being summed: [`crate::sum`].
#[map]
pub static CHUNK: PerCpuArray<[u32; CHUNK_LEN / 4]> = PerCpuArray::with_max_entries(1, 0);

/// The packet at hand.
#[map]
pub static WORK4: PerCpuArray<Work<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WORK6: PerCpuArray<Work<V6>> = PerCpuArray::with_max_entries(1, 0);

/// When the data path itself last looked for flows that are over, `bpf_ktime_get_ns`.
#[map]
pub static SWEPT: Array<u64> = Array::with_max_entries(1, 0);

/// Datagrams of which fragments have come.
#[map]
pub static FRAG4: LruHashMap<FragKey<V4>, Frag> = LruHashMap::with_max_entries(RECORDS, 0);
#[map]
pub static FRAG6: LruHashMap<FragKey<V6>, Frag> = LruHashMap::with_max_entries(RECORDS, 0);

/// The last of them by owner.
#[map]
pub static FRAG_RING4: Array<Ring<V4>> = Array::with_max_entries(OWNERS, 0);
#[map]
pub static FRAG_RING6: Array<Ring<V6>> = Array::with_max_entries(OWNERS, 0);

/// Fragments that wait for their first one, line by line.
#[map]
pub static FRAG_WAIT: Array<Waiting> = Array::with_max_entries(LINES * LINE as u32, 0);

/// How many have waited in each line, ever.
#[map]
pub static FRAG_NEXT: Array<u64> = Array::with_max_entries(LINES, 0);

/// The first fragment, while it serves as the vehicle of the others.
#[map]
pub static FRAG_SAVED: PerCpuArray<[u8; ROOM]> = PerCpuArray::with_max_entries(1, 0);

/// Where new identifications are taken from.
#[map]
pub static FRAG_ID: Array<u64> = Array::with_max_entries(COUNTERS, 0);
