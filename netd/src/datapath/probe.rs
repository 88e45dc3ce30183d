//! What the kernel can, found out by trying: programs and maps are made for a moment and dropped, nothing
//! is pinned or hooked. Version numbers prove nothing, distributions backport and leave out.

use std::io;
use std::os::fd::AsFd;

use aya::maps::{Map, MapType};
use aya::programs::{
    Program, ProgramError, ProgramInfo, ProgramType, SchedClassifier, TcAttachType,
    loaded_programs, tc,
};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use aya::{EbpfLoader, VerifierLogLevel};
use netd_common::maps::name;

use super::error::chain;
use super::load::{CLASSIFIERS, OBJECT, XDP, kernel_at_least, refused};
use super::sys;

/// Something that was tried: how it went, or why it could not be tried.
pub type Tried<T> = Result<T, String>;

/// Whether each of several things can be had.
pub type Each = Vec<(&'static str, bool)>;

/// netd's own programs on this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Programs that were taken.
    pub programs: usize,
    /// Whether they were compiled (JIT); else they are interpreted.
    pub compiled: bool,
    /// Why a program of the socket hooks was not taken; none: all were.
    pub sockets: Option<String>,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape `map_err` asks for"
)]
fn said(e: ProgramError) -> String {
    chain(&e)
}

/// Program types netd cannot do without.
pub fn program_types() -> Tried<Each> {
    [
        ("sched_cls", ProgramType::SchedClassifier),
        ("xdp", ProgramType::Xdp),
    ]
    .into_iter()
    .map(|(name, kind)| Ok((name, is_program_supported(kind).map_err(said)?)))
    .collect()
}

/// Map types netd cannot do without.
pub fn map_types() -> Tried<Each> {
    [
        ("hash", MapType::Hash),
        ("array", MapType::Array),
        ("percpu_array", MapType::PerCpuArray),
        ("lpm_trie", MapType::LpmTrie),
    ]
    .into_iter()
    .map(|(name, kind)| Ok((name, is_map_supported(kind).map_err(|e| chain(&e))?)))
    .collect()
}

/// Helpers of TC programs netd cannot do without.
pub fn helpers() -> Tried<Each> {
    [
        ("loop", BpfHelper::BPF_FUNC_loop),
        ("fib_lookup", BpfHelper::BPF_FUNC_fib_lookup),
        ("redirect_neigh", BpfHelper::BPF_FUNC_redirect_neigh),
        ("redirect_peer", BpfHelper::BPF_FUNC_redirect_peer),
        ("clone_redirect", BpfHelper::BPF_FUNC_clone_redirect),
        ("skc_lookup_tcp", BpfHelper::BPF_FUNC_skc_lookup_tcp),
        ("sk_lookup_udp", BpfHelper::BPF_FUNC_sk_lookup_udp),
        (
            "ktime_get_coarse_ns",
            BpfHelper::BPF_FUNC_ktime_get_coarse_ns,
        ),
    ]
    .into_iter()
    .map(|(name, helper)| {
        let has = is_helper_supported(ProgramType::SchedClassifier, helper);
        Ok((name, has.map_err(said)?))
    })
    .collect()
}

/// What the hooks on sockets need: how the node's own processes reach published ports.
pub fn socket_hooks() -> Tried<Each> {
    let kind = ProgramType::CgroupSockAddr;
    let helper = |h| is_helper_supported(kind, h).map_err(said);
    Ok(vec![
        (
            "cgroup_sock_addr",
            is_program_supported(kind).map_err(said)?,
        ),
        (
            "get_netns_cookie",
            helper(BpfHelper::BPF_FUNC_get_netns_cookie)?,
        ),
        ("set_retval", helper(BpfHelper::BPF_FUNC_set_retval)?),
    ])
}

/// Whether TC programs can be hooked by TCX links. The loopback device is asked, which is everywhere.
pub fn tcx() -> Tried<bool> {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Ok(true),
        // An attach type the kernel does not know (before 6.6) or was built without.
        Err(ProgramError::SyscallError(e))
            if matches!(
                e.io_error.raw_os_error(),
                Some(libc::EINVAL | libc::EOPNOTSUPP)
            ) =>
        {
            Ok(false)
        }
        Err(e) => Err(said(e)),
    }
}

/// Whether a device can have a clsact qdisc. Makes one: for a namespace that nobody else uses.
pub fn clsact(device: &str) -> Tried<()> {
    tc::qdisc_add_clsact(device).map_err(|e| chain(&e))
}

