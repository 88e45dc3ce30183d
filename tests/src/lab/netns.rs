//! Named network namespaces: make, enter, run commands in, remove. Compatible with `ip netns`.
//!
//! Nothing here makes a mount namespace: `/sys/fs/bpf` stays visible inside.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::names::NETNS_DIR;

/// A network namespace with a name under `/run/netns`. Dropping it leaves the namespace there:
/// the lab removes all of its namespaces by name.
#[derive(Clone, Debug)]
pub struct Ns {
    name: String,
    fd: Arc<OwnedFd>,
}

impl Ns {
    /// Makes a namespace.
    pub fn create(name: &str) -> Result<Self> {
        let path = path_of(name);
        let _lock = lock_dir()?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let target = path.clone();
        let made = on_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
            mount(
                Some(own.as_str()),
                &target,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .with_context(|| format!("cannot mount a namespace on {}", target.display()))
        });
        if let Err(e) = made {
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        Self::open(name)
    }

    /// Opens a namespace that is there.
    pub fn open(name: &str) -> Result<Self> {
        let path = path_of(name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            fd: Arc::new(file.into()),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// Device and inode number: what tells namespaces apart.
    pub fn identity(&self) -> Result<(u64, u64)> {
        identity(&self.path())
    }

    /// Runs `f` on a thread of its own inside the namespace. Sockets made there stay there.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter the namespace {}", self.name))?;
            f()
        })
    }

    /// A command that will run inside the namespace, in a process group of its own, with the
    /// default disposition of signals.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let fd = Arc::clone(&self.fd);
        let mut command = Command::new(program);
        command.process_group(0);
        // SAFETY: between fork and exec only setns(2) is called: async-signal-safe, no allocation.
        unsafe {
            command.pre_exec(move || {
                if libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        command
    }

    /// Runs several `ip` commands (without the word `ip`) in one go.
    pub fn ip(&self, lines: &str) -> Result<()> {
        super::process::feed(self.command("ip").args(["-batch", "-"]), lines)
            .with_context(|| format!("ip in {}", self.name))
    }
}

/// Removes a namespace by name; the kernel frees it when its last process is gone.
pub fn remove(name: &str) -> Result<()> {
    let path = path_of(name);
    let _lock = lock_dir()?;
    // EINVAL: not a mount point (half-made).
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Names of the namespaces under `/run/netns`.
pub fn list() -> Vec<String> {
    fs::read_dir(NETNS_DIR)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// Device and inode number of the namespace at a path.
pub fn identity(path: &Path) -> Result<(u64, u64)> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((meta.dev(), meta.ino()))
}

fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

/// Makes `/run/netns` the shared mount `ip netns` would make, and locks it as `ip netns` does.
fn lock_dir() -> Result<Flock<File>> {
    let dir = Path::new(NETNS_DIR);
    fs::create_dir_all(dir).with_context(|| format!("cannot make {NETNS_DIR}"))?;
    let file = File::open(dir).with_context(|| format!("cannot open {NETNS_DIR}"))?;
    let lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, e)| anyhow!("cannot lock {NETNS_DIR}: {e}"))?;
    let shared = || {
        mount(
            None::<&str>,
            dir,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    if shared().is_err() {
        mount(
            Some(dir),
            dir,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )
        .with_context(|| format!("cannot make {NETNS_DIR} a mount point"))?;
        shared().with_context(|| format!("cannot make {NETNS_DIR} a shared mount"))?;
    }
    Ok(lock)
}

/// Runs `f` on a thread of its own, so that what it does to its namespace ends with it.
fn on_thread<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(f).join() {
        Ok(result) => result,
        Err(_) => bail!("a thread inside a namespace panicked"),
    })
}
