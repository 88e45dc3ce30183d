//! One daemon per network namespace: a lock file named after the namespace, which says who holds it.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::private_dir;
use crate::net::netns;

/// Directory of the lock files.
const DIR: &str = "/run/netd.lock.d";

/// The lock, held as long as this value lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: i32,
    /// Run directory.
    pub run_dir: PathBuf,
}

/// Takes the flock of a file, if nobody has it.
fn flock(file: &File) -> bool {
    // SAFETY: flock on an open descriptor; no memory is involved.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

fn holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    let (pid, run_dir) = text.trim_end().split_once(' ')?;
    Some(Holder {
        pid: pid.parse().ok()?,
        run_dir: run_dir.into(),
    })
}

impl Lock {
    /// Takes the lock of the calling thread's network namespace.
    pub fn take(run_dir: &Path) -> anyhow::Result<Self> {
        private_dir(Path::new(DIR))?;
        let (dev, ino) = netns::here()?;
        let path = Path::new(DIR).join(format!("net-{dev}-{ino}"));
        // A holder that ends removes its file: then the lock just taken is on a file nobody else
        // will ever open, and it has to be taken anew.
        loop {
            let mut file =
                open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            if !flock(&file) {
                match holder(&mut file) {
                    Some(h) => bail!(
                        "a netd daemon runs in this network namespace already: pid {}, run directory {}; one is enough",
                        h.pid,
                        h.run_dir.display()
                    ),
                    None => bail!("another netd daemon is starting in this network namespace"),
                }
            }
            if !same_file(&file, &path) {
                continue;
            }
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{} {}", std::process::id(), run_dir.display())?;
            return Ok(Self { file, path });
        }
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if same_file(&self.file, &self.path) {
            // Left behind it does no harm: the flock is what counts.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The running daemon that has this run directory, whatever namespace it is in.
pub fn running(run_dir: &Path) -> Option<Holder> {
    let entries = fs::read_dir(DIR).ok()?;
    entries.flatten().find_map(|entry| {
        let mut file = File::open(entry.path()).ok()?;
        if flock(&file) {
            return None;
        }
        holder(&mut file).filter(|h| h.run_dir == run_dir)
    })
}

/// Removes the lock files nobody holds, and the directory when it is empty.
pub fn sweep() {
    for entry in fs::read_dir(DIR).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Ok(file) = File::open(&path)
            && flock(&file)
            && same_file(&file, &path)
        {
            let _ = fs::remove_file(&path);
        }
    }
    let _ = fs::remove_dir(DIR);
}
