//! The programs in which others go on, and the map that holds them.
//!
//! Such a map is emptied when no process has it open and nothing pins it. It belongs to one load of the
//! programs, as their scratch does, so each load pins its own, under a number; what the loads before had
//! hooked finds theirs until it is replaced.

use std::fs;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{MapData, ProgramArray};

use super::error::{Error, Result, chain};
use super::load;

/// Name of the map in the object.
const MAP: &str = "STAGES";

/// One load's map, pinned.
pub(super) struct Stages {
    pin: PathBuf,
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
        Ok(Self { pin })
    }

    /// Where it is pinned.
    pub fn pin_path(&self) -> &Path {
        &self.pin
    }

    /// Removes the maps of other loads: every hook has the programs of this one. So are those that a load that
    /// was cut off has pinned for the moment.
    pub fn only(&self) -> Result<()> {
        let dir = self.pin.parent().unwrap_or(&self.pin);
        for entry in fs::read_dir(dir).map_err(Error::pin(dir))? {
            let pin = entry.map_err(Error::pin(dir))?.path();
            if pin != self.pin {
                load::remove(&pin)?;
            }
        }
        Ok(())
    }
}

/// The numbers that maps are pinned under.
fn numbers(dir: &Path) -> Result<Vec<u64>> {
    let entries = fs::read_dir(dir).map_err(Error::pin(dir))?;
    let number = |e: std::io::Result<fs::DirEntry>| e.ok()?.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(number).collect())
}
