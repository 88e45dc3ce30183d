//! Each thing that can be wrong is said, with what it costs and what to do.

use netd_api::{Status, UplinkStatus};

use super::super::facts::{Network, Uplink};
use super::*;
use crate::datapath::probe::Loaded;

fn status() -> Status {
    serde_json::from_value(serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"), "instance": "default", "pid": 7, "uptime_s": 1,
        "kernel": "6.18", "attach_mode": "tcx", "run_dir": "/run/netd", "state_dir": "/s",
        "bpf_dir": "/b", "uplinks": [], "networks": 1, "endpoints": 2, "published": 0,
        "flows": 0, "problems": []
    }))
    .unwrap()
}

fn healthy() -> Facts {
    Facts {
        kernel: "6.18".into(),
        root: true,
        lacking: vec![],
        load: Ok(Ok(Loaded {
            programs: 6,
            compiled: true,
            sockets: None,
        })),
        programs: Ok(vec![("sched_cls", true), ("xdp", true)]),
        helpers: Ok(vec![("loop", true)]),
        maps: Ok(vec![("hash", true)]),
        batch: Ok(true),
        tcx: Ok(true),
        sockets: Ok(vec![("set_retval", true)]),
        veth: Ok(()),
        clsact: Ok(()),
        btf: true,
        bpffs: Some("/sys/fs/bpf".into()),
        bpf_dir: "/sys/fs/bpf/netd".into(),
        cgroup: Some(("/sys/fs/cgroup".into(), true)),
        cgroup_asked: false,
        ipv6: true,
        forwarding: (false, true),
        files: 1_048_576,
        uplinks: Ok(vec![uplink_named("up0")]),
        networkd: Manager::Absent,
        network_manager: Manager::LeavesAlone("a file".into()),
        daemon: Ok(Daemon {
            status: status(),
            networks: vec![],
        }),
    }
}

fn uplink_named(name: &str) -> Uplink {
    Uplink {
        name: name.into(),
        there: true,
        mtu: 1500,
        v4: true,
        v6: true,
        ..Uplink::default()
    }
}

/// What is not ok after a change.
fn after(change: impl FnOnce(&mut Facts)) -> Vec<Check> {
    let mut f = healthy();
    change(&mut f);
    let mut all = judge(&f);
    all.retain(|c| c.result != Verdict::Ok);
    all
}

