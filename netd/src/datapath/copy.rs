//! Rows as bytes: out of a pinned map, which is only read, and into the copies that `netd trace` works on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::{MapInfo, MapType};
use netd_common::maps::name;

use super::error::{Error, Result, chain};
use super::sys;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;

/// `bpf_attr` of the commands for one element.
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    /// The value, or the next key.
    value: u64,
    flags: u64,
}

/// One command on one element; false: there is none.
fn element(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: Option<&[u8]>,
    value: *mut u8,
) -> io::Result<bool> {
    let mut attr = Element {
        map: map.as_raw_fd().cast_unsigned(),
        pad: 0,
        key: key.map_or(0, |k| k.as_ptr() as u64),
        value: value as u64,
        flags: 0,
    };
    match sys::bpf(command, &mut attr) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Shows the keys of a map, one after the other. `size`: bytes of a key.
pub(super) fn keys(
    map: BorrowedFd<'_>,
    size: usize,
    room: u32,
    failed: &impl Fn(io::Error) -> Error,
    mut visit: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let (mut key, mut next) = (vec![0; size], vec![0; size]);
    let mut first = true;
    // Who reads a table while it changes may be sent back to its beginning: not for ever.
    for _ in 0..=u64::from(room) * 2 {
        let from = (!first).then_some(&key[..]);
        if !element(BPF_MAP_GET_NEXT_KEY, map, from, next.as_mut_ptr()).map_err(failed)? {
            break;
        }
        std::mem::swap(&mut key, &mut next);
        first = false;
        visit(&key)?;
    }
    Ok(())
}

/// A pinned map, to be read.
pub(super) struct Source {
    name: &'static str,
    fd: OwnedFd,
    kind: MapType,
    key: usize,
    value: usize,
    /// How many entries it has room for.
    pub room: u32,
}

impl Source {
    /// Opens the pin.
    pub fn open(name: &'static str, pin: &Path) -> Result<Self> {
        let wrong = |why: String| Error::Load(format!("{}: {why}", pin.display()));
        let info = MapInfo::from_pin(pin).map_err(|e| wrong(chain(&e)))?;
        Ok(Self {
            name,
            fd: sys::object(pin).map_err(|e| wrong(e.to_string()))?,
            kind: info.map_type().map_err(|e| wrong(chain(&e)))?,
            key: info.key_size() as usize,
            value: info.value_size() as usize,
            room: info.max_entries(),
        })
    }

    /// The map.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn failed(&self, op: &'static str) -> impl Fn(io::Error) -> Error + use<> {
        let map = self.name;
        move |e| Error::Map {
            map,
            op,
            why: e.to_string(),
        }
    }

    /// Shows all rows as bytes. Counters have none worth having, nor has what belongs to sockets.
    pub fn rows(&self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let copied = matches!(
            self.kind,
            MapType::Hash | MapType::LruHash | MapType::Array | MapType::LpmTrie
        );
        if !copied || self.name == name::CALLED {
            return Ok(());
        }
        let mut value = vec![0; self.value];
        let look_up = |key: &[u8], value: &mut [u8]| {
            element(
                BPF_MAP_LOOKUP_ELEM,
                self.fd(),
                Some(key),
                value.as_mut_ptr(),
            )
        };
        let failed = self.failed("dump");
        keys(self.fd(), self.key, self.room, &failed, |key| {
            if look_up(key, &mut value).map_err(self.failed("look-up"))? {
                visit(key, &value)?;
            }
            Ok(())
        })
    }

    /// What kind of map it is.
    pub fn kind(&self) -> MapType {
        self.kind
    }
}

/// Writes one row; key and value have the map's sizes.
pub(super) fn put(name: &str, to: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> Result<()> {
    let mut value = value.to_vec();
    element(BPF_MAP_UPDATE_ELEM, to, Some(key), value.as_mut_ptr())
        .map(drop)
        .map_err(|e| Error::Load(format!("a row cannot be written to a copy of {name}: {e}")))
}

/// Removes one row.
pub(super) fn remove(name: &str, from: BorrowedFd<'_>, key: &[u8]) -> Result<()> {
    element(BPF_MAP_DELETE_ELEM, from, Some(key), std::ptr::null_mut())
        .map(drop)
        .map_err(|e| {
            Error::Load(format!(
                "a row cannot be removed from a copy of {name}: {e}"
            ))
        })
}
