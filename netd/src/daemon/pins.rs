//! Watches the directories of pins. A link ends with its pin, and with it a hook: that is put back at once, not
//! by the next sweep.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::core::{Core, Handle};

/// What is told: that a map, a device's directory, or the whole is gone.
const GONE: AddWatchFlags = AddWatchFlags::IN_DELETE
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_UNMOUNT);
/// Whoever removes one pin is about to remove more: this long they are gathered.
const GATHER: Duration = Duration::from_millis(30);
/// How long to wait before watching again what is not there.
const RETRY: Duration = Duration::from_secs(1);

/// For [`AsyncFd`].
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Follows them for ever.
pub async fn follow(handle: Handle) {
    if std::env::var_os(crate::net::events::DEAF).is_some() {
        return;
    }
    loop {
        let dirs = handle.call(|core| Ok(core.node.datapath.pin_dirs())).await;
        let Ok(dirs) = dirs else { return };
        match watch(&dirs).await {
            Ok(names) => handle.posted(move |core| core.pins_gone(&names)).await,
            Err(e) => {
                tracing::debug!("pins are not watched: {e}");
                sleep(RETRY).await;
            }
        }
    }
}

/// Waits until something is gone from one of the directories; the names, of a directory itself none.
async fn watch(dirs: &[PathBuf]) -> io::Result<Vec<Option<String>>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    for dir in dirs {
        inotify.add_watch(dir, GONE)?;
    }
    // SAFETY: it owns its descriptor, always the same, and keeps it open as long as it lives.
    let inotify = unsafe { AsyncFd::register_with_interest(Watch(inotify), Interest::READABLE) }?;
    let _ready = inotify.readable().await?;
    sleep(GATHER).await;
    let events = inotify.get_ref().0.read_events()?;
    let name = |name: Option<std::ffi::OsString>| name?.into_string().ok();
    Ok(events.into_iter().map(|e| name(e.name)).collect())
}

impl Core {
    /// Pins that are gone, by the name of a map or a device. The daemon removes those of a device itself, when
    /// nothing is to be hooked there any more.
    fn pins_gone(&mut self, names: &[Option<String>]) {
        let own = |name: &Option<String>| {
            let device = name.as_ref().map(|n| n.replace('%', "."));
            device.is_some_and(|d| {
                crate::net::events::is_made_name(&d) && !self.actual.hooked.contains(&d)
            })
        };
        if !names.iter().all(own) {
            self.sweep();
        }
    }
}
