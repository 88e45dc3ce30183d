//! The programs load, and stay within their budgets.

use aya::util::KernelVersion;
use netd::datapath::{CLASSIFIERS, SOCKETS, XDP};
use netd_common::stage::Stage;
use netd_tests::packet::World;

// `netd_up_own` looks for a port of the node by two ways: a flow in the way, or a published port.
// `netd_ep_out` and `netd_gw_out` flood by several ways: the verifier walks the bucket's four tries on each.
/// Instructions the verifier may walk in each program: a quarter above what it walked when the budget
/// was set (Linux 6.18). Older verifiers walk more of the same program and get [`OLDER`] times as much. The
/// verifier's own limit is a million; what grows near it fails on other kernels first. What may begin flows
/// also counts them and, where there is no room for one, walks both tables (15,000 instructions).
const BUDGETS: [(&str, u32); 29] = [
    ("netd_ep_out", 75_000),
    ("netd_ep_in", 65),
    ("netd_gw_out", 7_800),
    ("netd_up_in", 22_000),
    ("netd_up_out", 21_000),
    ("netd_ep_new", 108_000),
    ("netd_up_new", 85_000),
    ("netd_up_own", 93_000),
    ("netd_ep_frag", 42_000),
    ("netd_up_frag", 78_000),
    ("netd_own_frag", 60_000),
    ("netd_frag_first", 6_100),
    ("netd_icmp", 86_000),
    ("netd_answer", 61_000),
    ("netd_ep_float", 72_000),
    ("netd_up_float", 72_000),
    ("netd_own_float", 65_000),
    ("netd_split", 8_000),
    ("netd_xdp", 3_400),
    ("netd_sock_conn4", 470),
    ("netd_sock_conn6", 1_270),
    ("netd_sock_send4", 475),
    ("netd_sock_send6", 1_230),
    ("netd_sock_recv4", 105),
    ("netd_sock_recv6", 170),
    ("netd_sock_peer4", 105),
    ("netd_sock_peer6", 170),
    ("netd_sock_bind4", 220),
    ("netd_sock_bind6", 455),
];

/// What verifiers before Linux 6.12 may walk more (6.1 walks 1.6 times as much of `netd_gw_out` as 6.18):
/// there the programs only have to stay far from the limit.
const OLDER: u32 = 4;

/// All of them, but the one that only user space runs.
fn programs() -> Vec<&'static str> {
    let stages = Stage::ALL.iter().map(|stage| stage.program());
    let hooked = CLASSIFIERS.into_iter().chain(SOCKETS).chain([XDP]);
    hooked.chain(stages).collect()
}

#[test]
fn all_programs_load() {
    World::fresh(|w| {
        w.datapath().load_sockets().expect("the socket hooks load");
        for name in programs() {
            let program = w.datapath().ebpf().program_mut(name);
            let program = program.unwrap_or_else(|| panic!("{name} is missing"));
            assert!(program.fd().is_ok(), "{name} is not loaded");
        }
    });
}

#[test]
fn no_program_exceeds_its_budget_of_verified_instructions() {
    let mut known: Vec<&str> = BUDGETS.iter().map(|(name, _)| *name).collect();
    let mut all = programs();
    known.sort_unstable();
    all.sort_unstable();
    assert_eq!(known, all, "every program has a budget");
    let kernel = KernelVersion::current().expect("the kernel's version");
    let times = if kernel < KernelVersion::new(6, 12, 0) {
        OLDER
    } else {
        1
    };
    World::fresh(|w| {
        let mut over = Vec::new();
        w.datapath().load_sockets().expect("the socket hooks load");
        for (name, budget) in BUDGETS.map(|(name, budget)| (name, budget * times)) {
            let program = w.datapath().ebpf().program_mut(name);
            let info = program
                .unwrap_or_else(|| panic!("{name} is missing"))
                .info();
            let Some(verified) = info
                .expect("the program's info")
                .verified_instruction_count()
            else {
                println!("SKIP: this kernel does not report verified instructions");
                return;
            };
            println!("{name}: {verified} of {budget}");
            if verified > budget {
                over.push(format!("{name}: {verified} of {budget}"));
            }
        }
        assert_eq!(over, Vec::<String>::new());
    });
}
