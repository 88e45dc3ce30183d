//! The API server: HTTP and JSON on a Unix socket that only root may use.
//!
//! | file | owns |
//! |---|---|
//! | `connections` | who is connected, how many, and for how long |
//! | `request` | reading a request: how long that may take, how large it may be |
//! | `caller` | who calls, and whether it may |
//! | `routes`, `document` | the calls, and the document made from them |
//! | `answer`, `lines` | answers, and answers that go on |

mod answer;
mod caller;
mod connections;
mod document;
mod lines;
mod request;
mod routes;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::middleware;
use tokio::net::UnixListener;

pub use connections::Connections;
pub use routes::DOCUMENT;

use crate::daemon::Handle;

/// Name of the socket in the run directory.
pub const SOCKET: &str = "netd.sock";
/// Its name until it answers.
pub const SOCKET_NEW: &str = "netd.sock.new";

/// The server, listening but not answering yet.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    connections: Arc<Connections>,
}

impl Server {
    /// Listens in a run directory. The socket gets its name at once and whole, so who sees it is
    /// answered.
    pub fn bind(run_dir: &Path) -> anyhow::Result<Self> {
        let (new, path) = (run_dir.join(SOCKET_NEW), run_dir.join(SOCKET));
        let bind = || -> io::Result<UnixListener> {
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let listener = UnixListener::bind(&new)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
            fs::rename(&new, &path)?;
            Ok(listener)
        };
        let listener = bind().with_context(|| format!("cannot listen on {}", path.display()))?;
        Ok(Self {
            listener,
            path,
            connections: Arc::default(),
        })
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its connections.
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    /// Answers requests, for ever.
    pub async fn serve(self, handle: Handle) {
        let app = routes::router(handle).layer(middleware::from_fn(caller::may_call));
        connections::serve(self.listener, self.connections, app).await;
    }
}
