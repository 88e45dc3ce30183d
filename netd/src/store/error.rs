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
    /// It was written by a netd that knows more.
    #[error(
        "store {path} was written by a newer netd (layout {found}, this one knows up to {SCHEMA}) and is as it was; \
         use the newer one"
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// Somebody has written into it, or the disk has lost some of it.
    #[error(
        "store {path} is damaged: {why}; put a copy of the file back, or move it away and apply what there was \
         (a netd that starts without it removes the endpoints it finds)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The writer is gone.
    #[error("the store's writer has ended")]
    Ended,
}
