//! bpf(2) itself, where aya has no call: batched map reads (`BPF_MAP_LOOKUP_BATCH` since Linux 5.6,
//! commit cb4d03ab499d; for hash maps a batch is whole buckets), cgroup links, whose programs aya cannot
//! replace (`BPF_LINK_UPDATE` since Linux 5.7, commit 0c991ebc8c69), and running a program by a descriptor
//! that another thread may hold (`BPF_PROG_TEST_RUN`).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytemuck::Pod;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_LINK_UPDATE: libc::c_long = 29;

/// `BPF_LINK_TYPE_CGROUP`
const LINK_CGROUP: u32 = 3;
/// `BPF_LINK_TYPE_XDP`, Linux 5.9.
const LINK_XDP: u32 = 6;
/// `BPF_LINK_TYPE_TCX`, Linux 6.6.
const LINK_TCX: u32 = 11;

/// Entries asked for at once; at least the longest bucket.
const CHUNK: usize = 4096;

/// `bpf_attr.batch` of `<linux/bpf.h>`.
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

/// `bpf_attr` of `BPF_OBJ_GET` and `BPF_OBJ_PIN`.
#[repr(C)]
struct ObjGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `bpf_attr.info`.
#[repr(C)]
struct InfoByFd {
    fd: u32,
    len: u32,
    info: u64,
}

/// `bpf_link_info` of a cgroup link; one of a device begins with the ifindex where `cgroup` is.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    cgroup: u64,
    attach_type: u32,
    pad2: u32,
}

/// `bpf_attr.link_update`.
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// bpf(2). What `attr` points to must be what the command wants, and live.
pub fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a `bpf_attr` of the size given; the callers see to its pointers.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(rc)
    }
}

/// Gives memory that is free back to the system. Loading takes several times the object's size for a moment,
/// and the allocator keeps it.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain call; it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Opens a pinned object.
pub fn object(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = ObjGet {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = bpf(BPF_OBJ_GET, &mut attr)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for this process alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins an object.
pub fn pin(object: BorrowedFd<'_>, pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = ObjGet {
        path: path.as_ptr() as u64,
        fd: object.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attr = InfoByFd {
        fd: link.as_raw_fd().cast_unsigned(),
        len: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// The number of the cgroup a link is on; 0: that cgroup is gone.
pub fn link_cgroup(link: BorrowedFd<'_>) -> io::Result<u64> {
    let info = link_info(link)?;
    if info.kind == LINK_CGROUP {
        Ok(info.cgroup)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// ifindex of the device a TCX or XDP link is on; 0: that device is gone, or the link was detached.
pub fn link_device(link: BorrowedFd<'_>) -> io::Result<u32> {
    let info = link_info(link)?;
    if [LINK_XDP, LINK_TCX].contains(&info.kind) {
        let [a, b, c, d, ..] = info.cgroup.to_ne_bytes();
        Ok(u32::from_ne_bytes([a, b, c, d]))
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Puts another program in the place of a link's.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link: link.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_program: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Waits until every CPU has left the RCU read side, on which programs run (`MEMBARRIER_CMD_GLOBAL` since
/// Linux 4.3, commit 5b25b13ab08f).
pub fn grace_period() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: a system call without pointers.
    let rc = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// All entries of a hash map, in no order. Entries that come or go meanwhile may be missing or there.
pub fn dump<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    scan(map, |key: &K, value: &V| all.push((*key, *value)))?;
    Ok(all)
}

/// The same one after the other: a large map is never in memory as a whole.
pub fn scan<K: Pod, V: Pod>(map: BorrowedFd<'_>, mut visit: impl FnMut(&K, &V)) -> io::Result<()> {
    let mut keys = vec![K::zeroed(); CHUNK];
    let mut values = vec![V::zeroed(); CHUNK];
    let mut cursor = 0u32;
    let mut next = 0u32;
    let mut first = true;
    loop {
        let mut attr = Batch {
            cursor_in: if first { 0 } else { (&raw const cursor) as u64 },
            cursor_out: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: keys.len() as u32,
            map_fd: map.as_raw_fd().cast_unsigned(),
            ..Batch::default()
        };
        // Its pointers are to live buffers of `count` keys and values of the map's sizes, which the
        // caller's types have.
        let error = bpf(BPF_MAP_LOOKUP_BATCH, &mut attr).err();
        let code = error.as_ref().and_then(io::Error::raw_os_error);
        if code == Some(libc::ENOSPC) {
            // One bucket is longer than the buffers.
            let larger = keys.len() * 2;
            keys.resize(larger, K::zeroed());
            values.resize(larger, V::zeroed());
            continue;
        }
        if let Some(e) = error
            && code != Some(libc::ENOENT)
        {
            return Err(e);
        }
        let got = attr.count as usize;
        for (key, value) in keys.iter().zip(&values).take(got) {
            visit(key, value);
        }
        if code == Some(libc::ENOENT) {
            return Ok(());
        }
        cursor = next;
        first = false;
    }
}

const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// `bpf_attr.test` of `<linux/bpf.h>`, as far as it is needed.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    answer: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// Runs a TC program once on a frame that goes nowhere; its answer.
pub fn run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    let mut attr = Run {
        program: program.as_raw_fd().cast_unsigned(),
        size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        ..Run::default()
    };
    // SAFETY: `attr` is a `bpf_attr` of the size given; `data_in` has `size_in` bytes.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attr,
            size_of::<Run>(),
        )
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(attr.answer)
}