fn one(change: impl FnOnce(&mut Facts)) -> Check {
    let mut all = after(change);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn a_healthy_machine_has_nothing_to_say() {
    assert_eq!(after(|_| {}), []);
}

#[test]
fn what_the_daemon_cannot_do_without_is_missing_and_says_how_to_get_it() {
    type Change = fn(&mut Facts);
    let changes: [(&str, Change); 9] = [
        ("privileges", |f| f.lacking = vec!["CAP_BPF"]),
        ("programs", |f| f.load = Ok(Err("refused".into()))),
        ("program types", |f| f.programs = Ok(vec![("xdp", false)])),
        ("helpers", |f| f.helpers = Ok(vec![("loop", false)])),
        ("map types", |f| f.maps = Ok(vec![("lpm_trie", false)])),
        ("batched map reads", |f| f.batch = Ok(false)),
        ("veth", |f| f.veth = Err("not supported".into())),
        ("clsact", |f| f.clsact = Err("not supported".into())),
        ("uplink up0", |f| {
            f.uplinks.as_mut().unwrap()[0].there = false;
        }),
    ];
    for (name, change) in changes {
        let all = after(change);
        let found = all.iter().find(|c| c.check == name);
        let found = found.unwrap_or_else(|| panic!("{name}: {all:?}"));
        assert_eq!(found.result, Verdict::Missing, "{name}");
        assert!(found.cost.is_some() && found.remedy.is_some(), "{name}");
    }
    let helpers = one(|f| f.helpers = Ok(vec![("loop", false), ("fib_lookup", true)]));
    assert_eq!(helpers.found, "without loop");
}

#[test]
fn what_could_be_better_is_a_note_with_its_cost() {
    type Change = fn(&mut Facts);
    let changes: [(&str, Change); 14] = [
        ("JIT", |f| {
            f.load = Ok(Ok(Loaded {
                programs: 6,
                compiled: false,
                sockets: None,
            }));
        }),
        ("TCX", |f| f.tcx = Ok(false)),
        ("socket hooks", |f| {
            f.sockets = Ok(vec![("set_retval", false)]);
        }),
        ("cgroup2", |f| f.cgroup = None),
        ("cgroup2", |f| f.cgroup = Some(("/x".into(), false))),
        ("BTF", |f| f.btf = false),
        ("IPv6", |f| f.ipv6 = false),
        ("open files", |f| f.files = 256),
        ("networkd", |f| f.networkd = Manager::Touches("x".into())),
        ("NetworkManager", |f| {
            f.network_manager = Manager::Touches("x".into());
        }),
        ("uplinks", |f| f.uplinks = Ok(vec![])),
        ("uplink up0", |f| f.uplinks.as_mut().unwrap()[0].v6 = false),
        ("hooks of up0", |f| {
            f.uplinks.as_mut().unwrap()[0].foreign_tc = vec!["cil_from (id 3)".into()];
        }),
        ("XDP of up0", |f| {
            f.uplinks.as_mut().unwrap()[0].foreign_xdp = vec!["other (id 4)".into()];
        }),
    ];
    for (name, change) in changes {
        let found = one(change);
        assert_eq!((found.check.as_str(), found.result), (name, Verdict::Note));
        assert!(found.cost.is_some() && found.remedy.is_some(), "{name}");
    }
}

#[test]
fn a_cgroup_that_was_asked_for_must_be_one() {
    let found = one(|f| {
        f.cgroup = Some(("/x".into(), false));
        f.cgroup_asked = true;
    });
    assert_eq!(
        (found.check.as_str(), found.result),
        ("cgroup2", Verdict::Missing)
    );
}

#[test]
fn a_refused_program_of_the_socket_hooks_is_told_in_the_kernels_words() {
    let found = one(|f| {
        f.load.as_mut().unwrap().as_mut().unwrap().sockets = Some("no such helper".into());
    });
    assert_eq!(found.check, "socket hooks");
    assert_eq!(
        (found.result, found.found.as_str()),
        (Verdict::Note, "no such helper")
    );
}

#[test]
fn a_driver_without_native_xdp_costs() {
    let native = |native| move |f: &mut Facts| f.uplinks.as_mut().unwrap()[0].native = native;
    assert_eq!(after(native(Some(true))), []);
    assert_eq!(after(native(None)), []);
    assert_eq!(one(native(Some(false))).check, "XDP of up0");
    let veth = after(|f| {
        let up = &mut f.uplinks.as_mut().unwrap()[0];
        (up.veth, up.native) = (true, Some(false));
    });
    assert_eq!(veth, []);
}

#[test]
fn a_network_larger_than_an_uplink_is_named() {
    let network = |name: &str, mtu, outside| Network {
        name: name.into(),
        mtu,
        outside,
    };
    let found = one(|f| {
        f.daemon.as_mut().unwrap().networks = vec![
            network("big", 9000, true),
            network("fits", 1500, true),
            network("inner", 9000, false),
        ];
    });
    assert_eq!(found.check, "MTU of network big");
    assert!(found.remedy.unwrap().contains("--mtu 1500"));
}

#[test]
fn strict_reverse_paths_matter_with_several_uplinks_only() {
    let strict = |f: &mut Facts| f.uplinks.as_mut().unwrap()[0].rp_filter = 1;
    assert_eq!(after(strict), []);
    let found = one(|f| {
        strict(f);
        f.uplinks.as_mut().unwrap().push(uplink_named("up1"));
    });
    assert_eq!(found.check, "rp_filter of up0");
}

#[test]
fn without_root_it_says_what_it_could_not_see_and_blames_nobody() {
    let hidden = || Err("it takes root".to_owned());
    let all = after(|f| {
        f.root = false;
        f.lacking = vec!["CAP_BPF", "CAP_SYS_ADMIN"];
        f.load = hidden().map(|()| Err(String::new()));
        f.programs = hidden().map(|()| vec![]);
        f.helpers = hidden().map(|()| vec![]);
        f.maps = hidden().map(|()| vec![]);
        f.batch = hidden().map(|()| true);
        f.tcx = hidden().map(|()| true);
        f.sockets = hidden().map(|()| vec![]);
        f.veth = Err("cannot make a network namespace: EPERM".into());
        f.clsact = Err("cannot make a network namespace: EPERM".into());
        f.uplinks.as_mut().unwrap()[0].hidden = Some("it takes root".into());
    });
    assert!(all.iter().all(|c| c.result == Verdict::Note), "{all:?}");
    let unseen = all
        .iter()
        .filter(|c| c.found.starts_with("not seen"))
        .count();
    assert_eq!(unseen, all.len() - 1, "{all:?}");
}

#[test]
fn the_daemon_adds_what_it_knows() {
    let found = one(|f| f.daemon = Err("no netd daemon answers".into()));
    assert_eq!(
        (found.check.as_str(), found.result),
        ("daemon", Verdict::Note)
    );
    let all = after(|f| {
        let status = &mut f.daemon.as_mut().unwrap().status;
        status.problems = vec!["endpoint a is gone".into()];
        status.uplinks = vec![UplinkStatus {
            device: "up0".into(),
            ifindex: 2,
            v4: None,
            v6: None,
            xdp: "off".into(),
            mtu: 1500,
        }];
        status.version = "0.0.9".into();
    });
    let names: Vec<&str> = all.iter().map(|c| c.check.as_str()).collect();
    assert_eq!(names, ["daemon", "XDP of up0", "problem"]);
}
