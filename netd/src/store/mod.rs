//! The embedded store: the node's truth, one redb file of JSON values. A commit is durable when it
//! returns, and whole or not there at all.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use ipnet::Ipv6Net;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::records::SCHEMA;
use crate::model::{Change, Desired, Key, Meta, Object};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const NETWORKS: TableDefinition<u32, &[u8]> = TableDefinition::new("networks");
const ENDPOINTS: TableDefinition<u32, &[u8]> = TableDefinition::new("endpoints");
const PUBLISHES: TableDefinition<u32, &[u8]> = TableDefinition::new("publishes");
/// Name of the database in the state directory.
const FILE: &str = "netd.redb";
/// Name of the file whose flock says that the directory is in use.
const LOCK: &str = "lock";
/// Bytes of redb's page cache: the state of a node is small.
const CACHE: usize = 1 << 20;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be made or opened.
    #[error("cannot open {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the state directory.
    #[error("state directory {path} is in use by another netd; give each its own --state-dir")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The database failed.
    #[error("store {path}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A record cannot be read.
    #[error("store {path}: a record in {table} cannot be read: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
        /// Why.
        source: serde_json::Error,
    },
    /// It is somebody else's.
    #[error("store {path} belongs to instance {found}, not {asked}; give another --state-dir")]
    Instance {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        asked: String,
    },
    /// It was written by another version.
    #[error(
        "store {path} has layout {found}, this netd knows {SCHEMA}; use the netd that wrote it"
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// The writer is gone.
    #[error("the store's writer has ended")]
    Ended,
}

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
            for t in [NETWORKS, ENDPOINTS, PUBLISHES] {
                write.open_table(t).map_err(|e| self.error(e))?;
            }
            match stored {
                Some(bytes) => self.parse("meta", &bytes)?,
                None => {
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
        desired.publishes = self.all(PUBLISHES)?;
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
            for key in &change.remove {
                match key {
                    Key::Network(n) => networks.remove(n),
                    Key::Endpoint(n) => endpoints.remove(n),
                    Key::Publish(n) => publishes.remove(n),
                }
                .map_err(|e| self.error(e))?;
            }
            for object in &change.put {
                match object {
                    Object::Network(o) => networks.insert(o.number, json(o).as_slice()),
                    Object::Endpoint(o) => endpoints.insert(o.number, json(o).as_slice()),
                    Object::Publish(o) => publishes.insert(o.number, json(o).as_slice()),
                }
                .map_err(|e| self.error(e))?;
            }
            let mut table = write.open_table(META).map_err(|e| self.error(e))?;
            table
                .insert("meta", json(meta).as_slice())
                .map_err(|e| self.error(e))?;
        }
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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::desired::tests::{empty, endpoint, network};

    fn ula() -> Ipv6Net {
        "fd12:3456:789a::/48".parse().unwrap()
    }

    fn reopen(dir: &Path) -> (Store, Desired) {
        // The writer thread of a dropped store lets the database go a moment later.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match Store::open(dir, "test", ula()) {
                Ok(all) => return all,
                Err(e) if std::time::Instant::now() > deadline => panic!("{e}"),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn what_is_committed_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24"]);
        let a = endpoint(&mut d, "a", web, &["10.0.0.2/24"]);
        let objects = vec![
            Object::Network(d.networks[&web].clone()),
            Object::Endpoint(d.endpoints[&a].clone()),
        ];
        let (store, first) = reopen(dir.path());
        assert!(first.networks.is_empty());
        store
            .commit(
                Change {
                    put: objects,
                    remove: vec![],
                },
                d.meta.next_number,
            )
            .wait()
            .unwrap();
        drop(store);
        let (store, second) = reopen(dir.path());
        assert_eq!(
            (&second.networks, &second.endpoints),
            (&d.networks, &d.endpoints)
        );
        assert_eq!(second.meta, d.meta);
        store
            .commit(
                Change {
                    put: vec![],
                    remove: vec![Key::Endpoint(a)],
                },
                9,
            )
            .wait()
            .unwrap();
        drop(store);
        let (_store, third) = reopen(dir.path());
        assert!(third.endpoints.is_empty() && third.networks.len() == 1);
        assert_eq!(third.meta.next_number, 9);
    }

    #[test]
    fn the_store_is_private_and_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, _) = reopen(dir.path());
        let mode = std::fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let e = Store::open(dir.path(), "test", ula())
            .err()
            .unwrap()
            .to_string();
        assert!(e.contains("in use by another netd"), "{e}");
    }

    #[test]
    fn another_instance_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(reopen(dir.path()));
        let e = loop {
            match Store::open(dir.path(), "other", ula()).err().unwrap() {
                StoreError::Database { .. } => std::thread::yield_now(),
                e => break e.to_string(),
            }
        };
        assert!(e.contains("belongs to instance test, not other"), "{e}");
    }

    #[test]
    fn a_file_that_is_no_store_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), vec![7; 9000]).unwrap();
        let e = Store::open(dir.path(), "test", ula())
            .err()
            .unwrap()
            .to_string();
        assert!(e.contains("netd.redb") && !e.contains('\n'), "{e}");
    }
}
