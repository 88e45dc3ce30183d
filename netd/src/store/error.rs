//! What can go wrong with the store, one line each.

use std::path::PathBuf;

use crate::model::records::SCHEMA;

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
