//! Holds the layouts of the pinned maps to `netd-common/layout.lock`. What is pinned under one generation has one
//! layout for ever, once it is released: a daemon takes what it finds there for its own.

use std::path::{Path, PathBuf};

use netd::datapath::GENERATION;
use netd_common::maps::layout::{MAPS, TYPES};

/// With this environment variable the test writes the file, where that is allowed.
const WRITE: &str = "NETD_WRITE_LAYOUT_LOCK";

const HEAD: &str = "\
# The layouts of the maps that netd pins: sizes in parentheses, fields as OFFSET+SIZE, all in bytes.
# Made by `cargo xtask record layouts` and never by hand, but for the word behind the generation:
# `unreleased` while no release has it; whoever releases makes that `released`, and then it stays as it is.
";

/// The file as the code would have it.
fn text(released: bool) -> String {
    let state = if released { "released" } else { "unreleased" };
    let mut text = format!("{HEAD}generation {GENERATION} {state}\n");
    let maps = MAPS.iter().map(ToString::to_string);
    for line in maps.chain(TYPES.iter().map(ToString::to_string)) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The generation of a file, and whether it is released.
fn generation(text: &str) -> Option<(&str, bool)> {
    let line = text.lines().find_map(|l| l.strip_prefix("generation "))?;
    let (name, state) = line.split_once(' ')?;
    match state {
        "released" => Some((name, true)),
        "unreleased" => Some((name, false)),
        _ => None,
    }
}

/// What is wrong with a file, given what the code would have there; in one line, with what to do.
fn verdict(file: &str, code: &str) -> Result<(), String> {
    let record = "`cargo xtask record layouts`";
    let Some((locked, released)) = generation(file) else {
        return Err(format!(
            "layout.lock has no line `generation NAME released|unreleased`: {record} writes it"
        ));
    };
    let now = generation(code).map_or("", |g| g.0);
    let rest = |text: &'_ str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|l| l.starts_with("map ") || l.starts_with("type "));
        lines.map(str::to_owned).collect()
    };
    let (was, is) = (rest(file), rest(code));
    let changed = was
        .iter()
        .find(|l| !is.contains(l))
        .or_else(|| is.iter().find(|l| !was.contains(l)));
    match changed {
        Some(line) if locked == now && released => Err(format!(
            "generation {now} is released, and a layout of it has changed (`{line}`): count GENERATION up in \
             netd/src/datapath/load.rs, then {record}"
        )),
        Some(line) => Err(format!(
            "layout.lock differs (`{line}`): {record}, and commit it with the change"
        )),
        None if locked != now => Err(format!(
            "layout.lock is of generation {locked}, the code of {now}: {record}"
        )),
        None => Ok(()),
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../netd-common/layout.lock")
}

#[test]
fn the_layouts_of_the_pinned_maps_are_those_of_the_lock_file() {
    let file = std::fs::read_to_string(path()).unwrap_or_default();
    let released = generation(&file).is_some_and(|(name, released)| released && name == GENERATION);
    let code = text(released);
    let said = verdict(&file, &code);
    if said.is_err() && !released && std::env::var_os(WRITE).is_some() {
        std::fs::write(path(), code).expect("layout.lock");
        return;
    }
    assert_eq!(said, Ok(()));
}

#[test]
fn a_changed_layout_fails_with_what_to_do() {
    let one = |generation: &str, state: &str, size: u32| {
        format!("# head\ngeneration {generation} {state}\nmap A: u32 (4) -> u64 ({size})\n")
    };
    let is = |file: &str, code: &str, words: &str| {
        let said = verdict(file, code).expect_err(words);
        assert!(said.contains(words) && !said.contains('\n'), "{said}");
    };
    let now = one("g3", "unreleased", 8);
    assert_eq!(verdict(&now, &now), Ok(()));
    assert_eq!(verdict(&one("g3", "released", 8), &now), Ok(()));
    is(&one("g3", "released", 16), &now, "count GENERATION up");
    is(&one("g3", "unreleased", 16), &now, "record layouts");
    is(&one("g2", "released", 16), &now, "record layouts");
    is(&one("g2", "released", 8), &now, "is of generation g2");
    is("", &now, "no line");
    // A map that comes is a change like another.
    is(
        &one("g3", "released", 8),
        &format!("{now}map B: u32 (4) -> u32 (4)\n"),
        "map B",
    );
}
