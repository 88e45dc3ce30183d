use netd_common::reason::{DropReason, Hook};
use proptest::prelude::*;

use super::*;
use crate::datapath::{MapRows, Tables};

fn run_of(end: End, out: Option<Vec<u8>>) -> Run {
    Run {
        hook: Hook::EpOut,
        ifindex: 7,
        mark: 3,
        frame: vec![0xab; 14],
        end,
        out,
    }
}

fn case() -> Case {
    let table = MapRows {
        free: Some(9),
        rows: vec![(vec![1, 2], vec![3]), (vec![4, 5], vec![])],
    };
    let bare = MapRows {
        free: None,
        rows: vec![(vec![0; 4], vec![0xff; 8])],
    };
    Case {
        clock: 12_345,
        devices: vec![Device {
            ifindex: 7,
            name: "nde0123456789ab".into(),
            mtu: 1500,
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            forwards4: true,
            forwards6: false,
            speaks6: true,
        }],
        messages: vec![
            Message {
                is_rule: true,
                words: "Inet: ToTable, table 254".into(),
                bytes: vec![1, 2, 3],
            },
            Message {
                is_rule: false,
                words: String::new(),
                bytes: vec![4],
            },
        ],
        tables: Tables::from([("LIMITS".into(), bare), ("PORT".into(), table)]),
        runs: vec![
            run_of(End::Sent(4), None),
            run_of(End::Peer(5), Some(vec![1])),
            run_of(End::Received(6), Some(vec![])),
            run_of(End::Copied(vec![]), Some(vec![2])),
            run_of(End::Copied(vec![3, 4]), Some(vec![2])),
            run_of(End::Waits, Some(vec![2])),
            run_of(End::Cut, Some(vec![2])),
            run_of(End::Next, Some(vec![2])),
            run_of(End::Dropped(DropReason::Isolated), Some(vec![2])),
        ],
    }
}

#[test]
fn a_case_is_read_back_from_its_text() {
    let case = case();
    assert_eq!(case.to_string().parse(), Ok(case));
}

#[test]
fn each_end_and_each_reason_is_read_back() {
    for reason in DropReason::ALL {
        for hook in Hook::ALL {
            let mut case = case();
            case.runs[0].hook = *hook;
            case.runs[0].end = End::Dropped(*reason);
            assert_eq!(case.to_string().parse(), Ok(case));
        }
    }
}

#[test]
fn what_is_no_case_is_refused_with_its_line() {
    let good = case().to_string();
    for (from, to, line, part) in [
        ("netd-repro 1", "netd-repro 2", 1, "begins with"),
        ("clock 12345", "clock x", 2, "no number"),
        ("clock 12345", "clock", 2, "is missing"),
        ("clock 12345", "clock 1 2", 2, "one word too many"),
        ("020000000001", "0200000001", 3, "six bytes"),
        ("forwards4", "backwards", 3, "backwards"),
        ("rule 010203", "rule 01020", 5, "hexadecimal"),
        ("rule 010203", "rule 0102zz", 5, "hexadecimal"),
        ("rule 010203", "rules 01", 5, "\"rules\""),
        ("run ep_out 7", "run nowhere 7", 12, "no hook"),
        ("dropped isolated", "dropped sadly", 37, "no drop reason"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from} is in the text");
        let e = text.parse::<Case>().unwrap_err().to_string();
        assert!(
            e.starts_with(&format!("line {line} of")) && e.contains(part),
            "{to}: {e}\n{text}"
        );
    }
    assert!("netd-repro 1\nframe 00".parse::<Case>().is_err());
    assert!(
        "".parse::<Case>()
            .unwrap_err()
            .to_string()
            .contains("nothing is run")
    );
}

proptest! {
    #[test]
    fn rows_of_any_bytes_are_read_back(rows in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..99)), 0..9), free: Option<u32>, mark: u32, clock: u64) {
        let mut case = case();
        case.clock = clock;
        case.runs[0].mark = mark;
        case.tables.insert("PORT".into(), MapRows { free, rows });
        case.tables.retain(|_, t| t.free.is_some() || !t.rows.is_empty());
        prop_assert_eq!(case.to_string().parse(), Ok(case));
    }

    #[test]
    fn damaged_text_never_panics(at: prop::sample::Index, with: char) {
        let mut text: Vec<char> = case().to_string().chars().collect();
        let at = at.index(text.len());
        text[at] = with;
        let _ = text.into_iter().collect::<String>().parse::<Case>();
    }
}
