//! Holds `docs/maps.md` to the code: every pinned map stands there with its sizes and entries, and no other.

use std::collections::BTreeMap;
use std::path::Path;

use netd::datapath::LAYOUTS;
use netd_common::maps::{name, size};
use netd_common::reason::STATS_LEN;

/// Entries of each pinned map as the programs declare them.
const ENTRIES: [(&str, u32); 24] = [
    (name::PORT, size::PORT),
    (name::FDB, size::FDB),
    (name::LEARNED, size::LEARNED),
    (name::METER, size::PORT),
    (name::AGED, size::PORT),
    (name::HOST4, size::HOST),
    (name::HOST6, size::HOST),
    (name::SEGMENT, size::SEGMENT),
    (name::FLOW4, size::FLOW),
    (name::FLOW6, size::FLOW),
    (name::MAP4, size::MAPPING),
    (name::MAP6, size::MAPPING),
    (name::SENT, size::SENT),
    (name::USAGE, size::USAGE),
    (name::LIMITS, 1),
    (name::PUBLISH, size::PUBLISH),
    (name::FLOAT, size::FLOAT),
    (name::FROM, size::FROM),
    (name::UPLINK, size::UPLINK),
    (name::LOCAL, size::LOCAL),
    (name::DENY, size::DENY),
    (name::NODE, 1),
    (name::STATS, STATS_LEN),
    (name::CALLED, size::CALLED),
];

/// A row of the table of pinned maps: key size, value size, entries.
type Row = (u32, u32, u32);

/// The number in the last parentheses of a cell.
fn bytes(cell: &str) -> Option<u32> {
    let (_, tail) = cell.rsplit_once('(')?;
    tail.split_once(')')?.0.parse().ok()
}

/// `| map | type | key | value | entries | ...` of the section on pinned maps.
fn rows(text: &str) -> BTreeMap<String, Row> {
    let section = text.split("\n## Pinned maps\n").nth(1).unwrap_or_default();
    let table = section
        .lines()
        .skip_while(|l| !l.starts_with("| map | type |"));
    let lines = table.take_while(|l| l.starts_with('|'));
    lines
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            let row = (
                bytes(cells.get(3)?)?,
                bytes(cells.get(4)?)?,
                cells.get(5)?.parse().ok()?,
            );
            Some((name.to_owned(), row))
        })
        .collect()
}

#[test]
fn the_page_lists_every_pinned_map_with_its_sizes_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/maps.md");
    let text = std::fs::read_to_string(&path).expect("docs/maps.md");
    let entries: BTreeMap<&str, u32> = ENTRIES.into_iter().collect();
    let code: BTreeMap<String, Row> = LAYOUTS
        .iter()
        .map(|(name, key, value)| ((*name).to_owned(), (*key, *value, entries[name])))
        .collect();
    assert_eq!(rows(&text), code, "{}", path.display());
}

#[test]
fn a_wrong_size_or_a_missing_map_would_be_seen() {
    let page = "# Maps\n\n## Pinned maps\n\n| map | type | key | value | entries |\n|---|---|---|---|---|\n\
                | `A` | hash | `K` (x) (4) | `V` (80) | 16 |\n| `B` | hash | no size | `V` (1) | 1 |\n\n| `C` |\n";
    let found = rows(page);
    assert_eq!(found.get("A"), Some(&(4, 80, 16)));
    assert_eq!(found.len(), 1, "{found:?}");
}
