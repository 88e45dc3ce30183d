//! The embedded store: the node's truth, one redb file of JSON values. A commit is durable when it
//! returns, and whole or not there at all.

mod error;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

pub use error::StoreError;
use ipnet::Ipv6Net;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failpoint;
use crate::model::records::SCHEMA;
use crate::model::{Change, Desired, Key, Meta, Object, Publish};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const NETWORKS: TableDefinition<u32, &[u8]> = TableDefinition::new("networks");
const ENDPOINTS: TableDefinition<u32, &[u8]> = TableDefinition::new("endpoints");
const PUBLISHES: TableDefinition<u32, &[u8]> = TableDefinition::new("publishes");
const FLOATING: TableDefinition<u32, &[u8]> = TableDefinition::new("floating");
/// Name of the database in the state directory.
const FILE: &str = "netd.redb";
/// Name of the file whose flock says that the directory is in use.
const LOCK: &str = "lock";
/// Bytes of redb's page cache: the state of a node is small.
const CACHE: usize = 1 << 20;

/// The store: a thread that writes, so that a commit's fsync runs beside other work.
pub struct Store {
    jobs: mpsc::Sender<Job>,
    /// Held for the flock.
    _lock: File,
}

struct Job {
    change: Change,
    next_number: u32,
    durable: bool,
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

struct Db {
    db: Database,
    path: PathBuf,
}

impl Db {
    fn error(&self, source: impl Into<redb::Error>) -> StoreError {
        StoreError::Database {
            path: self.path.clone(),
            source: Box::new(source.into()),
        }
    }

    fn parse<T: DeserializeOwned>(&self, table: &str, bytes: &[u8]) -> Result<T, StoreError> {
        serde_json::from_slice(bytes).map_err(|source| StoreError::Record {
            path: self.path.clone(),
            table: table.into(),
            source,
        })
    }

    fn load(&self, instance: &str, ula: Ipv6Net) -> Result<Desired, StoreError> {
        let write = self.db.begin_write().map_err(|e| self.error(e))?;
        let meta = {
            let mut table = write.open_table(META).map_err(|e| self.error(e))?;
            let stored = table
                .get("meta")
                .map_err(|e| self.error(e))?
                .map(|v| v.value().to_vec());
            for t in [NETWORKS, ENDPOINTS, PUBLISHES, FLOATING] {
                write.open_table(t).map_err(|e| self.error(e))?;
            }
            if let Some(bytes) = stored {
                self.parse("meta", &bytes)?
            } else {
                let meta = Meta {
                    schema: SCHEMA,
                    instance: instance.into(),
                    ula,
                    next_number: 1,
                };
                table
                    .insert("meta", json(&meta).as_slice())
                    .map_err(|e| self.error(e))?;
                meta
            }
        };
        write.commit().map_err(|e| self.error(e))?;
        if meta.schema != SCHEMA {
            return Err(StoreError::Schema {
                path: self.path.clone(),
                found: meta.schema,
            });
        }
        if meta.instance != instance {
            return Err(StoreError::Instance {
                path: self.path.clone(),
                found: meta.instance,
                asked: instance.into(),
            });
        }
        let mut desired = Desired::new(meta);
        desired.networks = self.all(NETWORKS)?;
        desired.endpoints = self.all(ENDPOINTS)?;
        let publishes: Vec<(u32, Publish)> = self.all(PUBLISHES)?;
        for (_, publish) in publishes {
            desired.keep(publish);
        }
        desired.floating = self.all(FLOATING)?;
        Ok(desired)
    }

    fn all<T: DeserializeOwned, C: FromIterator<(u32, T)>>(
        &self,
        table: TableDefinition<u32, &[u8]>,
    ) -> Result<C, StoreError> {
        let read = self.db.begin_read().map_err(|e| self.error(e))?;
        let rows = read.open_table(table).map_err(|e| self.error(e))?;
        let rows = rows.iter().map_err(|e| self.error(e))?;
        rows.map(|row| {
            let (key, value) = row.map_err(|e| self.error(e))?;
            let name = redb::TableHandle::name(&table);
            Ok((key.value(), self.parse(name, value.value())?))
        })
        .collect()
    }

    fn write(&self, change: &Change, meta: &Meta, durable: bool) -> Result<(), StoreError> {
        failpoint::step("beginning to store");
        let mut write = self.db.begin_write().map_err(|e| self.error(e))?;
        if !durable {
            write
                .set_durability(Durability::None)
                .map_err(|e| self.error(e))?;
        }
        {
            let open = |t| write.open_table(t).map_err(|e| self.error(e));
            let mut networks = open(NETWORKS)?;
            let mut endpoints = open(ENDPOINTS)?;
            let mut publishes = open(PUBLISHES)?;
            let mut floating = open(FLOATING)?;
            for key in &change.remove {
                match key {
                    Key::Network(n) => networks.remove(n),
                    Key::Endpoint(n) => endpoints.remove(n),
                    Key::Publish(n) => publishes.remove(n),
                    Key::Floating(n) => floating.remove(n),
                }
                .map_err(|e| self.error(e))?;
            }
            for object in &change.put {
                match object {
                    Object::Network(o) => networks.insert(o.number, json(o).as_slice()),
                    Object::Endpoint(o) => endpoints.insert(o.number, json(o).as_slice()),
                    Object::Publish(o) => publishes.insert(o.number, json(o).as_slice()),
                    Object::Floating(o) => floating.insert(o.number, json(o).as_slice()),
                }
                .map_err(|e| self.error(e))?;
            }
            let mut table = write.open_table(META).map_err(|e| self.error(e))?;
            table
                .insert("meta", json(meta).as_slice())
                .map_err(|e| self.error(e))?;
        }
        failpoint::step("storing");
        write.commit().map_err(|e| self.error(e))
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // Records are plain structures with text keys: serde_json cannot fail on them.
    serde_json::to_vec(value).unwrap_or_default()
}

impl Store {
    /// Names of all its files.
    pub const FILES: [&str; 2] = [FILE, LOCK];

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
        let db = Database::builder()
            .set_cache_size(CACHE)
            .create(&path)
            .map_err(|e| StoreError::Database {
                path: path.clone(),
                source: Box::new(e.into()),
            })?;
        let db = Db {
            db,
            path: path.clone(),
        };
        let desired = db.load(instance, ula)?;
        let (jobs, inbox) = mpsc::channel::<Job>();
        let mut meta = desired.meta.clone();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                for job in inbox {
                    meta.next_number = job.next_number;
                    let result = db.write(&job.change, &meta, job.durable);
                    // Nobody may be waiting any more: then nobody misses the answer.
                    let _ = job.done.send(result);
                }
            })
            .map_err(|source| StoreError::Io { path, source })?;
        Ok((Self { jobs, _lock: lock }, desired))
    }

    /// Begins to commit a change; it is durable when [`Pending::wait`] says so.
    pub fn commit(&self, change: Change, next_number: u32) -> Pending {
        self.send(change, next_number, true)
    }

    /// Commits a change that may be lost in a crash, until the next [`Store::commit`].
    pub fn note(&self, change: Change, next_number: u32) -> Pending {
        self.send(change, next_number, false)
    }

    fn send(&self, change: Change, next_number: u32, durable: bool) -> Pending {
        let (done, answer) = mpsc::channel();
        // A send fails only when the writer is gone; then `wait` says so.
        let _ = self.jobs.send(Job {
            change,
            next_number,
            durable,
            done,
        });
        Pending(answer)
    }
}

fn private_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)
        .map_err(|source| StoreError::Io {
            path: path.into(),
            source,
        })
}

#[cfg(test)]
mod tests;
