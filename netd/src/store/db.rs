//! The database: rows of JSON in tables, read as a whole and changed whole.
//!
//! After an input or output error redb takes no more work, and nobody knows whether the commit that met it is on
//! the disk. So the database is opened anew before the next change, and what that commit would have changed is
//! written back first: whoever was told that nothing was stored is right. What takes a change back is written once
//! more instead: that is what is to be there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StoreError, migrate};
use crate::failpoint;
use crate::model::{Change, Desired, Key, Meta, Object, Publish};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// A table of objects by their number.
pub(super) type Objects = TableDefinition<'static, u32, &'static [u8]>;
const NETWORKS: Objects = TableDefinition::new("networks");
const ENDPOINTS: Objects = TableDefinition::new("endpoints");
const PUBLISHES: Objects = TableDefinition::new("publishes");
const FLOATING: Objects = TableDefinition::new("floating");
/// All of them.
const TABLES: [Objects; 4] = [NETWORKS, ENDPOINTS, PUBLISHES, FLOATING];

/// How the database is opened.
pub(super) type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// A row: table, number, and its JSON; none: it is not there.
type Row = (Objects, u32, Option<Vec<u8>>);

/// Rows that are to be, and the one of [`Meta`].
#[derive(Default)]
struct Rows {
    objects: Vec<Row>,
    meta: Option<Vec<u8>>,
}

/// What a commit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A change, durable.
    Change,
    /// One that may be lost in a crash.
    Note,
    /// One that takes a change back, durable.
    Back,
}

/// The database.
pub(super) struct Db {
    /// None: it has failed, and is to be opened anew.
    base: Option<Database>,
    open: Open,
    path: PathBuf,
    /// Rows as they are to be after a commit that failed.
    owed: Option<Rows>,
}

/// The database has been opened.
pub(super) struct Opened {
    /// It.
    pub db: Db,
    /// Layout of its records, and whose they are; none: it is new.
    pub found: Option<(u32, String)>,
    /// It was damaged and put right: what was stored last may be missing.
    pub repaired: bool,
}

impl Db {
    /// Opens the database and looks whether it is whole.
    pub fn open(path: PathBuf, open: Open) -> Result<Opened, StoreError> {
        let mut this = Self {
            base: None,
            open,
            path,
            owed: None,
        };
        // What redb makes of a file that somebody has written into is not all errors.
        let looked = catch_unwind(AssertUnwindSafe(|| {
            let mut db = (this.open)().map_err(|e| this.error(e))?;
            let whole = db.check_integrity().map_err(|e| this.error(e))?;
            this.base = Some(db);
            Ok::<_, StoreError>((this.found()?, !whole))
        }));
        let damaged = || StoreError::Damaged {
            path: this.path.clone(),
            why: "it contradicts itself".into(),
        };
        let (found, repaired) = looked.map_err(|_| damaged())??;
        Ok(Opened {
            db: this,
            found,
            repaired,
        })
    }

    fn error(&self, source: impl Into<redb::Error>) -> StoreError {
        let path = self.path.clone();
        match source.into() {
            redb::Error::Corrupted(why) => StoreError::Damaged { path, why },
            source => StoreError::Database {
                path,
                source: Box::new(source),
            },
        }
    }

    fn parse<T: DeserializeOwned>(&self, table: &str, bytes: &[u8]) -> Result<T, StoreError> {
        serde_json::from_slice(bytes).map_err(|source| StoreError::Record {
            path: self.path.clone(),
            table: table.into(),
            source,
        })
    }

    fn db(&self) -> Result<&Database, StoreError> {
        self.base.as_ref().ok_or(StoreError::Ended)
    }

