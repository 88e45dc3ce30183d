//! The picture of a run: what each contender reached on one CPU, netd's ratios to its peers and to itself
//! with less on its node, packets one way, attaching.

use std::path::Path;

use anyhow::Result;
use plotters::style::RGBColor;

use super::canvas::{Axis, Canvas, Ink, Side};
use super::compare::{Comparison, Figure};
use super::load::Kind;
use super::peers::IpVersion;
use super::report::{ATTACH_TARGET, Report};
use super::scenario::{self, Placement, Scenario, Variant};
use super::stats;

const WIDTH: i32 = 1240;
const MARGIN: i32 = 40;
/// Width of the names left of a panel.
const NAMES: i32 = 190;
/// Width of the values right of a panel.
const VALUES: i32 = 70;
const ROW: i32 = 22;

const DARK: RGBColor = RGBColor(31, 41, 55);
const GREY: RGBColor = RGBColor(107, 114, 128);
const GRID: RGBColor = RGBColor(229, 231, 235);
const NETD: RGBColor = RGBColor(13, 116, 144);
const PEER: RGBColor = RGBColor(217, 119, 6);
const OTHER: RGBColor = RGBColor(148, 163, 184);
const GOOD: RGBColor = RGBColor(21, 128, 61);
const BAD: RGBColor = RGBColor(185, 28, 28);

const HEADING: Ink = Ink::new(16.0, DARK).bold();
const BODY: Ink = Ink::new(13.0, DARK);
const SMALL: Ink = Ink::new(12.0, GREY);

/// Draws a report as SVG.
pub fn draw(report: &Report, path: &Path) -> Result<()> {
    let figures = |kind| -> Vec<&Figure> {
        let one = report
            .figures
            .iter()
            .filter(|f| f.placement == Placement::One);
        // The control is the bridge once more: a dot on top of another.
        one.filter(|f| f.kind == kind && f.variant != Variant::BridgeAgain)
            .collect()
    };
    let ratios = |kind| -> Vec<&Comparison> {
        report
            .comparisons
            .iter()
            .filter(|c| c.kind == kind && is_shown(c))
            .collect()
    };
    let top = 130;
    let bar_rows = |kind| rows_height(figures(kind).iter().map(|f| f.scenario));
    let ratio_rows = |kind| rows_height(ratios(kind).iter().map(|c| c.scenario));
    let ratio_top = top + bar_rows(Kind::Rr).max(bar_rows(Kind::Crr)) + 100;
    let udp_top = ratio_top + ratio_rows(Kind::Rr).max(ratio_rows(Kind::Crr)) + 100;
    let attach_top = match bar_rows(Kind::Udp).max(ratio_rows(Kind::Udp)) {
        0 => udp_top,
        rows => udp_top + rows + 100,
    };
    let height = if report.attach.is_some() {
        attach_top + attach_rows(report) * ROW + 40
    } else {
        attach_top - 60
    };
    let canvas = Canvas::new(path, (WIDTH.unsigned_abs(), height.unsigned_abs()))?;
    title(&canvas, report)?;
    for (kind, column) in [(Kind::Rr, 0), (Kind::Crr, 1)] {
        let x = column_of(column);
        let (what, better) = match kind {
            Kind::Rr => (
                "TCP_RR: median latency in microseconds",
                "shorter is better",
            ),
            Kind::Crr | Kind::Udp => (
                "TCP_CRR: thousand connections per second",
                "longer is better",
            ),
        };
        heading(
            &canvas,
            x,
            top,
            what,
            &format!("both ends on one CPU; {better}; dots are rounds"),
        )?;
        bars(&canvas, x, top, kind, &figures(kind))?;
        let better = match kind {
            Kind::Rr => "left of 1 is better",
            Kind::Crr | Kind::Udp => "right of 1 is better",
        };
        let what = format!("{}: netd over the kernel's ways and itself", kind.name());
        heading(
            &canvas,
            x,
            ratio_top,
            &what,
            &format!("{better}; one CPU unless it says 2; bar: 95 % CI; red tick: target"),
        )?;
        forest(&canvas, x, ratio_top, &ratios(kind))?;
    }
    if attach_top > udp_top {
        udp(&canvas, udp_top, &figures(Kind::Udp), &ratios(Kind::Udp))?;
    }
    if report.attach.is_some() {
        attach(&canvas, attach_top, report)?;
    }
    canvas.finish()
}

/// Packets one way: what arrived, and the ratios beside it.
fn udp(canvas: &Canvas, top: i32, figures: &[&Figure], ratios: &[&Comparison]) -> Result<()> {
    let left = column_of(0);
    heading(
        canvas,
        left,
        top,
        "UDP, 18 bytes one way: thousand packets per second that arrived",
        "both ends on one CPU; longer is better; dots are rounds",
    )?;
    bars(canvas, left, top, Kind::Udp, figures)?;
    let right = column_of(1);
    heading(
        canvas,
        right,
        top,
        "UDP: netd over the kernel's ways",
        "right of 1 is better; one CPU unless it says 2; bar: 95 % CI",
    )?;
    forest(canvas, right, top, ratios)
}

