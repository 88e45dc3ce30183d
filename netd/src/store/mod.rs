//! The embedded store: the node's truth, one redb file of JSON values. A commit is durable when it
//! returns, and whole or not there at all.

mod db;
mod error;
mod migrate;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

pub use error::StoreError;
use ipnet::Ipv6Net;
use redb::Database;

use self::db::{Db, Kind, Open, Opened};
use crate::model::records::SCHEMA;
use crate::model::{Change, Desired, Meta};

/// Name of the database in the state directory.
const FILE: &str = "netd.redb";
/// Name of the file whose flock says that the directory is in use.
const LOCK: &str = "lock";
/// A copy that is being put aside.
const KEPT_NEW: &str = "netd.redb.new";
/// Bytes of redb's page cache: the state of a node is small.
const CACHE: usize = 1 << 20;

/// The store: a thread that writes, so that a commit's fsync runs beside other work.
pub struct Store {
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<std::thread::JoinHandle<()>>,
    /// Held for the flock.
    _lock: File,
}

struct Job {
    change: Change,
    next_number: u32,
    kind: Kind,
    done: mpsc::Sender<Result<(), StoreError>>,
}

/// A commit under way.
pub struct Pending(mpsc::Receiver<Result<(), StoreError>>);

impl Pending {
    /// Waits until the change is durable, or refused.
    pub fn wait(self) -> Result<(), StoreError> {
        self.0.recv().unwrap_or(Err(StoreError::Ended))
    }
}

impl Store {
    /// Names of all files it may have in its directory.
    pub fn files() -> impl Iterator<Item = String> {
        let kept = (1..SCHEMA).map(|layout| format!("{FILE}.layout-{layout}"));
        let always = [FILE, LOCK, KEPT_NEW].map(str::to_owned);
        always.into_iter().chain(kept)
    }

    /// Whether a directory has a store.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Opens or makes the store of an instance in a state directory that exists, and reads it.
    /// `ula` is kept as the IPv6 default pool when the store is new.
    pub fn open(dir: &Path, instance: &str, ula: Ipv6Net) -> Result<(Self, Desired), StoreError> {
        let lock = private_file(&dir.join(LOCK))?;
        // SAFETY: flock on a descriptor this function owns; no memory is involved.
        if unsafe {
            libc::flock(
                std::os::fd::AsRawFd::as_raw_fd(&lock),
                libc::LOCK_EX | libc::LOCK_NB,
            )
        } != 0
        {
            return Err(StoreError::Locked { path: dir.into() });
        }
        let path = dir.join(FILE);
        private_file(&path)?;
        let file = path.clone();
        let open = Box::new(move || Database::builder().set_cache_size(CACHE).create(&file));
        let keep = |layout: u32| keep_copy(dir, layout);
        let (db, desired) = read(path.clone(), open, instance, ula, keep)?;
        let store = Self::start(db, desired.meta.clone(), lock);
        let store = store.map_err(|source| StoreError::Io { path, source })?;
        Ok((store, desired))
    }

    fn start(mut db: Db, mut meta: Meta, lock: File) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                for job in inbox {
                    meta.next_number = job.next_number;
                    let result = db.write(&job.change, &meta, job.kind);
                    // Nobody may be waiting any more: then nobody misses the answer.
                    let _ = job.done.send(result);
                }
                // What a failed commit has left is not for the next start to find.
                let _ = db.heal();
            })?;
        Ok(Self {
            jobs: Some(jobs),
            writer: Some(writer),
            _lock: lock,
        })
    }

    /// Begins to commit a change; it is durable when [`Pending::wait`] says so.
    pub fn commit(&self, change: Change, next_number: u32) -> Pending {
        self.send(change, next_number, Kind::Change)
    }

    /// Commits a change that may be lost in a crash, until the next [`Store::commit`].
    pub fn note(&self, change: Change, next_number: u32) -> Pending {
        self.send(change, next_number, Kind::Note)
    }

    /// Begins to take a change back. What cannot be stored now is once there is a disk again.
    pub fn take_back(&self, change: Change, next_number: u32) -> Pending {
        self.send(change, next_number, Kind::Back)
    }

    fn send(&self, change: Change, next_number: u32, kind: Kind) -> Pending {
        let (done, answer) = mpsc::channel();
        // A send fails only when the writer is gone; then `wait` says so.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Job {
                change,
                next_number,
                kind,
                done,
            });
        }
        Pending(answer)
    }
}

impl Drop for Store {
    /// Waits until all is written, and the file closed.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Opens a database and reads it; what it has of an older layout is brought into the present one, once `keep` has
/// put a copy aside.
fn read(
    path: PathBuf,
    open: Open,
    instance: &str,
    ula: Ipv6Net,
    keep: impl FnOnce(u32) -> Result<(), StoreError>,
) -> Result<(Db, Desired), StoreError> {
    let Opened {
        mut db,
        found,
        repaired,
    } = Db::open(path.clone(), open)?;
    if let Some((_, whose)) = &found
        && whose != instance
    {
        return Err(StoreError::Instance {
            path,
            found: whose.clone(),
            asked: instance.into(),
        });
    }
    match found.map(|(layout, _)| layout) {
        None => db.begin(&Meta {
            schema: SCHEMA,
            instance: instance.into(),
            ula,
            next_number: 1,
        })?,
        Some(SCHEMA) => {}
        Some(older) if (1..SCHEMA).contains(&older) => {
            keep(older)?;
            db.migrate(older)?;
            tracing::info!("store {}: layout {older} became {SCHEMA}", path.display());
        }
        Some(found) => return Err(StoreError::Layout { path, found }),
    }
    if repaired {
        tracing::error!(
            "store {} was damaged and has been repaired: what was stored last may be missing, see `netd export`",
            path.display()
        );
    }
    let desired = db.load()?;
    Ok((db, desired))
}

/// Puts a copy of the store aside before its layout changes: for the netd that wrote it.
fn keep_copy(dir: &Path, layout: u32) -> Result<(), StoreError> {
    let (file, new) = (dir.join(FILE), dir.join(KEPT_NEW));
    let kept = dir.join(format!("{FILE}.layout-{layout}"));
    let copy = || -> std::io::Result<()> {
        private_file_at(&new)?.set_len(0)?;
        std::fs::copy(&file, &new)?;
        File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &kept)?;
        File::open(dir)?.sync_all()
    };
    copy().map_err(|source| StoreError::Io { path: kept, source })
}

fn private_file_at(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)
}

fn private_file(path: &Path) -> Result<File, StoreError> {
    private_file_at(path).map_err(|source| StoreError::Io {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests;