/// Loads all of netd's programs, as the daemon does, into maps of their own that nobody sees. `Err`
/// inside: the kernel refused one, in its own words.
pub fn load() -> Tried<Result<Loaded, String>> {
    let csum_v6: u64 = if kernel_at_least(6, 16) { 1 << 7 } else { 0 };
    let (log_level, few) = (0u8, 1_024);
    let mut loader = EbpfLoader::new();
    for name in [name::FLOW4, name::FLOW6, name::PUBLISH] {
        loader.map_max_entries(name, few);
    }
    let loaded = loader
        .override_global("AYA_LOG_LEVEL", &log_level, false)
        .override_global("CSUM_V6_FLAG", &csum_v6, false)
        .verifier_log_level(VerifierLogLevel::STATS)
        .load(OBJECT);
    let mut ebpf = match loaded {
        Ok(ebpf) => ebpf,
        Err(e) => return Ok(Err(chain(&e))),
    };
    let (mut programs, mut compiled, mut sockets) = (0, true, None);
    for (name, program) in ebpf.programs_mut() {
        let taken = match program {
            Program::SchedClassifier(p) => p.load().and_then(|()| p.info()),
            Program::Xdp(p) => p.load().and_then(|()| p.info()),
            // The daemon does without these.
            Program::CgroupSockAddr(p) => {
                if let Err(e) = p.load() {
                    sockets = Some(refused(name)(e).to_string());
                }
                continue;
            }
            _ => continue,
        };
        match taken {
            Ok(info) => {
                programs += 1;
                compiled &= info.size_jitted() > 0;
            }
            Err(e) => return Ok(Err(refused(name)(e).to_string())),
        }
    }
    Ok(Ok(Loaded {
        programs,
        compiled,
        sockets,
    }))
}

/// Whether a hash map can be read in batches: flows are listed and collected so.
pub fn batch() -> Tried<bool> {
    let mut ebpf = EbpfLoader::new()
        .map_max_entries(name::FLOW4, 1_024)
        .map_max_entries(name::FLOW6, 1_024)
        .map_max_entries(name::PUBLISH, 1_024)
        .load(OBJECT)
        .map_err(|e| chain(&e))?;
    let map = ebpf.take_map(name::UPLINK).ok_or("no such map")?;
    let Map::HashMap(data) = map else {
        return Err("it is no hash map".into());
    };
    let found = sys::dump::<u32, netd_common::maps::Uplink>(data.fd().as_fd());
    match found.map_err(|e| e.raw_os_error()) {
        Ok(_) => Ok(true),
        Err(Some(libc::EINVAL | libc::EOPNOTSUPP | 524)) => Ok(false),
        Err(code) => Err(io::Error::from_raw_os_error(code.unwrap_or_default()).to_string()),
    }
}

/// TCX programs on a device that are not netd's: side and name.
pub fn foreign_tcx(device: &str) -> Tried<Vec<String>> {
    let mut found = Vec::new();
    for (side, kind) in [
        ("ingress", TcAttachType::Ingress),
        ("egress", TcAttachType::Egress),
    ] {
        let (_, programs) = SchedClassifier::query_tcx(device, kind).map_err(said)?;
        let foreign = programs.iter().filter(|p| !is_ours(p));
        found.extend(foreign.map(|p| format!("{} on TCX {side}", title(p))));
    }
    Ok(found)
}

/// TCX programs of others that run before netd's on a device: side and name.
pub fn tcx_before(device: &str) -> Tried<Vec<String>> {
    let mut found = Vec::new();
    for (side, kind) in [
        ("ingress", TcAttachType::Ingress),
        ("egress", TcAttachType::Egress),
    ] {
        let (_, programs) = SchedClassifier::query_tcx(device, kind).map_err(said)?;
        if !programs.iter().any(is_ours) {
            continue;
        }
        let before = programs.iter().take_while(|p| !is_ours(p));
        found.extend(before.map(|p| format!("{} on TCX {side}", title(p))));
    }
    Ok(found)
}

/// What a program that is hooked somewhere is called; none: it is netd's.
pub fn foreign_program(id: u32) -> Option<String> {
    let found = loaded_programs().flatten().find(|p| p.id() == id);
    match found {
        Some(p) if is_ours(&p) => None,
        Some(p) => Some(title(&p)),
        None => Some(format!("program {id}")),
    }
}

fn title(p: &ProgramInfo) -> String {
    match p.name_as_str() {
        Some(name) if !name.is_empty() => format!("{name} (id {})", p.id()),
        _ => format!("program {}", p.id()),
    }
}

/// The kernel keeps 15 characters of a name.
fn is_ours(p: &ProgramInfo) -> bool {
    let name = p.name_as_str().unwrap_or_default();
    CLASSIFIERS
        .iter()
        .chain([&XDP])
        .any(|ours| ours.chars().take(15).collect::<String>() == name)
}