/// The ceiling has its bar; two CPUs are shown for the main comparison alone.
fn is_shown(c: &Comparison) -> bool {
    let rival = c.a == Variant::Netd && c.b != Variant::Veth;
    c.is_main() || (c.placement == Placement::One && (rival || c.is_control()))
}

/// Left and right pixel of the panel in one of the two columns.
fn column_of(column: i32) -> (i32, i32) {
    let width = (WIDTH - 2 * MARGIN) / 2;
    let left = MARGIN + column * width;
    (left + NAMES, left + width - VALUES - 20 * (1 - column))
}

fn title(canvas: &Canvas, report: &Report) -> Result<()> {
    let ip = if report.options.ip == IpVersion::V4 {
        "IPv4"
    } else {
        "IPv6"
    };
    canvas.text(
        "netd beside the kernel's own ways",
        (MARGIN, 36),
        Side::Right,
        Ink::new(22.0, DARK).bold(),
    )?;
    let mut text = format!(
        "netd {} | {} | Linux {} | {} x {} | {ip} | {} rounds of {} ms cells, interleaved ABBA",
        report.version,
        report.started,
        report.machine.kernel,
        report.machine.cpus,
        report.machine.cpu,
        report.options.rounds(),
        report.options.cell().as_millis()
    );
    if report.options.quick {
        text += " | QUICK RUN";
    }
    canvas.text(&text, (MARGIN, 62), Side::Right, SMALL)
}

fn heading(canvas: &Canvas, (left, _): (i32, i32), top: i32, what: &str, how: &str) -> Result<()> {
    canvas.text(what, (left - NAMES, top - 36), Side::Right, HEADING)?;
    canvas.text(how, (left - NAMES, top - 17), Side::Right, SMALL)
}

/// Pixels a list of rows takes: one for each, and one for the name of each path.
fn rows_height(paths: impl Iterator<Item = Scenario>) -> i32 {
    let paths: Vec<Scenario> = paths.collect();
    let groups = Scenario::ALL.iter().filter(|s| paths.contains(s)).count();
    ROW * i32::try_from(paths.len() + groups).unwrap_or(0)
}

fn color_of(figure: &Figure) -> RGBColor {
    if figure.variant == Variant::Netd {
        NETD
    } else if Some(figure.variant) == figure.scenario.peer() {
        PEER
    } else {
        OTHER
    }
}

/// A bar from zero to the median for each contender, with a dot for each round.
fn bars(canvas: &Canvas, x: (i32, i32), top: i32, kind: Kind, figures: &[&Figure]) -> Result<()> {
    let scale = if kind == Kind::Rr { 1.0 } else { 1000.0 };
    let all: Vec<f64> = figures
        .iter()
        .flat_map(|f| f.rounds.iter().map(|v| v / scale))
        .collect();
    let Some(high) = stats::quantile(&all, 0.98).filter(|h| *h > 0.0) else {
        return Ok(());
    };
    let axis = Axis::new(x, (0.0, high * 1.05));
    axis.draw(
        canvas,
        (top, top + rows_height(figures.iter().map(|f| f.scenario))),
        GRID,
        SMALL,
    )?;
    let mut y = top;
    let mut path = None;
    for figure in figures {
        if path != Some(figure.scenario) {
            path = Some(figure.scenario);
            group(canvas, x.0, y, figure.scenario)?;
            y += ROW;
        }
        let middle = y + ROW / 2;
        let color = color_of(figure);
        let ink = if figure.variant == Variant::Netd {
            Ink::new(13.0, NETD).bold()
        } else {
            BODY
        };
        let Some(median) = stats::median(&figure.rounds).map(|m| m / scale) else {
            continue;
        };
        let who = figure.scenario.who(figure.variant, figure.level);
        canvas.text(&who, (x.0 - 10, middle), Side::Left, ink)?;
        canvas.block((x.0, y + 4), (axis.at(median), y + ROW - 4), color, 0.55)?;
        for round in &figure.rounds {
            canvas.dot((axis.at(round / scale), middle), 2, DARK, 0.45)?;
        }
        canvas.text(&format!("{median:.2}"), (x.1 + 8, middle), Side::Right, ink)?;
        y += ROW;
    }
    Ok(())
}

