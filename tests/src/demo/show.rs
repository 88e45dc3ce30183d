//! The demo's tables.

use std::io::IsTerminal as _;

use comfy_table::{Cell, Color, LineStyle, Table, TableStyle, presets::UTF8_HORIZONTAL_ONLY};

use super::checks::Line;
use super::node_checks::NodeLine;

/// Lines around the table and below its header, none between rows.
const STYLE: TableStyle = UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());

fn new_table(header: &[&str], plain: bool) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header);
    if plain || !std::io::stdout().is_terminal() {
        table.force_no_tty();
    } else {
        table.enforce_styling();
    }
    table
}

/// The table with one blank between columns.
fn narrow(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    format!("{table}\n")
}

fn verdict(works: bool) -> Cell {
    if works {
        Cell::new("works").fg(Color::Green)
    } else {
        Cell::new("FAILED").fg(Color::Red)
    }
}

/// The table of traffic, with the reasons of what failed below it.
pub(super) fn table(lines: &[Line], plain: bool) -> String {
    let mut table = new_table(
        &["what", "from", "to", "tool", "result", "source seen"],
        plain,
    );
    for line in lines {
        table.add_row([
            Cell::new(line.what),
            Cell::new(&line.from),
            Cell::new(&line.to),
            Cell::new(line.tool),
            verdict(line.failure.is_none()),
            Cell::new(line.seen.map_or_else(|| "-".to_owned(), |s| s.to_string())),
        ]);
    }
    let mut text = narrow(table);
    for line in lines {
        if let Some(why) = &line.failure {
            text = format!(
                "{text}FAILED {}, {} to {}, {}: {why}\n",
                line.what, line.from, line.to, line.tool
            );
        }
    }
    text
}

/// The table of what holds on the node.
pub(super) fn node_table(lines: &[NodeLine], plain: bool) -> String {
    let mut table = new_table(&["on the node", "found", "result"], plain);
    for line in lines {
        table.add_row([
            Cell::new(line.claim),
            Cell::new(&line.found),
            verdict(line.holds),
        ]);
    }
    narrow(table)
}
