//! Network namespaces: found by what a person types, identified, entered for a moment.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use super::{NetError, Result};
use crate::model::{Netns, lookup};

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// `NS_GET_NSTYPE` of linux/nsfs.h: `_IO(0xb7, 0x3)`.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
/// What forms a target has.
const FORMS: &str = "it is written NAME (of /run/netns), /path/to/namespace or pid:N";

/// An open network namespace and its identity.
pub struct NetnsFile {
    file: File,
    home: File,
    /// Its identity.
    pub id: Netns,
    /// The target in its normal form.
    pub target: String,
}

/// Where a target's namespace file is.
pub fn path_of(target: &str) -> Result<PathBuf> {
    let refuse = |why: String| NetError::Target {
        target: target.into(),
        why,
    };
    if let Some(pid) = target.strip_prefix("pid:") {
        let pid: u32 = pid
            .parse()
            .map_err(|_| refuse(format!("{pid:?} is not a process id; {FORMS}")))?;
        return Ok(format!("/proc/{pid}/ns/net").into());
    }
    if target.starts_with('/') {
        return Ok(target.into());
    }
    if target.is_empty()
        || target == "."
        || target == ".."
        || target.contains('/')
        || target.len() > 255
    {
        return Err(refuse(FORMS.into()));
    }
    Ok(Path::new("/run/netns").join(target))
}

impl NetnsFile {
    /// Opens a target's namespace; refuses what is not a network namespace, and the caller's own.
    pub fn open(target: &str) -> Result<Self> {
        let target = lookup::normal_target(target);
        let path = path_of(target)?;
        let refuse = |why: String| NetError::Target {
            target: target.into(),
            why,
        };
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(&path)
            .map_err(|e| missing(target, &path, e))?;
        if !is_netns(&file).map_err(|e| NetError::io(format!("target {target:?}"), e))? {
            return Err(refuse(format!(
                "{} is not a network namespace",
                path.display()
            )));
        }
        let home = home()?;
        let (dev, ino) = inode(&file)?;
        if inode(&home)? == (dev, ino) {
            return Err(refuse("it is the node's own network namespace".into()));
        }
        let mut ns = Self {
            file,
            home,
            id: Netns {
                dev,
                ino,
                cookie: 0,
            },
            target: target.into(),
        };
        ns.id.cookie = ns.run(cookie)??;
        Ok(ns)
    }

    /// The open file.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Runs `f` inside the namespace, on the calling thread, and comes back.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        let enter = |ns: &File| setns(ns.as_fd(), CloneFlags::CLONE_NEWNET);
        enter(&self.file).map_err(|e| {
            NetError::io(
                format!("cannot enter the namespace of {}", self.target),
                e.into(),
            )
        })?;
        let out = f();
        if let Err(e) = enter(&self.home) {
            // This thread would go on in a stranger's namespace: nothing it does would be right.
            tracing::error!(
                "cannot come back from the namespace of {}: {e}",
                self.target
            );
            std::process::abort();
        }
        Ok(out)
    }
}

fn missing(target: &str, path: &Path, e: std::io::Error) -> NetError {
    let help = if target.starts_with("pid:") {
        "is that process running?".to_owned()
    } else if target.starts_with('/') {
        "give the path of a namespace file".to_owned()
    } else {
        format!("make it with `netd ns add {target}`")
    };
    match e.kind() {
        std::io::ErrorKind::NotFound => NetError::NoTarget {
            target: target.into(),
            path: path.into(),
            help,
        },
        _ => NetError::io(
            format!("target {target:?}: cannot open {}", path.display()),
            e,
        ),
    }
}

fn is_netns(file: &File) -> std::io::Result<bool> {
    let fs = nix::sys::statfs::fstatfs(file.as_fd())?;
    if fs.filesystem_type().0 != NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(kind == libc::CLONE_NEWNET)
    }
}

/// Device and inode of an open namespace.
pub(super) fn inode(file: &File) -> Result<(u64, u64)> {
    let meta = file
        .metadata()
        .map_err(|e| NetError::io("cannot look at a namespace", e))?;
    Ok((meta.dev(), meta.ino()))
}

/// The calling thread's network namespace.
fn home() -> Result<File> {
    File::open("/proc/thread-self/ns/net")
        .map_err(|e| NetError::io("cannot open /proc/thread-self/ns/net", e))
}

/// Device and inode of the calling thread's network namespace.
pub fn here() -> Result<(u64, u64)> {
    inode(&home()?)
}

/// The cookie of the calling thread's network namespace; 0 on kernels without (before 5.14).
pub fn cookie() -> Result<u64> {
    // SAFETY: plain socket creation; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(NetError::io(
            "cannot open a socket",
            std::io::Error::last_os_error(),
        ));
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the buffer is a u64 and `length` its size; both live across the call.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    Ok(if rc == 0 { cookie } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_three_forms() {
        assert_eq!(path_of("web").unwrap(), Path::new("/run/netns/web"));
        assert_eq!(
            path_of("/proc/1/ns/net").unwrap(),
            Path::new("/proc/1/ns/net")
        );
        assert_eq!(path_of("pid:7").unwrap(), Path::new("/proc/7/ns/net"));
        for bad in ["", ".", "..", "a/b", "pid:", "pid:x", "pid:-1"] {
            let e = path_of(bad).unwrap_err().to_string();
            assert!(e.contains("NAME (of /run/netns)"), "{bad}: {e}");
        }
    }

    #[test]
    fn what_is_no_other_network_namespace_is_refused() {
        for (target, why) in [
            ("pid:4194999", "is that process running"),
            (
                "netd-no-such-namespace",
                "netd ns add netd-no-such-namespace",
            ),
            ("/proc/self/ns/net", "the node's own"),
            ("/proc/self/ns/mnt", "not a network namespace"),
            ("/dev/null", "not a network namespace"),
            ("/nowhere/at/all", "give the path"),
        ] {
            let e = NetnsFile::open(target).err().unwrap().to_string();
            assert!(e.contains(why) && !e.contains('\n'), "{target}: {e}");
        }
    }
}
