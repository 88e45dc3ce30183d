//! What goes to stdout: tables for people, the API's own JSON for programs.

use std::io::{self, ErrorKind, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use nix::sys::signal::{SigHandler, Signal, raise, signal};
use serde::Serialize;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// The API's JSON; lists are arrays.
    Json,
}

/// Prints answers in one format.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
}

impl Output {
    /// An output of this format.
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether programs read it.
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints the value as JSON, or as the text that `table` makes of it.
    pub fn show<T: Serialize + ?Sized>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        print(&self.render(value, table)?);
        Ok(())
    }

    fn render<T: Serialize + ?Sized>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<String> {
        let mut text = match self.format {
            Format::Table => table(value),
            Format::Json => serde_json::to_string_pretty(value)?,
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }
}

/// Writes to stdout. When its reader has gone (`netd flow ls | head`) the process ends as by the
/// default SIGPIPE. The signal stays ignored until then, so that a daemon which dies in the middle of
/// a request is an error that can be told.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else {
        return;
    };
    if e.kind() == ErrorKind::BrokenPipe {
        default_sigpipe();
        // If it cannot be raised, the caller's exit status tells the rest.
        let _ = raise(Signal::SIGPIPE);
    }
    eprintln!("netd: cannot write to stdout: {e}");
    std::process::exit(1);
}

/// Gives SIGPIPE its default disposition back, which Rust's runtime takes away: for commands that are
/// executed in this process's place.
pub fn default_sigpipe() {
    // SAFETY: SIG_DFL installs no handler, so no code of ours runs in signal context.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// A table without borders; `right` names the columns (from 0) that hold numbers. Nothing is wrapped:
/// a line is an object, whatever the width of the terminal.
pub fn table<R>(header: &[&str], right: &[usize], rows: R) -> String
where
    R: IntoIterator<Item = Vec<String>>,
{
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec())
        .add_rows(rows);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    trimmed(&table)
}

/// Names and values below each other, for one object.
pub fn fields<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .add_rows(
            rows.into_iter()
                .map(|(name, value)| [format!("{name}:"), value]),
        );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    table
        .lines()
        .fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// `-` for nothing, else the items with commas.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    if items.is_empty() {
        "-".into()
    } else {
        items.join(", ")
    }
}

/// `yes` or `no`.
pub fn yes(is: bool) -> String {
    if is { "yes".into() } else { "no".into() }
}

/// `K=V` pairs.
pub fn labels(labels: &netd_api::Labels) -> String {
    list(labels.iter().map(|(k, v)| format!("{k}={v}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_no_line_is_wrapped_or_padded() {
        let long = "2001:db8:".repeat(30);
        let text = table(
            &["NAME", "PACKETS", "ADDRESS"],
            &[1],
            [
                vec!["a".into(), "1".into(), long.clone()],
                vec!["longer".into(), "12345678".into(), "x".into()],
            ],
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "NAME     PACKETS  ADDRESS");
        assert_eq!(lines[1], format!("a              1  {long}"));
        assert_eq!(lines[2], "longer  12345678  x");
    }

    #[test]
    fn an_empty_list_is_a_header_and_an_empty_array() {
        let none: [String; 0] = [];
        let show = |f| {
            Output::new(f)
                .render(&none[..], |_| table(&["NAME"], &[], []))
                .unwrap()
        };
        assert_eq!(show(Format::Table), "NAME\n");
        assert_eq!(show(Format::Json), "[]\n");
    }

    #[test]
    fn fields_are_aligned() {
        let text = fields([("name", "web".to_owned()), ("addresses", "-".to_owned())]);
        assert_eq!(text, "name:       web\naddresses:  -\n");
    }

    #[test]
    fn lists_of_nothing_are_a_dash() {
        assert_eq!(list(Vec::<String>::new()), "-");
        assert_eq!(list([1, 2]), "1, 2");
    }
}
