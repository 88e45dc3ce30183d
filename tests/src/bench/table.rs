//! A run's result for people: tables, and what to think of them.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, presets};

use super::attach::{AtScale, Attached};
use super::compare::Target;
use super::peers::IpVersion;
use super::programs::Programs;
use super::report::{ATTACH_TARGET, RSS_TARGET, Report};
use super::scenario;
use super::stats;

/// Other CPUs busier than this while one was measured: somebody else was at work.
const QUIET_PCT: f64 = 10.0;

/// The whole result.
pub fn show(report: &Report) -> String {
    let mut tables = Vec::new();
    if !report.comparisons.is_empty() {
        tables.push(ratios(report));
    }
    if !report.figures.is_empty() {
        tables.push(figures(report));
    }
    tables.extend(report.attach.as_ref().map(attach_table));
    if !report.attach_scale.is_empty() {
        tables.push(attach_scale_table(&report.attach_scale));
    }
    if let Some(programs) = &report.programs {
        tables.extend([ways_table(programs), sizes_table(programs)]);
    }
    let tables: Vec<String> = tables.iter().map(Table::to_string).collect();
    format!(
        "\n{} - Linux {} - {} x {} - {} rounds of {} ms cells, IP{}\n\n{}\n\n{}\n",
        report.started,
        report.machine.kernel,
        report.machine.cpus,
        report.machine.cpu,
        report.options.rounds(),
        report.options.cell().as_millis(),
        if report.options.ip == IpVersion::V4 {
            "v4"
        } else {
            "v6"
        },
        tables.join("\n\n"),
        remarks(report).join("\n"),
    )
}

fn ratios(report: &Report) -> Table {
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
    for c in &report.comparisons {
        let control = c.is_control();
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
                c.scenario.who(c.a, c.a_level)
            },
            c.scenario.who(c.b, c.b_level),
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

fn figures(report: &Report) -> Table {
    let mut table = new_table(&[
        "path",
        "CPUs",
        "test",
        "who",
        "p50 us",
        "p99 us",
        "per second",
        "CPU ns",
        "lost %",
        "failed",
    ]);
    let mut group = None;
    for f in &report.figures {
        // What a row shares with the one above is not said again.
        let own = Some((f.scenario, f.placement, f.kind));
        let new = group != own;
        group = own;
        let once = |text: String| if new { text } else { String::new() };
        table.add_row([
            once(f.scenario.title().to_owned()),
            once(f.placement.count().to_string()),
            once(f.kind.name().to_owned()),
            f.scenario.who(f.variant, f.level),
            known(f.p50_us, 2),
            known(f.p99_us, 1),
            format!("{:.0}", f.rate),
            known(f.cpu_ns, 0),
            known(f.lost_pct, 2),
            f.failures.to_string(),
        ]);
    }
    right_aligned(&mut table, 4..10);
    table
}

/// A figure, where there is one.
fn known(value: Option<f64>, decimals: usize) -> String {
    value.map(|v| format!("{v:.decimals$}")).unwrap_or_default()
}

/// What to know before believing the figures, a line each.
fn remarks(report: &Report) -> Vec<String> {
    let others = report.others_pct;
    let mut lines = vec![
        "RR compares the median latency (below 1 is better), CRR connections per second and UDP packets \
         that arrived per second (above 1 is better)."
            .to_owned(),
        format!(
            "machine: load {:.2} before and {:.2} after, steal {:.1} %{}",
            report.load[0],
            report.load[1],
            report.steal_pct,
            others.map(|p| format!(", CPUs not measured {p:.0} % busy")).unwrap_or_default(),
        ),
    ];
    if others.is_some_and(|p| p > QUIET_PCT) {
        lines.push(
            "WARNING: something else was running: these figures are disturbed, run again on a quiet machine"
                .to_owned(),
        );
    }
    if report.options.quick {
        lines.push(
            "a quick run: it shows that everything works, the figures mean nothing".to_owned(),
        );
    }
    let failures: u32 = report.figures.iter().map(|f| f.failures).sum();
    if failures > 0 {
        lines.push(format!(
            "WARNING: {failures} transactions or packets failed, see the table"
        ));
    }
    lines
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

fn attach_scale_table(all: &[AtScale]) -> Table {
    let mut table = new_table(&[
        "attach one more",
        "n",
        "call p50 ms",
        "to traffic p50 ms",
        "over the first [95 % CI]",
    ]);
    right_aligned(&mut table, 1..4);
    for (number, at) in all.iter().enumerate() {
        let ratio = all
            .first()
            .filter(|_| number > 0)
            .and_then(|least| at.over(least));
        table.add_row([
            format!("netd, {} endpoints there", scenario::count(at.endpoints)),
            at.traffic_ms.len().to_string(),
            known(stats::median(&at.call_ms), 2),
            known(stats::median(&at.traffic_ms), 2),
            ratio
                .map(|r| format!("{:.2} [{:.2} - {:.2}]", r.median, r.low, r.high))
                .unwrap_or_default(),
        ]);
    }
    table
}

fn ways_table(programs: &Programs) -> Table {
    let mut table = new_table(&["one packet in a program", "hook", "IPv4 ns", "IPv6 ns"]);
    right_aligned(&mut table, 2..4);
    for way in &programs.ways {
        table.add_row([
            way.what.to_owned(),
            way.program.to_owned(),
            format!("{:.0}", way.v4_ns),
            format!("{:.0}", way.v6_ns),
        ]);
    }
    table
}

fn sizes_table(programs: &Programs) -> Table {
    let mut table = new_table(&["program", "instructions", "verified"]);
    right_aligned(&mut table, 1..3);
    let known = |n: Option<u32>| n.map(scenario::count).unwrap_or_default();
    for size in &programs.sizes {
        table.add_row([
            size.program.to_owned(),
            known(size.instructions),
            known(size.verified),
        ]);
    }
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
