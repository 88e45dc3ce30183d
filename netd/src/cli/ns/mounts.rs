//! Makes, names and removes namespaces the way iproute2's `ip netns` does: a bind mount of the
//! namespace on an empty file, in a directory that is a shared mount of itself, so that every mount
//! namespace of the machine sees names come and go.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{FsType, statfs};

use super::name::{DIRECTORY, Name};
use crate::cli::loopback;

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

const NOTHING: Option<&str> = None;

/// Makes a namespace with its loopback device up.
pub fn add(name: &Name) -> anyhow::Result<()> {
    named(name, "make", || {
        // The new namespace belongs to a thread of its own: this one stays where it is.
        let made = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
                    loopback::up().context("cannot set its loopback device up")?;
                    bind(Path::new("/proc/thread-self/ns/net"), &name.path())
                })
                .join()
        });
        made.map_err(|_| anyhow!("the thread that makes it died"))?
    })
}

/// Names the namespace of a process.
pub fn adopt(name: &Name, pid: u32) -> anyhow::Result<()> {
    let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
    if let Err(e) = namespace.metadata() {
        match e.kind() {
            ErrorKind::NotFound => {
                bail!("cannot adopt pid:{pid} as {name:?}: there is no such process")
            }
            _ => bail!("cannot adopt pid:{pid} as {name:?}: {e}: run this as root"),
        }
    }
    named(name, "adopt", || bind(&namespace, &name.path()))
}

/// Takes a name away. The namespace lives on as long as a process or another mount uses it.
pub fn remove(name: &Name) -> anyhow::Result<()> {
    let path = name.path();
    if path
        .symlink_metadata()
        .is_err_and(|e| e.kind() == ErrorKind::NotFound)
    {
        bail!("there is no namespace {name:?} in {DIRECTORY}: see `netd ns ls`");
    }
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: nothing is mounted there, just the file of a namespace that a reboot or a crash left.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(e) => return Err(refused("remove", name, e)),
    }
    std::fs::remove_file(&path).with_context(|| format!("cannot remove namespace {name:?}"))
}

/// Opens a named namespace and checks that it is one.
pub fn open(name: &Name) -> anyhow::Result<File> {
    let file = File::open(name.path()).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            anyhow!("there is no namespace {name:?} in {DIRECTORY}: see `netd ns ls`")
        }
        _ => anyhow!("cannot open namespace {name:?}: {e}"),
    })?;
    if is_namespace(&name.path()) {
        Ok(file)
    } else {
        bail!(
            "{} is no namespace but a stale file: remove it with `netd ns del {name}`",
            name.path().display()
        )
    }
}

/// Whether a file is a namespace. It is not opened: a stale FIFO would block.
pub fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

/// Creates the file of a name, and removes it if `fill` fails.
fn named(name: &Name, verb: &str, fill: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    directory().map_err(|e| refused(verb, name, e))?;
    let path = name.path();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o000)
        .open(&path);
    if let Err(e) = file {
        match e.kind() {
            ErrorKind::AlreadyExists => {
                bail!(
                    "cannot {verb} namespace {name:?}: the name is taken in {DIRECTORY}; take another or `netd ns del {name}`"
                )
            }
            _ => bail!("cannot {verb} namespace {name:?}: {e}"),
        }
    }
    fill().map_err(|e| {
        // Best effort: the error that is told is the one that came first.
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_file(&path);
        match e.root_cause().downcast_ref::<Errno>() {
            Some(Errno::EPERM | Errno::EACCES) => e.context(format!(
                "cannot {verb} namespace {name:?}: run this as root"
            )),
            _ => e.context(format!("cannot {verb} namespace {name:?}")),
        }
    })
}

/// Makes the directory a shared mount of itself. Under a lock, since two of these at once would stack
/// two mounts, of which the upper hides names the lower holds.
fn directory() -> nix::Result<()> {
    let dir = Path::new(DIRECTORY);
    let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.and_then(|()| File::open(dir))
        .map_err(|e| errno(&e))
        .and_then(|file| {
            let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
            let share = || {
                mount(
                    NOTHING,
                    dir,
                    NOTHING,
                    MsFlags::MS_SHARED | MsFlags::MS_REC,
                    NOTHING,
                )
            };
            match share() {
                Err(Errno::EINVAL) => {
                    // Not a mount point yet.
                    mount(
                        Some(dir),
                        dir,
                        NOTHING,
                        MsFlags::MS_BIND | MsFlags::MS_REC,
                        NOTHING,
                    )?;
                    share()
                }
                done => done,
            }
        })
}

fn bind(namespace: &Path, on: &Path) -> anyhow::Result<()> {
    mount(Some(namespace), on, NOTHING, MsFlags::MS_BIND, NOTHING)
        .with_context(|| format!("cannot mount it on {}", on.display()))
}

fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn refused(verb: &str, name: &Name, e: Errno) -> anyhow::Error {
    match e {
        Errno::EPERM | Errno::EACCES => {
            anyhow!("cannot {verb} namespace {name:?}: permission denied, run this as root")
        }
        e => anyhow!("cannot {verb} namespace {name:?}: {}", e.desc()),
    }
}
