//! The Rust test around a case.

use super::case::Case;
use crate::trace::{End, summary};

/// A whole source file with one test. `words`: the packet and where it came in; `remarks`: what else a
/// reader should know.
pub fn source(case: &Case, words: &str, verdict: &str, remarks: &[String]) -> String {
    let mut head = vec![
        format!("`{words}: {verdict}`."),
        String::new(),
        "Made by `netd repro`. Addresses and MACs are those of the node it was made on, and so are the rows:"
            .into(),
        "look through it before you give it away. It runs on any host that can load the programs, as root: in"
            .into(),
        "netd's sources put it below `tests/suites/packet` as a module of `packet.rs`, and then".into(),
        format!("`cargo test -p netd-tests --test packet -- {}`.", name(case)),
    ];
    for remark in remarks {
        head.push(String::new());
        head.push(format!("Note: {remark}."));
    }
    let head: Vec<String> = head
        .iter()
        .map(|line| format!("//! {line}").trim_end().to_owned())
        .collect();
    format!(
        "{}\n\n/// One thing on each line: the clock, devices, routes, rows of the maps, and what is run and how it ends.\n\
         const CASE: &str = \"\\\n{case}\";\n\n#[test]\nfn {}() {{\n    netd_tests::packet::repro::run(CASE);\n}}\n",
        head.join("\n"),
        name(case)
    )
}

/// What the test is called: what became of the packet, and where.
fn name(case: &Case) -> String {
    let Some(last) = case.runs.last() else {
        return "nothing_is_run".into();
    };
    let hook = last.hook.name();
    let v6 = summary(&last.frame)
        .addresses
        .iter()
        .any(std::net::IpAddr::is_ipv6);
    let family = if v6 { "_of_ipv6" } else { "" };
    match &last.end {
        End::Dropped(reason) => {
            format!("a_packet{family}_is_dropped_at_{hook}_as_{}", reason.name())
        }
        _ => format!("a_packet{family}_passes_{hook}"),
    }
}

#[cfg(test)]
mod tests {
    use netd_common::reason::{DropReason, Hook};

    use super::*;
    use crate::repro::Run;

    /// What `netd repro` wrote once, which is compiled and run by the packet suite.
    const WRITTEN: &str = include_str!("../../../tests/suites/packet/reproduced.rs");

    #[test]
    fn what_is_compiled_and_run_by_the_suite_is_what_is_written() {
        let text = WRITTEN
            .split_once("const CASE: &str = \"\\\n")
            .and_then(|(_, rest)| rest.split_once("\";\n"));
        let case: Case = text.expect("the text").0.parse().expect("a case");
        let head = WRITTEN.lines().next().and_then(|l| l.strip_prefix("//! `"));
        let head = head.and_then(|l| l.strip_suffix("`.")).expect("a head");
        let (words, verdict) = head.rsplit_once(": dropped").expect("packet and verdict");
        let again = source(&case, words, &format!("dropped{verdict}"), &[]);
        assert_eq!(again, WRITTEN, "make it anew: docs/testing.md");
    }

    #[test]
    fn the_source_holds_the_case_and_says_that_it_tells_addresses() {
        let run = Run {
            hook: Hook::EpOut,
            ifindex: 7,
            mark: 0,
            frame: vec![1; 20],
            end: End::Dropped(DropReason::Isolated),
            out: Some(vec![1; 20]),
        };
        let case = Case {
            runs: vec![run],
            ..Case::default()
        };
        let source = source(&case, "a packet", "dropped", &["made up".into()]);
        assert!(source.contains("Addresses and MACs are those of the node"));
        assert!(source.contains("//! Note: made up."));
        assert!(source.contains("fn a_packet_is_dropped_at_ep_out_as_isolated() {"));
        let text = source
            .split_once("const CASE: &str = \"\\\n")
            .and_then(|(_, rest)| rest.split_once("\";\n"));
        let read: Case = text.expect("the text").0.parse().expect("a case");
        assert_eq!(read, case);
        // The text stands in a literal as it is.
        assert!(!case.to_string().contains(['"', '\\']));
    }
}
