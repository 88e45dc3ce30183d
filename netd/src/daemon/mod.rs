//! The daemon: start, serve, stop.
//!
//! | file | owns |
//! |---|---|
//! | [`bpffs`] | a bpffs under the pin directory |
//! | [`lock`] | one daemon per network namespace |
//! | [`core`] | the state and its one thread: every change goes through it |
//! | `start` | adopting what is there |
//! | `sockets` | the cgroup of the socket hooks |
//! | `attach`, `network`, `publish`, `uplink`, `watch` | what changes the state |
//! | `floating` | floating IPs, and telling the uplink's link of them |
//! | [`listen`] | when the programs tell, and who listens |
//! | [`events`], `tell` | what has changed, and by whom |
//! | [`log`] | the log |
//! | `file` | plan, apply, export: many changes as one |
//! | `reach` | changes inside of endpoints that stay |
//! | `local` | the node's own addresses |
//! | `lost` | what ends with an address |
//! | `repair`, `pins` | what others took away is put back |
//! | `observe`, `flows`, `mappings` | what is told about it |
//! | [`inspect`] | an endpoint seen from both sides, read beside the core |
//! | [`repro`] | the same with all that decided, for a test elsewhere |
//! | [`trace`] | what becomes of a packet, run beside the core |
//! | `collect` | the thread that ends expired flows |
//! | [`cleanup`] | removing every trace |

mod announce;
mod attach;
pub mod bpffs;
pub mod cleanup;
mod collect;
pub mod core;
pub mod error;
pub mod events;
mod file;
mod floating;
mod flows;
pub mod inspect;
pub mod listen;
mod local;
pub mod lock;
pub mod log;
mod lost;
mod mappings;
mod network;
mod observe;
mod overlap;
mod pins;
mod publish;
mod reach;
mod repair;
pub mod repro;
mod sockets;
mod start;
mod tell;
pub mod trace;
mod uplink;
mod watch;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use netd_api::{By, EventKind};
use tokio::signal::unix::{SignalKind, signal};

use self::events::{Events, News};

pub use self::core::Handle;
pub use crate::config::DaemonOptions;

/// How long those who listen may take to read the last lines when the daemon stops.
const FINISH: Duration = Duration::from_secs(1);

/// Runs the daemon until SIGTERM or SIGINT. Traffic goes on when it returns.
pub async fn run(options: DaemonOptions) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the daemon needs root: it makes devices and loads programs; run it with sudo");
    }
    let settings = options.settings()?;
    log::start(log::filter(options.log.as_deref(), settings.verbose)?);
    // Signals are caught from here on: a stop during the start ends it in order, too.
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let _lock = lock::Lock::take(&settings.run_dir)?;
    private_dir(&settings.state_dir)?;
    private_dir(&settings.run_dir)?;
    let run_dir = settings.run_dir.clone();
    let sweep = settings.sweep;
    // A directory that is none is refused before it is said that netd starts.
    sockets::cgroup(settings.cgroup.as_deref())?;
    let events = Arc::new(Events::default());
    let of_daemon = |kind, text: String| events.tell(&By::Netd, News::new(kind, "daemon", text));
    let version = env!("CARGO_PKG_VERSION");
    let started = format!("netd {version} started, instance {}", settings.instance);
    of_daemon(EventKind::Started, started);
    let (handle, mut ended) = core::spawn(settings, Arc::clone(&events)).await?;
    let server = crate::api::Server::bind(&run_dir)?;
    let socket = server.path().to_owned();
    let connections = server.connections();
    tracing::info!("ready, API on {}", socket.display());
    watch::spawn(&handle, sweep);
    let stopping = |why| {
        of_daemon(
            EventKind::Stopping,
            format!("{why}: stopping, traffic goes on"),
        );
    };
    tokio::select! {
        _ = term.recv() => stopping("SIGTERM"),
        _ = int.recv() => stopping("SIGINT"),
        () = server.serve(handle.clone()) => bail!("the API server ended"),
        _ = &mut ended => bail!("the core thread ended"),
    }
    // A new daemon may listen on the same path already: only one's own socket is removed.
    fs::remove_file(&socket)
        .or_else(ignore_missing)
        .context("cannot remove the socket")?;
    handle.close().await;
    // What it still did has been told, and what it stored is in the file.
    let _ = ended.await;
    events.close();
    connections.finish(FINISH).await;
    Ok(())
}

fn ignore_missing(e: std::io::Error) -> std::io::Result<()> {
    if e.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(e)
    }
}

/// Makes a directory only root may enter, or makes an existing one so.
pub fn private_dir(dir: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot make the directory {}", dir.display()))
}
