//! Settings of netd's own devices, in the calling thread's namespace. Never of another device,
//! never `all` or `default`.

use std::io::{self, ErrorKind};

use super::{NetError, Result};
use crate::failpoint;

/// Writes `net.FAMILY.conf.DEVICE.NAME`. A family the kernel lacks has no settings: then nothing
/// is done.
pub fn set(family: &str, device: &str, name: &str, value: &str) -> Result<()> {
    // The device's name is a path part of its own: `.` in it is safe here, unlike with sysctl(8).
    let path = format!("/proc/sys/net/{family}/conf/{device}/{name}");
    failpoint::step("writing a setting");
    match std::fs::write(&path, value) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound && !family_is_there(family) => Ok(()),
        Err(e) => Err(NetError::io(format!("cannot write {value} to {path}"), e)),
    }
}

fn family_is_there(family: &str) -> bool {
    std::path::Path::new("/proc/sys/net").join(family).is_dir()
}

/// Reads a setting as a number.
pub fn get(family: &str, device: &str, name: &str) -> io::Result<i64> {
    let text = std::fs::read_to_string(format!("/proc/sys/net/{family}/conf/{device}/{name}"))?;
    text.trim()
        .parse()
        .map_err(|_| ErrorKind::InvalidData.into())
}
