//! Bytes of the store that are not what was written.

use std::collections::BTreeMap;

use super::super::db::Kind;
use super::disk::{Disk, change, names, shop};

const OLD: [(u32, &str); 2] = [(1, "web"), (2, "db")];
const NEW: [(u32, &str); 2] = [(1, "front"), (3, "late")];

/// The disk before and after a commit.
fn commit() -> (Vec<u8>, Vec<u8>) {
    let disk = shop();
    let (mut db, d) = disk.open().unwrap();
    // While the store is open, as a crash finds it.
    let before = disk.image().bytes.clone();
    db.write(&change(), &d.meta, Kind::Change).unwrap();
    let after = disk.image().bytes.clone();
    (before, after)
}

/// What a start makes of the bytes: one of the two states, or a line that says that they are damaged.
fn outcome(bytes: Vec<u8>, of: &str) -> &'static str {
    match Disk::of(bytes).open() {
        Ok((_, found)) if names(&found) == OLD => "old",
        Ok((_, found)) if names(&found) == NEW => "new",
        Ok((_, found)) => panic!("{of}: {found:?}"),
        Err(e) => {
            let line = e.to_string();
            assert!(
                line.starts_with("store disk") && !line.contains('\n'),
                "{of}: {line}"
            );
            "refused"
        }
    }
}

fn differing(before: &[u8], after: &[u8]) -> Vec<usize> {
    let there = |at: usize| before.get(at).copied().unwrap_or(0);
    (0..after.len())
        .filter(|at| there(*at) != after[*at])
        .collect()
}

/// Where the last record's JSON stands.
fn record(after: &[u8]) -> std::ops::Range<usize> {
    let (start, end) = (&b"{\"number\":3,"[..], &b"\"owner\":\"cli\"}"[..]);
    let find = |from: usize, what: &[u8]| {
        let at = after[from..].windows(what.len()).position(|w| w == what);
        from + at.expect("it is there")
    };
    let at = find(0, start);
    at..find(at, end) + end.len()
}

#[test]
fn a_commit_that_is_torn_at_any_byte_is_there_or_is_not() {
    // Of what is not the record itself: whole pages are written anew.
    const STRIDE: usize = 211;
    let (before, after) = commit();
    let record = record(&after);
    let mut all: BTreeMap<&str, u32> = BTreeMap::new();
    let mut torn = before.clone();
    torn.resize(after.len(), 0);
    for (n, at) in differing(&before, &after).into_iter().enumerate() {
        if n % STRIDE == 0 || record.contains(&at) {
            let found = outcome(torn.clone(), &format!("up to byte {at}"));
            *all.entry(found).or_default() += 1;
        }
        torn[at] = after[at];
    }
    assert_eq!(outcome(after, "whole"), "new");
    println!("{all:?}");
    assert!(!all.contains_key("refused"), "{all:?}");
}

#[test]
fn a_changed_byte_of_the_last_record_is_noticed() {
    let (before, after) = commit();
    let mut all: BTreeMap<&str, u32> = BTreeMap::new();
    let rest = differing(&before, &after).into_iter().step_by(211);
    for at in record(&after).chain(rest) {
        let mut bytes = after.clone();
        bytes[at] ^= 0x01;
        let found = outcome(bytes, &format!("byte {at}"));
        *all.entry(found).or_default() += 1;
    }
    println!("{all:?}");
    assert!(
        all.contains_key("old"),
        "what does not fit its checksum does not count: {all:?}"
    );
}

#[test]
fn a_store_that_is_cut_off_is_refused_or_what_it_was() {
    let (_, after) = commit();
    let mut all: BTreeMap<&str, u32> = BTreeMap::new();
    for len in (1..after.len()).step_by(20_011) {
        let found = outcome(after[..len].to_vec(), &format!("{len} bytes"));
        *all.entry(found).or_default() += 1;
    }
    println!("{all:?}");
}
