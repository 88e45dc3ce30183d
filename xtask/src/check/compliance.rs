//! `docs/rfc-compliance.md`: each requirement of the RFCs on NAT stands there once, with a mark for each
//! profile, and what is said to be met names the tests that prove it.

use std::fs;

use anyhow::{Context, Result, bail};

use super::promises::Known;
use crate::workspace;

/// Where it is.
const PAGE: &str = "docs/rfc-compliance.md";

/// The requirements of each section, in order. RFC 7857 numbers sections instead.
const SECTIONS: [(&str, &str); 5] = [
    (
        "RFC 4787",
        "1 2 3 3a 4 5 5a 5b 5c 6 6a 7 8 8a 9 9a 10 10a 11 12 12a 12b 13 13a 14 14a",
    ),
    ("RFC 5382", "1 2 2a 3 3a 3b 4 4a 5 5a 6 7 8 8a 9 10"),
    (
        "RFC 5508",
        "1 1a 2 2a 3 3a 3b 3c 3d 4 4a 4b 4c 5 5a 5b 5c 6 7 7a 8 9 10 10a 10b 10c 10d-f 11",
    ),
    ("RFC 7857", "2 2.1 2.2 3 4 5 6 7 7.1 8 9 10 11 12"),
    ("RFC 6888", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"),
];

/// The section of what no RFC numbers.
const FREE: &str = "Beyond the RFCs";

/// What a mark begins with, and whether it needs a test.
const MARKS: [(&str, bool); 4] = [
    ("met", true),
    ("deviates", true),
    ("n/a", false),
    ("not met", false),
];

/// A row of one of the tables.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    section: String,
    id: String,
    marks: [String; 2],
    tests: Vec<String>,
}

/// The tests the page names.
pub fn tests() -> Result<Vec<String>> {
    Ok(load()?.into_iter().flat_map(|row| row.tests).collect())
}

/// Compares the page with the RFCs and with the tests there are.
pub fn check(known: &Known) -> Result<()> {
    let rows = load()?;
    let mut lines = faults(&rows);
    lines.extend(unproven(&rows, |test| known.complaint(test)));
    for line in &lines {
        println!("    {line}");
    }
    match lines.len() {
        0 => {
            println!(
                "    {} requirements of RFCs, each with its mark",
                rows.len()
            );
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

/// `| REQ | what it asks | strict | balanced | proof |`, by sections.
fn parse(text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            title
                .split(':')
                .next()
                .unwrap_or(title)
                .clone_into(&mut section);
        }
        let ours = section == FREE || SECTIONS.iter().any(|(name, _)| *name == section);
        if !ours || !line.starts_with('|') || line.starts_with("|--") || line.starts_with("| REQ |")
        {
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, _, strict, balanced, proof] = cells[..] else {
            bail!("this row has not five cells: {line}");
        };
        let names = proof.split('`').skip(1).step_by(2);
        rows.push(Row {
            section: section.clone(),
            id: id.to_owned(),
            marks: [strict.to_owned(), balanced.to_owned()],
            tests: names.map(full_name).collect(),
        });
    }
    Ok(rows)
}

/// The page leaves out the package of the suites, in which most tests are.
pub(super) fn full_name(test: &str) -> String {
    if test.starts_with("netd") || test.starts_with("xtask") {
        test.to_owned()
    } else {
        format!("netd-tests::{test}")
    }
}

/// One line for each thing that is wrong with the page by itself.
fn faults(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for (section, ids) in SECTIONS {
        let there = rows.iter().filter(|r| r.section == section);
        let there: Vec<&str> = there.map(|r| r.id.as_str()).collect();
        let wanted: Vec<&str> = ids.split(' ').collect();
        if there != wanted {
            lines.push(format!("{section}: the rows are {there:?}, not {wanted:?}"));
        }
    }
    for row in rows {
        let at = format!("{} {}", row.section, row.id);
        for mark in &row.marks {
            match MARKS.iter().find(|(word, _)| says(mark, word)) {
                None => lines.push(format!("{at}: \"{mark}\" is no mark")),
                Some((_, true)) if row.tests.is_empty() => {
                    lines.push(format!("{at}: \"{mark}\", and no test"));
                }
                Some((word, _)) if *word != "met" && mark.len() <= word.len() + 2 => {
                    lines.push(format!("{at}: \"{mark}\" says not why"));
                }
                Some(_) => {}
            }
        }
    }
    lines
}

/// Whether a mark is this word, alone or before more.
fn says(mark: &str, word: &str) -> bool {
    mark.strip_prefix(word)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ';']))
}

fn unproven(rows: &[Row], complaint: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let tests = rows
        .iter()
        .flat_map(|row| row.tests.iter().map(move |t| (row, t)));
    tests
        .filter_map(|(row, test)| {
            complaint(test).map(|c| format!("{} {}: {c}", row.section, row.id))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# Page\n\n## RFC 4787: UDP\n\n| REQ | asks | strict | balanced | proof |\n|--|--|--|--|--|\n\
        | 1 | x | met | deviates: why | `packet::a`, `netd-common::b` |\n\
        | 2 | x | n/a: one address | not met: why | |\n\n## Other\n\n| 1 | no row of ours |\n";

    #[test]
    fn every_requirement_is_on_the_page_once_with_its_marks() {
        assert_eq!(faults(&load().unwrap()), Vec::<String>::new());
    }

    #[test]
    fn rows_are_read_by_section_with_the_tests_they_name() {
        let rows = parse(TABLE).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].tests, ["netd-tests::packet::a", "netd-common::b"]);
        assert_eq!((rows[1].id.as_str(), rows[1].tests.len()), ("2", 0));
        assert_eq!(rows[1].marks, ["n/a: one address", "not met: why"]);
        assert!(parse("## RFC 4787\n| 1 | too | few |\n").is_err());
    }

    #[test]
    fn missing_repeated_and_unmarked_rows_are_named() {
        let rows = parse(TABLE).unwrap();
        let lines = faults(&rows);
        assert_eq!(
            lines.len(),
            SECTIONS.len(),
            "only rows are missing: {lines:?}"
        );
        let wrong = |mark: &str, proof: &str| {
            let line = format!("## RFC 4787\n| 1 | x | {mark} | {mark} | {proof} |\n");
            faults(&parse(&line).unwrap()).len() - SECTIONS.len()
        };
        assert_eq!(wrong("met", "`packet::a`"), 0);
        assert_eq!(wrong("met; but not so", "`packet::a`"), 0);
        for mark in [
            "",
            "yes",
            "metal",
            "deviates",
            "n/a",
            "not met",
            "not met: ",
        ] {
            assert_eq!(wrong(mark, "`packet::a`"), 2, "{mark:?}");
        }
        for mark in ["met", "deviates: why"] {
            assert_eq!(wrong(mark, "none"), 2, "{mark:?}");
        }
    }

    #[test]
    fn a_test_that_does_not_exist_is_named_with_its_row() {
        let rows = parse(TABLE).unwrap();
        let lines = unproven(&rows, |t| {
            (t == "netd-common::b").then(|| "gone".to_owned())
        });
        assert_eq!(lines, ["RFC 4787 1: gone"]);
    }
}
