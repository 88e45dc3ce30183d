//! The programs in which others go on, and the map that holds them.
//!
//! Such a map is emptied when no process has it open and nothing pins it. It belongs to one load of the
//! programs, as their scratch does, so each load pins its own, under a number; what the loads before had
//! hooked finds theirs until it is replaced.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{MapData, ProgramArray};

use super::error::{Error, Result, chain};
use super::{load, sys};

/// Name of the map in the object.
const MAP: &str = "STAGES";

/// One load's map, pinned. It is open all the while: should its pin go, it keeps its programs.
pub(super) struct Stages {
    pin: PathBuf,
    map: OwnedFd,
}

impl Stages {
    /// Fills the map of a loaded object, whose stages are loaded.
    pub fn fill(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>> {
        let wrong = |e: aya::maps::MapError| Error::Load(format!("map {MAP}: {}", chain(&e)));
        let missing = || Error::Load(format!("map {MAP} is missing"));
        let map = ebpf.take_map(MAP).ok_or_else(missing)?;
        let mut map: ProgramArray<MapData> = map.try_into().map_err(wrong)?;
        for stage in load::stages(ebpf) {
            let program = stage.program();
            let fd = load::classifier(ebpf, program)?
                .fd()
                .map_err(load::refused(program))?;
            map.set(stage as u32, fd, 0).map_err(wrong)?;
        }
        Ok(map)
    }

    /// The same, and pins it below `dir`.
    pub fn pin(ebpf: &mut Ebpf, dir: &Path) -> Result<Self> {
        let map = Self::fill(ebpf)?;
        let last = numbers(dir)?.into_iter().max().unwrap_or(0);
        let pin = dir.join((last + 1).to_string());
        map.pin(&pin)
            .map_err(|e| Error::Load(format!("{}: {}", pin.display(), chain(&e))))?;
        let map = sys::object(&pin).map_err(Error::pin(&pin))?;
        Ok(Self { pin, map })
    }

    /// Where it is pinned.
    pub fn pin_path(&self) -> &Path {
        &self.pin
    }

    /// Pins it again where its pin is gone; whether it was.
    pub fn pin_again(&self) -> Result<bool> {
        if self.pin.exists() {
            return Ok(false);
        }
        sys::pin(self.map.as_fd(), &self.pin).map_err(Error::pin(&self.pin))?;
        Ok(true)
    }

    /// Removes the maps of earlier loads: every hook has the programs of this one. With `also_cut_off` so are
    /// those that a load that was cut off has pinned for the moment; only where no other load can be under way.
    pub fn only(&self, also_cut_off: bool) -> Result<()> {
        let dir = self.pin.parent().unwrap_or(&self.pin);
        let own = number(&self.pin);
        for entry in fs::read_dir(dir).map_err(Error::pin(dir))? {
            let pin = entry.map_err(Error::pin(dir))?.path();
            let stays = match number(&pin) {
                Some(n) => Some(n) >= own,
                None => !also_cut_off,
            };
            if !stays {
                load::remove(&pin)?;
            }
        }
        Ok(())
    }
}

/// The number of a pin; none: it is of something else.
fn number(pin: &Path) -> Option<u64> {
    pin.file_name()?.to_str()?.parse().ok()
}

/// The numbers that maps are pinned under.
fn numbers(dir: &Path) -> Result<Vec<u64>> {
    let entries = fs::read_dir(dir).map_err(Error::pin(dir))?;
    let number = |e: std::io::Result<fs::DirEntry>| e.ok()?.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(number).collect())
}
