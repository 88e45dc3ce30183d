//! Batched map reads by bpf(2) itself: aya has none. `BPF_MAP_LOOKUP_BATCH` since Linux 5.6
//! (commit cb4d03ab499d); for hash maps a batch is whole buckets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use bytemuck::Pod;

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

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

/// All entries of a hash map, in no order. Entries that come or go meanwhile may be missing or there.
pub fn dump<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    let mut all = Vec::new();
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
        // SAFETY: `attr` is a `bpf_attr` of the size given; its pointers are to live buffers of
        // `count` keys and values of the map's sizes, which the caller's types have.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_BATCH,
                &raw mut attr,
                size_of::<Batch>(),
            )
        };
        let error = (rc < 0).then(io::Error::last_os_error);
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
        all.extend(keys.iter().copied().zip(values.iter().copied()).take(got));
        if code == Some(libc::ENOENT) {
            return Ok(all);
        }
        cursor = next;
        first = false;
    }
}
