//! `docs/operations.md`: what survives what. Each row names tests that exist, or says that it is not covered.

use std::fs;

use anyhow::{Context, Result, bail};

use super::compliance::full_name;
use super::promises::Known;
use crate::workspace;

/// Where it is.
const PAGE: &str = "docs/operations.md";
/// How a row without proof begins to say what netd does.
const OPEN: &str = "not covered";

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    fault: String,
    answer: String,
    tests: Vec<String>,
}

/// The tests the page names.
pub fn tests() -> Result<Vec<String>> {
    Ok(load()?.into_iter().flat_map(|row| row.tests).collect())
}

/// Compares the page with the tests there are.
pub fn check(known: &Known) -> Result<()> {
    let rows = load()?;
    let lines = faults(&rows, |test| known.complaint(test));
    for line in &lines {
        println!("    {line}");
    }
    match lines.len() {
        0 => {
            println!("    {} faults, each with its proof or without", rows.len());
            Ok(())
        }
        n => bail!("{PAGE} is wrong in {n} places"),
    }
}

fn load() -> Result<Vec<Row>> {
    let path = workspace::root().join(PAGE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    parse(&text).with_context(|| format!("in {PAGE}"))
}

/// `| fault | what netd does | what you see | proof |`.
fn parse(text: &str) -> Result<Vec<Row>> {
    // Other tables of the page have other columns.
    let table = text.lines().skip_while(|l| !l.starts_with("| fault |"));
    let rows = table.skip(1).take_while(|l| l.starts_with('|'));
    let rows = rows.filter(|l| !l.starts_with("|--"));
    let row = |line: &str| {
        let line = line.strip_prefix('|').unwrap_or(line);
        let line = line.strip_suffix('|').unwrap_or(line);
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [fault, answer, _, proof] = cells[..] else {
            bail!("this row has not four cells: {line}");
        };
        let names = proof.split('`').skip(1).step_by(2);
        Ok(Row {
            fault: fault.to_owned(),
            answer: answer.to_owned(),
            tests: names.map(full_name).collect(),
        })
    };
    let rows = rows.map(row).collect::<Result<Vec<Row>>>()?;
    if rows.is_empty() {
        bail!("there is no table");
    }
    Ok(rows)
}

/// One line for each thing that is wrong.
fn faults(rows: &[Row], complaint: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut lines = Vec::new();
    for row in rows {
        if row.fault.is_empty() || row.answer.is_empty() {
            lines.push(format!("\"{}\": says nothing", row.fault));
        }
        if row.tests.is_empty() && !row.answer.starts_with(OPEN) {
            lines.push(format!("{}: no test, and not \"{OPEN}\"", row.fault));
        }
        let complaints = row.tests.iter().filter_map(|test| complaint(test));
        lines.extend(complaints.map(|c| format!("{}: {c}", row.fault)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# Page\n\n| fault | does | see | proof |\n|---|---|---|---|\n\
        | kill | goes on | nothing | `daemon::a`, `netd::b` |\n| disk | not covered | | |\n";

    #[test]
    fn every_fault_on_the_page_has_a_test_or_is_open() {
        assert_eq!(faults(&load().unwrap(), |_| None), Vec::<String>::new());
    }

    #[test]
    fn rows_are_read_with_the_tests_they_name() {
        let rows = parse(TABLE).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].tests, ["netd-tests::daemon::a", "netd::b"]);
        assert!(rows[1].tests.is_empty());
        assert!(parse("| too | few |\n").is_err());
        assert!(parse("no table").is_err());
    }

    #[test]
    fn what_is_neither_proven_nor_open_is_named_and_so_is_a_test_that_does_not_exist() {
        let text = TABLE.replace("not covered", "works");
        let lines = faults(&parse(&text).unwrap(), |t| {
            (t == "netd::b").then(|| "gone".to_owned())
        });
        assert_eq!(
            lines,
            ["kill: gone", "disk: no test, and not \"not covered\""]
        );
    }
}
