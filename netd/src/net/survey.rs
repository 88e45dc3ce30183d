//! Several namespaces side by side: their veths, and which is whose peer. Reads only; each namespace
//! is entered for the moment it takes to open a socket there.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use super::netns::inode;
use super::veth::{self, Device};
use super::{NetError, Netlink, Result};

/// What identifies a namespace: device and inode.
pub type Identity = (u64, u64);

/// A namespace, read once.
struct Space {
    id: Identity,
    file: File,
    netlink: Netlink,
    veths: Vec<Device>,
    /// Numbers it has for other namespaces, asked for so far: by place in the survey.
    numbers: BTreeMap<usize, Option<i32>>,
}

/// Namespaces that were read.
#[derive(Default)]
pub struct Survey {
    spaces: Vec<Space>,
    /// Whether the namespaces of all processes were added.
    complete: bool,
}

/// The other end of a veth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its ifindex, in its own namespace.
    pub ifindex: u32,
    /// Its namespace; none: nothing known holds it.
    pub namespace: Option<Identity>,
    /// Its name; none: not found.
    pub name: Option<String>,
}

impl Survey {
    /// Adds the caller's own namespace.
    pub fn add_here(&mut self) -> Result<Identity> {
        self.add(Path::new("/proc/thread-self/ns/net"))
    }

    /// Adds the namespace a file stands for; one that is there already stays.
    pub fn add(&mut self, path: &Path) -> Result<Identity> {
        let what = |e: std::io::Error| NetError::io(format!("cannot read {}", path.display()), e);
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(what)?;
        let id = inode(&file)?;
        if self.spaces.iter().any(|s| s.id == id) {
            return Ok(id);
        }
        let mut netlink = open_in(&file).map_err(|e| match e {
            NetError::Io { source, .. } => what(source),
            e => e,
        })?;
        let mut veths = veth::devices(&mut netlink)?;
        veths.retain(|d| d.veth);
        self.spaces.push(Space {
            id,
            file,
            netlink,
            veths,
            numbers: BTreeMap::new(),
        });
        Ok(id)
    }

    /// The veths of a namespace with their peers, by ifindex; none: it was not added.
    pub fn veths(&mut self, id: Identity) -> Option<Vec<(Device, Peer)>> {
        let at = self.spaces.iter().position(|s| s.id == id)?;
        let veths = self.spaces.get(at)?.veths.clone();
        Some(
            veths
                .into_iter()
                .map(|v| (v.clone(), self.peer(at, &v)))
                .collect(),
        )
    }

    fn peer(&mut self, at: usize, veth: &Device) -> Peer {
        let place = match veth.nsid {
            None => Some(at),
            Some(nsid) => self.place(at, nsid).or_else(|| {
                self.add_processes();
                self.place(at, nsid)
            }),
        };
        let space = place.and_then(|p| self.spaces.get(p));
        let found = space.and_then(|s| s.veths.iter().find(|v| v.ifindex == veth.peer));
        Peer {
            ifindex: veth.peer,
            namespace: space.map(|s| s.id),
            name: found.map(|v| v.name.clone()),
        }
    }

    /// Which namespace has a number in the one at `at`.
    fn place(&mut self, at: usize, nsid: i32) -> Option<usize> {
        let files: Vec<File> = self
            .spaces
            .iter()
            .map(|s| s.file.try_clone())
            .collect::<std::io::Result<_>>()
            .ok()?;
        let space = self.spaces.get_mut(at)?;
        let (netlink, numbers) = (&mut space.netlink, &mut space.numbers);
        // One that was never asked about may have it; a number never moves to another namespace.
        let known = numbers.iter().find(|(_, n)| **n == Some(nsid));
        if let Some((place, _)) = known {
            return Some(*place);
        }
        for (place, file) in files.iter().enumerate() {
            if numbers.contains_key(&place) {
                continue;
            }
            let number = veth::nsid_of(netlink, file.as_fd()).ok().flatten();
            numbers.insert(place, number);
            if number == Some(nsid) {
                return Some(place);
            }
        }
        None
    }

    /// Adds the namespaces processes are in: those of containers have no name.
    fn add_processes(&mut self) {
        if std::mem::replace(&mut self.complete, true) {
            return;
        }
        for (_, path) in processes() {
            // Processes come and go: what cannot be read is no peer to name.
            let _ = self.add(&path);
        }
    }
}

/// One process for each namespace that processes are in: its id, and the namespace's file.
pub fn processes() -> Vec<(u32, PathBuf)> {
    let mut seen: BTreeMap<Identity, (u32, PathBuf)> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let path = entry.path().join("ns/net");
        let Ok(meta) = path.metadata() else { continue };
        let id = (meta.dev(), meta.ino());
        let found = seen.entry(id).or_insert_with(|| (pid, path.clone()));
        if pid < found.0 {
            *found = (pid, path);
        }
    }
    seen.into_values().collect()
}

/// Names in a directory that are one namespace, sorted.
pub fn names_of(dir: &Path, id: Identity) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|e| {
            let meta = e.path().metadata();
            meta.is_ok_and(|m| (m.dev(), m.ino()) == id)
        })
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// A socket in another namespace. A thread of its own goes there, so that the caller never does.
fn open_in(namespace: &File) -> Result<Netlink> {
    let opened = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                .map_err(|e| NetError::io("cannot enter a namespace", e.into()))?;
            Netlink::open()
        });
        inside.join()
    });
    opened.unwrap_or_else(|_| Err(NetError::Decode("a thread inside a namespace died".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_this_process_is_among_those_of_all() {
        let here = File::open("/proc/self/ns/net").unwrap();
        let id = inode(&here).unwrap();
        let found = processes().into_iter().find(|(_, path)| {
            let meta = path.metadata();
            meta.is_ok_and(|m| (m.dev(), m.ino()) == id)
        });
        assert!(found.unwrap().0 <= std::process::id());
    }

    #[test]
    fn names_of_a_namespace_are_all_found() {
        let dir = tempfile::tempdir().unwrap();
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        };
        link("/proc/self/ns/net", "b");
        link("/proc/self/ns/net", "a");
        link("/proc/self/ns/mnt", "c");
        link("/nowhere", "d");
        let id = inode(&File::open("/proc/self/ns/net").unwrap()).unwrap();
        assert_eq!(names_of(dir.path(), id), ["a", "b"]);
    }
}
