//! What a run found: figures, ratios, targets, and how quiet the machine was; written as JSON. What
//! people see is made by `table` and `plot`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::attach::{AtScale, Attached};
use super::compare::{self, Comparison, Figure, Target};

use super::machine::{self, Machine};
use super::options::Options;
use super::plot;
use super::programs::Programs;
use super::schedule::Cell;
use super::stats;

/// Attaching may cost so many times the netlink floor.
pub const ATTACH_TARGET: Target = Target::AtMost(5.0);
/// The daemon may hold so much memory, in MiB.
pub const RSS_TARGET: Target = Target::AtMost(40.0);
/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// When it began (UTC).
    pub started: String,
    /// Version of netd's sources.
    pub version: &'static str,
    /// Where.
    pub machine: Machine,
    /// How.
    pub options: Options,
    /// 1-minute load average before and after.
    pub load: [f64; 2],
    /// Mean over the cells: CPU time the hypervisor took, percent.
    pub steal_pct: f64,
    /// Mean over the one-CPU cells: how busy the other CPUs were, percent.
    pub others_pct: Option<f64>,
    /// What each contender reached.
    pub figures: Vec<Figure>,
    /// One over the other.
    pub comparisons: Vec<Comparison>,
    /// Attaching.
    pub attach: Option<Attached>,
    /// Attaching one more where there are many.
    pub attach_scale: Vec<AtScale>,
    /// The programs by themselves.
    pub programs: Option<Programs>,
    /// Every cell, in the order they ran.
    pub cells: Vec<Cell>,
}

impl Report {
    /// An empty one, of now.
    pub fn begin(options: &Options) -> Self {
        let stamp = format_description!("[year]-[month]-[day]T[hour][minute][second]Z");
        let load = machine::load_average();
        Self {
            started: OffsetDateTime::now_utc().format(&stamp).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::read(),
            options: options.clone(),
            load: [load, load],
            steal_pct: 0.0,
            others_pct: None,
            figures: Vec::new(),
            comparisons: Vec::new(),
            attach: None,
            attach_scale: Vec::new(),
            programs: None,
            cells: Vec::new(),
        }
    }

    /// Turns the cells into figures and ratios.
    pub fn finish(&mut self) {
        self.load[1] = machine::load_average();
        let steal: Vec<f64> = self.cells.iter().map(|c| c.disturbance.steal_pct).collect();
        let others: Vec<f64> = self
            .cells
            .iter()
            .filter_map(|c| c.disturbance.others_pct)
            .collect();
        self.steal_pct = stats::mean(&steal).unwrap_or(0.0);
        self.others_pct = stats::mean(&others);
        self.figures = compare::figures(&self.cells);
        self.comparisons = compare::comparisons(&self.figures);
    }

    /// Whether every target that was measured is met.
    pub fn all_met(&self) -> bool {
        let main = self.comparisons.iter().filter(|c| c.is_main());
        let ratios = main.filter_map(|c| Some(c.target?.met(c.ratio.median)));
        let attach = self
            .attach
            .iter()
            .filter(|a| !a.call_ms.is_empty())
            .flat_map(|a| {
                [
                    a.ratio().is_some_and(|r| ATTACH_TARGET.met(r.median)),
                    RSS_TARGET.met(a.rss_mib),
                ]
            });
        ratios.chain(attach).all(|met| met)
    }

    /// Writes the JSON and the picture; returns their paths.
    pub fn save(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let json = dir.join(format!("{}.json", self.started));
        fs::write(&json, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", json.display()))?;
        let mut written = vec![json];
        if !self.comparisons.is_empty() {
            let svg = dir.join(format!("{}.svg", self.started));
            plot::draw(self, &svg)?;
            written.push(svg);
        }
        Ok(written)
    }
}
