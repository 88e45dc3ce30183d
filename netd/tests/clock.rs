//! No wall clock decides anything: a step of the clock, by a day or by a year, changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// What reads the wall clock, in Rust, in C, and in programs.
const WALL: [&str; 8] = [
    "SystemTime",
    "UNIX_EPOCH",
    "CLOCK_REALTIME",
    "CLOCK_TAI",
    "gettimeofday",
    "libc::time(",
    "ktime_get_real",
    "ktime_get_tai",
];

/// Sources that read it, and only to tell people when something happened.
const SHOWN: [&str; 2] = ["netd/src/daemon/events.rs", "netd/src/observe/reader.rs"];

fn sources(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

#[test]
fn no_source_reads_the_wall_clock_but_to_show_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = Vec::new();
    for dir in [
        "netd/src",
        "netd/api/src",
        "netd-common/src",
        "netd-ebpf/src",
    ] {
        sources(&root.join(dir), &mut all);
    }
    assert!(all.len() > 150, "{} sources are not all", all.len());
    let reads = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        WALL.iter().any(|word| text.contains(word))
    };
    let mut found: Vec<String> = all
        .iter()
        .filter(|path| reads(path))
        .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    found.sort();
    assert_eq!(found, SHOWN);
}
