//! One hash map with the types of `netd-common`.

use std::os::fd::{AsFd, OwnedFd};

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError};
use bytemuck::Pod;

use super::error::{Error, Result, chain};
use super::sys;
use crate::failpoint;

/// Lets aya handle a type that bytemuck knows to be plain bytes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Raw<T>(pub T);

// SAFETY: `T: bytemuck::Pod` is stronger than `aya::Pod`: any bytes are a value, no padding.
unsafe impl<T: Pod> aya::Pod for Raw<T> {}

/// A pinned hash map.
pub struct Table<K: Pod, V: Pod> {
    name: &'static str,
    map: HashMap<MapData, Raw<K>, Raw<V>>,
    /// The same map, for bulk reads.
    fd: OwnedFd,
    room: u32,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Takes a map out of a loaded object.
    pub fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self> {
        let map = ebpf
            .take_map(name)
            .ok_or_else(|| Error::Load(format!("map {name} is missing")))?;
        let wrong = |why: String| Error::Load(format!("map {name}: {why}"));
        let Map::HashMap(data) = map else {
            return Err(wrong("it is not a hash map".into()));
        };
        let fd = data
            .fd()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| wrong(e.to_string()))?;
        let room = data.info().map_err(|e| wrong(chain(&e)))?.max_entries();
        let map = HashMap::try_from(Map::HashMap(data)).map_err(|e| wrong(chain(&e)))?;
        Ok(Self {
            name,
            map,
            fd,
            room,
        })
    }

    fn error(&self, op: &'static str, e: &MapError) -> Error {
        if let MapError::SyscallError(s) = e
            && matches!(s.io_error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC))
        {
            return Error::Full { map: self.name };
        }
        Error::Map {
            map: self.name,
            op,
            why: chain(e),
        }
    }

    /// Inserts or replaces.
    pub fn set(&mut self, key: K, value: V) -> Result<()> {
        failpoint::step(self.name);
        self.map
            .insert(Raw(key), Raw(value), 0)
            .map_err(|e| self.error("insert", &e))
    }

    /// Removes; says whether it was there.
    pub fn remove(&mut self, key: K) -> Result<bool> {
        failpoint::step(self.name);
        match self.map.remove(&Raw(key)) {
            Ok(()) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(MapError::SyscallError(s)) if s.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(false)
            }
            Err(e) => Err(self.error("remove", &e)),
        }
    }

    /// Reads one.
    pub fn get(&self, key: K) -> Result<Option<V>> {
        match self.map.get(&Raw(key), 0) {
            Ok(value) => Ok(Some(value.0)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(e) => Err(self.error("look-up", &e)),
        }
    }

    /// Another handle on the same map, for another thread.
    pub fn share(&self) -> Result<Self> {
        let wrong = |why: String| Error::Map {
            map: self.name,
            op: "share",
            why,
        };
        let fd = self.fd.try_clone().map_err(|e| wrong(e.to_string()))?;
        let data = fd
            .try_clone()
            .map_err(|e| wrong(e.to_string()))
            .and_then(|fd| MapData::from_fd(fd).map_err(|e| wrong(chain(&e))))?;
        let map = HashMap::try_from(Map::HashMap(data)).map_err(|e| wrong(chain(&e)))?;
        Ok(Self {
            name: self.name,
            map,
            fd,
            room: self.room,
        })
    }

    /// How many entries there is room for.
    pub const fn room(&self) -> u32 {
        self.room
    }

    /// Shows all, one after the other.
    pub fn scan(&self, visit: impl FnMut(&K, &V)) -> Result<()> {
        sys::scan(self.fd.as_fd(), visit).map_err(|e| Error::Map {
            map: self.name,
            op: "dump",
            why: e.to_string(),
        })
    }

    /// Reads all.
    pub fn all(&self) -> Result<Vec<(K, V)>> {
        sys::dump(self.fd.as_fd()).map_err(|e| Error::Map {
            map: self.name,
            op: "dump",
            why: e.to_string(),
        })
    }
}