/// A dot with its interval for each ratio, a line at 1, and a tick at each target.
fn forest(canvas: &Canvas, x: (i32, i32), top: i32, ratios: &[&Comparison]) -> Result<()> {
    let ends = ratios.iter().flat_map(|c| {
        let limit = c.target.map_or(1.0, super::compare::Target::limit);
        [c.ratio.low, c.ratio.high, limit]
    });
    let (low, high) = ends.fold((1.0_f64, 1.0_f64), |(l, h), v| (l.min(v), h.max(v)));
    let axis = Axis::new(x, ((low - 0.03).max(0.5), (high + 0.03).min(2.0)));
    let bottom = top + rows_height(ratios.iter().map(|c| c.scenario));
    axis.draw(canvas, (top, bottom), GRID, SMALL)?;
    canvas.line((axis.at(1.0), top), (axis.at(1.0), bottom), GREY, 2)?;
    let mut y = top;
    let mut path = None;
    for c in ratios {
        if path != Some(c.scenario) {
            path = Some(c.scenario);
            group(canvas, x.0, y, c.scenario)?;
            y += ROW;
        }
        interval(canvas, x, y, axis, c)?;
        y += ROW;
    }
    Ok(())
}

/// One row of the forest.
fn interval(canvas: &Canvas, x: (i32, i32), y: i32, axis: Axis, c: &Comparison) -> Result<()> {
    let middle = y + ROW / 2;
    let color = match c.target {
        Some(target) if target.met(c.ratio.median) => GOOD,
        Some(_) => BAD,
        None => GREY,
    };
    let mut name = if c.is_control() {
        "control: bridge twice".to_owned()
    } else if let (true, Some(more), Some(least)) = (c.is_growth(), c.a_level, c.b_level) {
        let (more, least) = (scenario::count(more), scenario::count(least));
        format!("{more} {} over {least}", c.scenario.unit())
    } else {
        format!("over {}", c.scenario.who(c.b, c.b_level))
    };
    if c.placement == Placement::Two {
        name += ", 2 CPUs";
    }
    let ink = if c.is_main() { BODY } else { SMALL };
    canvas.text(&name, (x.0 - 10, middle), Side::Left, ink)?;
    if let Some(target) = c.target {
        let at = axis.at(target.limit());
        canvas.line((at, y + 2), (at, y + ROW - 2), BAD, 2)?;
    }
    let (low, high) = (axis.at(c.ratio.low), axis.at(c.ratio.high));
    canvas.line((low, middle), (high, middle), color, 3)?;
    canvas.dot((axis.at(c.ratio.median), middle), 5, color, 1.0)?;
    let value = format!("{:.3}", c.ratio.median);
    canvas.text(
        &value,
        (x.1 + 8, middle),
        Side::Right,
        Ink::new(13.0, color).bold(),
    )
}

/// The name of a path above its rows.
fn group(canvas: &Canvas, left: i32, y: i32, path: Scenario) -> Result<()> {
    let at = (left - NAMES, y + ROW / 2);
    canvas.text(path.title(), at, Side::Right, BODY.bold())
}

/// Rows of the picture of attaching.
fn attach_rows(report: &Report) -> i32 {
    3 + i32::try_from(report.attach_scale.len()).unwrap_or(0)
}

/// A dot for each attachment: the floor, netd's call, netd's call to traffic, the same where there are
/// many endpoints.
fn attach(canvas: &Canvas, top: i32, report: &Report) -> Result<()> {
    let Some(attached) = &report.attach else {
        return Ok(());
    };
    let x = (MARGIN + NAMES, WIDTH - MARGIN - VALUES);
    let limit = stats::median(&attached.floor_ms).unwrap_or(0.0) * ATTACH_TARGET.limit();
    let mut rows = vec![
        ("netlink alone (floor)".to_owned(), &attached.floor_ms, PEER),
        ("netd: API call".to_owned(), &attached.call_ms, NETD),
        (
            "netd: call to traffic".to_owned(),
            &attached.traffic_ms,
            NETD,
        ),
    ];
    for at in &report.attach_scale {
        let name = format!("netd, {} endpoints", scenario::count(at.endpoints));
        rows.push((name, &at.traffic_ms, NETD));
    }
    let slowest = rows
        .iter()
        .filter_map(|(_, v, _)| stats::quantile(v, 0.95))
        .fold(limit, f64::max);
    heading(
        canvas,
        x,
        top,
        "Attach one namespace: milliseconds",
        "a dot is one attachment, the thick line the median; red: five times the floor's median",
    )?;
    let axis = Axis::new(x, (0.0, slowest * 1.1));
    let bottom = top + ROW * attach_rows(report);
    axis.draw(canvas, (top, bottom), GRID, SMALL)?;
    canvas.line((axis.at(limit), top), (axis.at(limit), bottom), BAD, 2)?;
    for (row, (name, values, color)) in (0..).zip(rows) {
        let middle = top + ROW * row + ROW / 2;
        if values.is_empty() {
            continue;
        }
        canvas.text(&name, (x.0 - 10, middle), Side::Left, BODY)?;
        for value in values {
            canvas.dot((axis.at(*value), middle), 3, color, 0.35)?;
        }
        if let Some(median) = stats::median(values) {
            let at = axis.at(median);
            canvas.line((at, middle - 8), (at, middle + 8), color, 3)?;
            canvas.text(
                &format!("{median:.2}"),
                (x.1 + 8, middle),
                Side::Right,
                Ink::new(13.0, color).bold(),
            )?;
        }
    }
    Ok(())
}
