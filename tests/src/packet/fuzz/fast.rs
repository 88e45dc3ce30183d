//! Running a program a hundred thousand times: `bpf(2)` by hand, the counters in one call.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use aya::maps::MapData;
use netd_common::maps::{Stat, name};
use netd_common::reason::{Hook, STATS_LEN};
use netd_fuzz::case::{At, Case};

use super::super::hosts::{A, B, C, GATEWAY, GATEWAY2, NODE};
use super::super::run::Meta;
use super::super::world::World;
use super::scene;

const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// Room for what a program adds.
const ROOM: usize = 512;
/// What fits the page that the kernel makes a test packet of.
const MOST: usize = 3_300;

/// What a run left.
pub struct Run {
    /// Where it ran.
    pub hook: Hook,
    /// What the program answered.
    pub answer: i32,
    /// The frame afterwards.
    pub out: Vec<u8>,
    /// Counters that rose: index, packets, bytes.
    pub counted: Vec<(usize, u64, u64)>,
}

/// Programs, buffers, the last counters.
pub struct Fast {
    programs: Vec<(Hook, RawFd)>,
    stats: MapData,
    cpus: usize,
    raw: Vec<Stat>,
    before: Vec<Stat>,
    out: Vec<u8>,
}

/// `bpf_attr.test` (`<linux/bpf.h>`).
#[repr(C)]
#[derive(Default)]
struct Test {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// `bpf_attr.batch`.
#[repr(C)]
#[derive(Default)]
struct Batch {
    cursor_in: u64,
    cursor_out: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

impl Fast {
    /// For the programs of a world.
    pub fn new(world: &mut World) -> Self {
        let tc = [Hook::EpOut, Hook::GwOut, Hook::UpIn, Hook::UpOut];
        let mut programs: Vec<(Hook, RawFd)> = tc
            .into_iter()
            .map(|hook| {
                let fd = world.program(hook).fd().expect("loaded");
                (hook, fd.as_fd().as_raw_fd())
            })
            .collect();
        let xdp = world.datapath().ebpf().program_mut("netd_xdp");
        let xdp: &mut aya::programs::Xdp = xdp
            .and_then(|p| p.try_into().ok())
            .expect("netd_xdp is an XDP program");
        programs.push((Hook::Xdp, xdp.fd().expect("loaded").as_fd().as_raw_fd()));
        let stats = MapData::from_pin(world.pin(name::STATS)).expect("a pinned map");
        let cpus = aya::util::nr_cpus().expect("the CPUs");
        let blank = Stat {
            packets: 0,
            bytes: 0,
        };
        let mut fast = Self {
            programs,
            stats,
            cpus,
            raw: vec![blank; STATS_LEN as usize * cpus],
            before: vec![blank; STATS_LEN as usize],
            out: vec![0; MOST + ROOM],
        };
        fast.counted();
        fast
    }

    /// Starts a block.
    pub fn begin(&mut self, world: &mut World) {
        scene::begin(world);
        self.counted();
    }

    /// What has risen since the last call.
    fn counted(&mut self) -> Vec<(usize, u64, u64)> {
        let (mut cursor, mut keys) = (0u32, vec![0u32; STATS_LEN as usize]);
        let mut batch = Batch {
            cursor_out: (&raw mut cursor) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: self.raw.as_mut_ptr() as u64,
            count: STATS_LEN,
            map_fd: self.stats.fd().as_fd().as_raw_fd().cast_unsigned(),
            ..Batch::default()
        };
        // SAFETY: keys and values have room for all entries of the map, values for each CPU.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_BATCH,
                &raw mut batch,
                size_of::<Batch>(),
            )
        };
        // At the end of the map the call says so, all the same with everything in place.
        let ended = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
        assert!((rc == 0 || ended) && batch.count == STATS_LEN, "counters");
        let mut risen = Vec::new();
        for (at, (per_cpu, old)) in self.raw.chunks(self.cpus).zip(&mut self.before).enumerate() {
            let packets = per_cpu.iter().map(|s| s.packets).sum();
            let bytes = per_cpu.iter().map(|s| s.bytes).sum();
            if packets != old.packets || bytes != old.bytes {
                risen.push((at, packets - old.packets, bytes - old.bytes));
            }
            (old.packets, old.bytes) = (packets, bytes);
        }
        risen
    }

    /// Runs a case. `None`: the kernel makes no packet of these bytes.
    pub fn run(&mut self, world: &World, case: &Case) -> Result<Option<Run>, String> {
        if case.frame.len() < 14 || case.frame.len() > MOST {
            return Ok(None);
        }
        let (hook, device) = place(case.at);
        let meta = Meta {
            mark: 0,
            gso_size: u32::from(case.gso),
        };
        let ctx = world.context(device, meta);
        let program = self.programs.iter().find(|(h, _)| *h == hook);
        let mut test = Test {
            prog_fd: program.expect("all hooks").1.cast_unsigned(),
            data_size_in: case.frame.len() as u32,
            data_size_out: self.out.len() as u32,
            data_in: case.frame.as_ptr() as u64,
            data_out: self.out.as_mut_ptr() as u64,
            repeat: 1,
            ..Test::default()
        };
        if hook != Hook::Xdp {
            test.ctx_in = ctx.as_ptr() as u64;
            test.ctx_size_in = ctx.len() as u32;
        }
        // SAFETY: the buffers are as long as the attributes say, and live through the call.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_TEST_RUN,
                &raw mut test,
                size_of::<Test>(),
            )
        };
        if rc != 0 {
            let error = std::io::Error::last_os_error();
            let refused = error.raw_os_error() == Some(libc::EINVAL);
            return if refused {
                Ok(None)
            } else {
                Err(format!("did not run: {error}"))
            };
        }
        Ok(Some(Run {
            hook,
            answer: test.retval.cast_signed(),
            out: self.out[..test.data_size_out as usize].to_vec(),
            counted: self.counted(),
        }))
    }
}

/// Hook and device of a place.
pub fn place(at: At) -> (Hook, &'static str) {
    match at {
        At::EpOut(n) => (Hook::EpOut, [A, B, C][usize::from(n)].device),
        At::GwOut(n) => (Hook::GwOut, [GATEWAY, GATEWAY2][usize::from(n)].device),
        At::UpIn => (Hook::UpIn, NODE.device),
        At::UpOut => (Hook::UpOut, NODE.device),
        At::Xdp => (Hook::Xdp, NODE.device),
    }
}
