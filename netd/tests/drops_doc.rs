//! Holds `docs/drops.md` to the code: each drop reason has its line, in the order of the codes, and says what
//! it means, its usual cause and the cure.

use std::path::Path;

use netd_common::reason::DropReason;

/// The cells of each line of the table.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|l| !l.starts_with("| reason |"));
    let lines = lines.skip(2).take_while(|l| l.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_matches('|');
        inner.split('|').map(|c| c.trim().to_owned()).collect()
    };
    lines.map(cells).collect()
}

#[test]
fn every_drop_reason_has_a_line_with_meaning_cause_and_cure() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/drops.md");
    let rows = rows(&std::fs::read_to_string(&path).expect("docs/drops.md"));
    let named: Vec<&str> = rows.iter().map(|r| r[0].trim_matches('`')).collect();
    let wanted: Vec<&str> = DropReason::ALL.iter().map(|r| r.name()).collect();
    assert_eq!(named, wanted, "{}", path.display());
    for row in &rows {
        assert_eq!(row.len(), 4, "{row:?}");
        assert!(row[1..].iter().all(|cell| cell.len() > 3), "{row:?}");
    }
}

#[test]
fn a_missing_cell_would_be_seen() {
    let page = "# Drops\n\n| reason | a | b | c |\n|---|---|---|---|\n| `x` | means | cause |\n";
    assert_eq!(rows(page), [["`x`", "means", "cause"]]);
}
