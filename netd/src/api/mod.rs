//! The API server: HTTP and JSON on a Unix socket that only root may use.

mod answer;
mod lines;
mod routes;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use crate::daemon::Handle;

/// Name of the socket in the run directory.
pub const SOCKET: &str = "netd.sock";
/// Its name until it answers.
pub const SOCKET_NEW: &str = "netd.sock.new";
/// Bytes of a request's body.
const BODY: usize = 1 << 20;

/// The server, listening but not answering yet.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

/// Who is at the other end.
#[derive(Clone, Copy)]
struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self {
            uid: stream.io().peer_cred().ok().map(|c| c.uid()),
        }
    }
}

async fn only_root(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    if peer.uid == Some(0) {
        return next.run(request).await;
    }
    answer::Refusal::forbidden("only root may use netd's API; use sudo").into_response()
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
        Ok(Self { listener, path })
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers requests, for ever.
    pub async fn serve(self, handle: Handle) -> io::Result<()> {
        let app = routes::router(handle)
            .layer(DefaultBodyLimit::max(BODY))
            .layer(middleware::from_fn(only_root));
        axum::serve(
            self.listener,
            app.into_make_service_with_connect_info::<Peer>(),
        )
        .await
    }
}
