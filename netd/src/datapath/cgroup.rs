//! The socket hooks: links of the `netd_sock_*` programs on a cgroup, all or none. They are pinned and
//! stay when the daemon goes; those that are there get the new programs in place.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};

use super::error::{Error, Result, chain};
use super::load::{self, Pins};
use super::sys;

/// Names of the programs. Their sections say which call each is for.
pub const SOCKETS: [&str; 10] = [
    "netd_sock_conn4",
    "netd_sock_conn6",
    "netd_sock_send4",
    "netd_sock_send6",
    "netd_sock_recv4",
    "netd_sock_recv6",
    "netd_sock_peer4",
    "netd_sock_peer6",
    "netd_sock_bind4",
    "netd_sock_bind6",
];

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSockAddr> {
    ebpf.program_mut(name)
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| Error::Load(format!("program {name} is missing")))
}

/// Whether programs are hooked, whoever has loaded them.
pub(super) fn hooked(pins: &Pins) -> bool {
    fs::read_dir(&pins.cgroup).is_ok_and(|mut links| links.next().is_some())
}

/// Loads the programs, as far as that has not been done.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<()> {
    for name in SOCKETS {
        let program = program(ebpf, name)?;
        if program.fd().is_err() {
            program.load().map_err(load::refused(name))?;
        }
    }
    Ok(())
}

/// Hooks all programs on a cgroup; when one cannot be, none is left.
pub(super) fn hook(ebpf: &mut Ebpf, pins: &Pins, cgroup: &Path) -> Result<()> {
    let hooked = load(ebpf).and_then(|()| {
        let dir = File::open(cgroup).map_err(Error::pin(cgroup))?;
        // The number of a cgroup is that of its directory's inode.
        let id = dir.metadata().map_err(Error::pin(cgroup))?.ino();
        SOCKETS.iter().try_for_each(|name| {
            let why = |why| Error::Cgroup {
                cgroup: cgroup.into(),
                hook: name,
                why,
            };
            one(program(ebpf, name)?, &pins.cgroup.join(name), &dir, id, why)
        })
    });
    if hooked.is_err() {
        // Half of them would be worse than none: datagrams would go and their answers seem foreign.
        unhook(pins)?;
    }
    hooked
}

fn one(
    program: &mut CgroupSockAddr,
    pin: &Path,
    cgroup: &File,
    id: u64,
    fail: impl Fn(String) -> Error,
) -> Result<()> {
    if let Ok(link) = sys::object(pin) {
        // A link whose cgroup is gone has none.
        if sys::link_cgroup(link.as_fd()).ok() == Some(id) {
            let new = program.fd().map_err(|e| fail(chain(&e)))?;
            return sys::link_update(link.as_fd(), new.as_fd()).map_err(|e| fail(e.to_string()));
        }
    }
    // First the new one, then the end of the old one: no gap.
    let link = program
        .attach(cgroup, CgroupAttachMode::Single)
        .map_err(|e| fail(explain(&e)))?;
    let link = program.take_link(link).map_err(|e| fail(chain(&e)))?;
    let link = FdLink::try_from(link).map_err(|e| fail(chain(&e)))?;
    load::remove(pin)?;
    link.pin(pin).map(drop).map_err(|e| fail(chain(&e)))
}

/// An error number that says little gets words.
fn explain(e: &aya::programs::ProgramError) -> String {
    let text = chain(e);
    if text.contains("os error 7") {
        format!("{text}: the cgroup holds 64 programs for this hook already; give another --cgroup")
    } else {
        text
    }
}

/// Whether every hook is pinned.
pub(super) fn pinned(pins: &Pins) -> bool {
    SOCKETS.iter().all(|name| pins.cgroup.join(name).exists())
}

/// Removes all hooks, there or not.
pub(super) fn unhook(pins: &Pins) -> Result<()> {
    let entries = fs::read_dir(&pins.cgroup).into_iter().flatten();
    for entry in entries.filter_map(std::result::Result::ok) {
        load::remove(&entry.path())?;
    }
    Ok(())
}
