//! What a run found, for people (a table) and for programs (JSON): figures, ratios, targets, and how
//! quiet the machine was.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::attach::Attached;
use super::compare::{self, Comparison, Figure, Target};

use super::machine::{self, Machine};
use super::options::Options;
use super::plot;
use super::scenario::Variant;
use super::schedule::Cell;
use super::stats;

/// Attaching may cost so many times the netlink floor.
pub const ATTACH_TARGET: Target = Target::AtMost(5.0);
/// The daemon may hold so much memory, in MiB.
const RSS_TARGET: Target = Target::AtMost(40.0);
/// Other CPUs busier than this while one was measured: somebody else was at work.
const QUIET_PCT: f64 = 10.0;

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
        let ratios = self
            .comparisons
            .iter()
            .filter_map(|c| Some(c.target?.met(c.ratio.median)));
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

    /// The result for people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "\n{} - Linux {} - {} x {} - {} rounds of {} ms cells, IP{}\n",
            self.started,
            self.machine.kernel,
            self.machine.cpus,
            self.machine.cpu,
            self.options.rounds(),
            self.options.cell().as_millis(),
            if self.options.ip == super::peers::IpVersion::V4 {
                "v4"
            } else {
                "v6"
            },
        );
        if !self.comparisons.is_empty() {
            text += &format!("\n{}\n", self.ratios());
        }
        if !self.figures.is_empty() {
            text += &format!("\n{}\n", self.all_figures());
        }
        if let Some(attach) = &self.attach {
            text += &format!("\n{}\n", attach_table(attach));
        }
        text + &self.remarks()
    }

    fn ratios(&self) -> Table {
        let mut table = new_table(&[
            "path",
            "CPUs",
            "test",
            "of",
            "over",
            "ratio [95 % CI]",
            "target",
            "",
        ]);
        for c in &self.comparisons {
            let control = c.a == Variant::BridgeAgain;
            let (target, verdict) = if control {
                (
                    "CI holds 1".to_owned(),
                    if c.ratio.contains(1.0) { "yes" } else { "NO" },
                )
            } else {
                (
                    c.target.map(show_target).unwrap_or_default(),
                    c.target.map_or("", |t| verdict(t, c.ratio.median)),
                )
            };
            table.add_row([
                c.scenario.title().to_owned(),
                c.placement.count().to_string(),
                c.kind.name().to_owned(),
                if control {
                    "the same again (control)".to_owned()
                } else {
                    c.a.title().to_owned()
                },
                c.b.title().to_owned(),
                format!(
                    "{:.3} [{:.3} - {:.3}]",
                    c.ratio.median, c.ratio.low, c.ratio.high
                ),
                target,
                verdict.to_owned(),
            ]);
        }
        table
    }

    fn all_figures(&self) -> Table {
        let mut table = new_table(&[
            "path",
            "CPUs",
            "test",
            "who",
            "p50 us",
            "p99 us",
            "per second",
            "failed",
        ]);
        let mut group = None;
        for f in &self.figures {
            // What a row shares with the one above is not said again.
            let own = Some((f.scenario, f.placement, f.kind));
            let new = group != own;
            group = own;
            let once = |text: String| if new { text } else { String::new() };
            table.add_row([
                once(f.scenario.title().to_owned()),
                once(f.placement.count().to_string()),
                once(f.kind.name().to_owned()),
                f.variant.title().to_owned(),
                format!("{:.2}", f.p50_us),
                format!("{:.1}", f.p99_us),
                format!("{:.0}", f.rate),
                f.failures.to_string(),
            ]);
        }
        right_aligned(&mut table, 4..8);
        table
    }

    fn remarks(&self) -> String {
        let mut text = String::from(
            "\nRR compares the median latency (below 1 is better), CRR transactions per second (above 1 is better).\n",
        );
        text += &format!(
            "machine: load {:.2} before and {:.2} after, steal {:.1} %{}\n",
            self.load[0],
            self.load[1],
            self.steal_pct,
            self.others_pct
                .map(|p| format!(", CPUs not measured {p:.0} % busy"))
                .unwrap_or_default(),
        );
        if self.others_pct.is_some_and(|p| p > QUIET_PCT) {
            text += "WARNING: something else was running: these figures are disturbed, run again on a quiet machine\n";
        }
        if self.options.quick {
            text += "a quick run: it shows that everything works, the figures mean nothing\n";
        }
        let failures: u32 = self.figures.iter().map(|f| f.failures).sum();
        if failures > 0 {
            text += &format!("WARNING: {failures} transactions failed, see the table\n");
        }
        text
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

fn attach_table(attach: &Attached) -> Table {
    let mut table = new_table(&[
        "attach one namespace",
        "n",
        "p50 ms",
        "p99 ms",
        "ratio [95 % CI]",
        "target",
        "",
    ]);
    right_aligned(&mut table, 1..4);
    let ratio = attach.ratio();
    for (what, values, ratio) in [
        ("floor: netlink alone, one process", &attach.floor_ms, None),
        ("netd: API call", &attach.call_ms, None),
        (
            "netd: API call to traffic, v4 and v6",
            &attach.traffic_ms,
            ratio,
        ),
        ("netd: detach call", &attach.detach_ms, None),
    ] {
        if values.is_empty() {
            continue;
        }
        table.add_row([
            what.to_owned(),
            values.len().to_string(),
            format!("{:.2}", stats::median(values).unwrap_or(f64::NAN)),
            format!("{:.2}", stats::quantile(values, 0.99).unwrap_or(f64::NAN)),
            ratio
                .map(|r| format!("{:.2} [{:.2} - {:.2}]", r.median, r.low, r.high))
                .unwrap_or_default(),
            ratio
                .map(|_| show_target(ATTACH_TARGET))
                .unwrap_or_default(),
            ratio
                .map_or("", |r| verdict(ATTACH_TARGET, r.median))
                .to_owned(),
        ]);
    }
    if attach.call_ms.is_empty() {
        return table;
    }
    table.add_row([
        "netd: resident memory, all attached (peak)".to_owned(),
        String::new(),
        format!("{:.1} MiB", attach.rss_mib),
        format!("({:.1} MiB)", attach.peak_rss_mib),
        String::new(),
        "<= 40 MiB".to_owned(),
        verdict(RSS_TARGET, attach.rss_mib).to_owned(),
    ]);
    table
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    table
}

fn right_aligned(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn show_target(target: Target) -> String {
    match target {
        Target::AtMost(limit) => format!("<= {limit:.2}"),
        Target::AtLeast(limit) => format!(">= {limit:.2}"),
    }
}

fn verdict(target: Target, value: f64) -> &'static str {
    if target.met(value) { "met" } else { "MISSED" }
}