    /// What every layout says of itself.
    fn found(&self) -> Result<Option<(u32, String)>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Any {
            schema: u32,
            instance: String,
        }
        let meta = self.meta()?;
        let any: Option<Any> = meta.map(|b| self.parse("meta", &b)).transpose()?;
        Ok(any.map(|m| (m.schema, m.instance)))
    }

    fn meta(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.db()?.begin_read().map_err(|e| self.error(e))?;
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(e) => return Err(self.error(e)),
        };
        let meta = table.get("meta").map_err(|e| self.error(e))?;
        Ok(meta.map(|v| v.value().to_vec()))
    }

    /// Makes the tables of a new store.
    pub fn begin(&mut self, meta: &Meta) -> Result<(), StoreError> {
        let rows = Rows {
            objects: vec![],
            meta: Some(json(meta)),
        };
        self.put(&rows, true).map(drop)
    }

    /// Brings records of an older layout into the present one, all at once.
    pub fn migrate(&mut self, from: u32) -> Result<(), StoreError> {
        let mut rows = Rows::default();
        for table in TABLES {
            let name = redb::TableHandle::name(&table);
            for (number, bytes) in self.rows(table)? {
                let mut value = self.parse(name, &bytes)?;
                migrate::record(from, name, &mut value);
                rows.objects.push((table, number, Some(json(&value))));
            }
        }
        if let Some(meta) = self.meta()? {
            let mut value = self.parse("meta", &meta)?;
            migrate::record(from, "meta", &mut value);
            rows.meta = Some(json(&value));
        }
        self.put(&rows, true).map(drop)
    }

    /// Reads everything.
    pub fn load(&self) -> Result<Desired, StoreError> {
        let meta = self.meta()?.unwrap_or_default();
        let mut desired = Desired::new(self.parse("meta", &meta)?);
        desired.networks = self.all(NETWORKS)?;
        desired.endpoints = self.all(ENDPOINTS)?;
        let publishes: Vec<(u32, Publish)> = self.all(PUBLISHES)?;
        for (_, publish) in publishes {
            desired.keep(publish);
        }
        desired.floating = self.all(FLOATING)?;
        Ok(desired)
    }

    fn rows(&self, table: Objects) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
        let read = self.db()?.begin_read().map_err(|e| self.error(e))?;
        let rows = match read.open_table(table) {
            Ok(rows) => rows,
            // Of a layout that did not have it yet.
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(vec![]),
            Err(e) => return Err(self.error(e)),
        };
        let rows = rows.iter().map_err(|e| self.error(e))?;
        rows.map(|row| {
            let (key, value) = row.map_err(|e| self.error(e))?;
            Ok((key.value(), value.value().to_vec()))
        })
        .collect()
    }

    fn all<T: DeserializeOwned, C: FromIterator<(u32, T)>>(
        &self,
        table: Objects,
    ) -> Result<C, StoreError> {
        let name = redb::TableHandle::name(&table);
        let rows = self.rows(table)?.into_iter();
        rows.map(|(number, bytes)| Ok((number, self.parse(name, &bytes)?)))
            .collect()
    }

    /// Stores a change. After an error the state is what it was, or with [`Kind::Back`] what it is to be: at once, or
    /// once there is a disk again.
    pub fn write(&mut self, change: &Change, meta: &Meta, kind: Kind) -> Result<(), StoreError> {
        failpoint::step("beginning to store");
        self.heal()?;
        let removed = change.remove.iter().map(|key| match key {
            Key::Network(n) => (NETWORKS, *n, None),
            Key::Endpoint(n) => (ENDPOINTS, *n, None),
            Key::Publish(n) => (PUBLISHES, *n, None),
            Key::Floating(n) => (FLOATING, *n, None),
        });
        let put = change.put.iter().map(|object| match object {
            Object::Network(o) => (NETWORKS, o.number, Some(json(o))),
            Object::Endpoint(o) => (ENDPOINTS, o.number, Some(json(o))),
            Object::Publish(o) => (PUBLISHES, o.number, Some(json(o))),
            Object::Floating(o) => (FLOATING, o.number, Some(json(o))),
        });
        let rows = Rows {
            objects: removed.chain(put).collect(),
            meta: Some(json(meta)),
        };
        let done = self.put(&rows, kind != Kind::Note);
        if done.is_err() {
            if kind == Kind::Back {
                self.owed = Some(rows);
            }
            // Most often the disk is there, and only full.
            let _ = self.heal();
        }
        done
    }

    /// Opens the database anew if it has failed, and takes back what that may have left.
    pub fn heal(&mut self) -> Result<(), StoreError> {
        if self.base.is_none() {
            self.base = Some((self.open)().map_err(|e| self.error(e))?);
            // A disk that came back without the file is not the one that went.
            if self.found()?.is_none() {
                self.base = None;
                let why = "its records are gone since it was opened".into();
                let path = self.path.clone();
                return Err(StoreError::Damaged { path, why });
            }
        }
        if let Some(owed) = self.owed.take()
            && let Err(e) = self.put(&owed, true)
        {
            self.owed = Some(owed);
            return Err(e);
        }
        Ok(())
    }

    /// Writes rows in one transaction.
    fn put(&mut self, rows: &Rows, durable: bool) -> Result<(), StoreError> {
        let mut before = Rows::default();
        let done = self.commit(rows, durable, &mut before);
        if done.is_err() {
            self.base = None;
            // The last one first: a row may have been changed twice.
            before.objects.reverse();
            self.owed = Some(before);
        }
        done
    }

    /// `before`: the rows as they were.
    fn commit(&self, rows: &Rows, durable: bool, before: &mut Rows) -> Result<(), StoreError> {
        let mut write = self.db()?.begin_write().map_err(|e| self.error(e))?;
        if !durable {
            let set = write.set_durability(Durability::None);
            set.map_err(|e| self.error(e))?;
        }
        for table in TABLES {
            let mut open = write.open_table(table).map_err(|e| self.error(e))?;
            let name = redb::TableHandle::name(&table);
            let mine = |row: &&Row| redb::TableHandle::name(&row.0) == name;
            for (_, number, value) in rows.objects.iter().filter(mine) {
                let old = match value {
                    Some(json) => open.insert(number, json.as_slice()),
                    None => open.remove(number),
                };
                let old = old.map_err(|e| self.error(e))?;
                let old = old.map(|v| v.value().to_vec());
                before.objects.push((table, *number, old));
            }
        }
        if let Some(meta) = &rows.meta {
            let mut table = write.open_table(META).map_err(|e| self.error(e))?;
            let old = table.insert("meta", meta.as_slice());
            let old = old.map_err(|e| self.error(e))?;
            before.meta = old.map(|v| v.value().to_vec());
        }
        failpoint::step("storing");
        write.commit().map_err(|e| self.error(e))
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // Records are plain structures with text keys: serde_json cannot fail on them.
    serde_json::to_vec(value).unwrap_or_default()
}
