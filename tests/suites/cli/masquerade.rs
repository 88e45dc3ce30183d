//! Options of masquerade: of the daemon, of a network, and what the programs are told.

use anyhow::{Context as _, Result};
use netd_api::{Filtering, Profile};
use netd_common::maps::{Range, port_flags};
use netd_tests::lab::{Lab, Network};
use nix::sys::signal::Signal;

/// Profile, filtering and ports as `network inspect` shows them.
fn shown(n: &Network) -> (Option<Profile>, Option<Filtering>, Option<String>) {
    let ports = n.masquerade_ports.map(|p| p.to_string());
    (n.masquerade_profile, n.filtering, ports)
}

/// What the row of an endpoint's device says: flags of masquerade and ports.
fn told(lab: &Lab, device: u32) -> Result<(u32, u16, u16)> {
    let row = lab.node.port_row(device)?;
    let flags = port_flags::STRICT | port_flags::FILTER_ANY | port_flags::FILTER_ADDRESS;
    Ok((row.flags & flags, row.masq_min, row.masq_max))
}

fn silent(lab: &Lab) -> Result<Vec<(u16, u16)>> {
    let ranges = lab.node.node_row()?.silent;
    let used = ranges.iter().filter(|r| **r != Range::default());
    Ok(used.map(|r| (r.min, r.max)).collect())
}

#[test]
fn options_of_masquerade_reach_the_programs_and_change_on_a_live_network() -> Result<()> {
    use port_flags::{FILTER_ADDRESS, FILTER_ANY, STRICT};
    let lab = Lab::new("masquerade-options")?;
    let web = lab.network("web")?;
    let wanted = (Some(Profile::Balanced), Some(Filtering::AddressPort));
    let all = Some("1024-65535".to_owned());
    assert_eq!(shown(&web), (wanted.0, wanted.1, all.clone()));
    let a = lab.endpoint("a", &web)?;
    let device = a.info.ifindex;
    assert_eq!((told(&lab, device)?, silent(&lab)?), ((0, 0, 0), vec![]));
    // The bound flow of before goes on when the options change.
    let server = lab.outside.tcp_listen(lab.outside.v4(), 80)?;
    let mut before = a.tcp_connect((lab.outside.v4(), 80).into())?;
    let (mut accepted, _) = server.accept()?;

    let set = |args: &[&str]| {
        let all = [&["network", "set", "web"], args].concat();
        lab.node.netd_ok(&all)
    };
    set(&["--masquerade-profile", "strict"])?;
    assert_eq!(told(&lab, device)?, (STRICT | FILTER_ADDRESS, 0, 0));
    assert_eq!(silent(&lab)?, [(1024, 65_535)]);
    set(&["--filtering", "endpoint-independent"])?;
    assert_eq!(told(&lab, device)?, (STRICT | FILTER_ANY, 0, 0));
    set(&["--masquerade-ports", "20000-20999"])?;
    let now = (STRICT | FILTER_ANY, 20_000, 20_999);
    assert_eq!(told(&lab, device)?, now);
    assert_eq!(silent(&lab)?, [(20_000, 20_999)]);
    let web = lab.inspect_network("web")?;
    let any = Some(Filtering::EndpointIndependent);
    assert_eq!(
        shown(&web),
        (Some(Profile::Strict), any, Some("20000-20999".into()))
    );
    let text = lab.node.netd_ok(&["network", "inspect", "web"])?;
    for word in ["strict", "endpoint-independent", "20000-20999"] {
        assert!(text.contains(word), "{text}");
    }
    std::io::Write::write_all(&mut before, b"x")?;
    std::io::Read::read_exact(&mut accepted, &mut [0])?;
    drop((server, before, accepted));

    // Another network has the same options from the start, an internal one none.
    let db = lab.network_with(
        "db",
        &[
            "--masquerade-profile",
            "balanced",
            "--filtering",
            "address",
            "--masquerade-ports",
            "30000-30000",
        ],
    )?;
    let b = lab.endpoint("b", &db)?;
    assert_eq!(
        told(&lab, b.info.ifindex)?,
        (FILTER_ADDRESS, 30_000, 30_000)
    );
    assert_eq!(silent(&lab)?, [(20_000, 20_999), (30_000, 30_000)]);
    let inside = lab.network_with("inside", &["--internal"])?;
    assert_eq!(shown(&inside), (None, None, None));

    // The daemon's options are for networks that do not say; they are not stored with them.
    let plain = lab.network("plain")?;
    let c = lab.endpoint("c", &plain)?;
    let options = [
        "--masquerade-profile",
        "strict",
        "--masquerade-ports",
        "5000-5999",
    ];
    lab.node
        .reconfigure(|o| o.args.extend(options.map(str::to_owned)));
    lab.node.restart(Signal::SIGKILL)?;
    assert_eq!(told(&lab, device)?, now);
    assert_eq!(told(&lab, c.info.ifindex)?, (STRICT | FILTER_ADDRESS, 0, 0));
    let plain = lab.inspect_network("plain")?;
    let address = Some(Filtering::Address);
    assert_eq!(
        shown(&plain),
        (Some(Profile::Strict), address, Some("5000-5999".into()))
    );
    let ranges = [(5_000, 5_999), (20_000, 20_999), (30_000, 30_000)];
    assert_eq!(silent(&lab)?, ranges);
    // The outside sees a port of the daemon's range.
    let port = c.tcp_source_seen_by(&lab.outside, 80)?.port();
    assert!((5_000..6_000).contains(&port), "{port}");
    lab.node.reconfigure(|o| {
        o.args.clear();
        o.config = "[masquerade]\nfiltering = 'endpoint-independent'\n".to_owned();
    });
    lab.node.restart(Signal::SIGTERM)?;
    assert_eq!(told(&lab, c.info.ifindex)?, (FILTER_ANY, 0, 0));
    lab.node.netd_ok(&["detach", "b"])?;
    lab.node.netd_ok(&["network", "rm", "db"])?;
    assert_eq!(silent(&lab)?, [(20_000, 20_999)]);
    Ok(())
}

#[test]
fn options_of_masquerade_that_cannot_be_are_refused_and_change_nothing() -> Result<()> {
    let lab = Lab::new("masquerade-refused")?;
    lab.network("web")?;
    lab.network_with("inside", &["--internal"])?;
    for (n, range) in ["2000-2000", "3000-3000", "4000-4000", "5000-5000"]
        .iter()
        .enumerate()
    {
        lab.network_with(&format!("n{n}"), &["--masquerade-ports", range])?;
    }
    let before: serde_json::Value = lab.node.netd_json(&["network", "ls"])?;
    for (code, args, words) in [
        (1, "set web --masquerade-ports 6000-6000", "separate ranges"),
        (1, "create x --masquerade-ports 6000-6000", "2000-2000"),
        (2, "set web --masquerade-ports 9-8", "8-9"),
        (2, "set web --masquerade-ports 0-8", "no port 0"),
        (2, "set web --masquerade-ports 80", "FIRST-LAST"),
        (2, "set web --masquerade-ports 1-65536", "FIRST-LAST"),
        (2, "create x --masquerade-profile loose", "balanced"),
        (2, "set web --filtering none", "endpoint-independent"),
        (1, "set inside --masquerade-profile strict", "internal"),
        (1, "set inside --filtering address", "internal"),
        (1, "create x --internal --masquerade-ports 6-7", "internal"),
        (
            1,
            "create x --no-masquerade --filtering address",
            "not masqueraded",
        ),
        (2, "set web", "--gateway"),
    ] {
        let args: Vec<&str> = std::iter::once("network").chain(args.split(' ')).collect();
        let said = lab.node.netd(&args)?;
        assert_eq!(said.code, Some(code), "{args:?}: {said:?}");
        assert!(
            said.stderr.contains(words) && said.stderr.trim().lines().count() == 1,
            "{args:?}: {said:?}"
        );
    }
    let after: serde_json::Value = lab.node.netd_json(&["network", "ls"])?;
    assert_eq!(before, after);
    // What adjoins a range is no further one.
    lab.node
        .netd_ok(&["network", "set", "web", "--masquerade-ports", "5001-5999"])?;
    Ok(())
}

#[test]
fn a_daemon_with_a_range_too_many_starts_says_so_and_keeps_the_rest_in_order() -> Result<()> {
    let lab = Lab::new("masquerade-too-many")?;
    for (n, range) in ["2000-2000", "3000-3000", "4000-4000", "5000-5999"]
        .iter()
        .enumerate()
    {
        lab.network_with(&format!("n{n}"), &["--masquerade-ports", range])?;
    }
    lab.node.reconfigure(|o| {
        o.args
            .extend(["--masquerade-ports".into(), "9000-9001".into()]);
    });
    let problems = || -> Result<Vec<String>> {
        Ok(lab
            .node
            .netd_json::<netd_api::Status>(&["status"])?
            .problems)
    };
    // Twice: whatever is wrong, a start leaves nothing of the one before.
    for _ in 0..2 {
        lab.node.restart(Signal::SIGKILL)?;
        let all = problems()?;
        assert_eq!(all.len(), 1, "{all:?}");
        let says = ["masquerade ports", "9000-9001", "4 separate ranges"];
        assert!(says.iter().all(|w| all[0].contains(w)), "{all:?}");
        // A load of programs that was cut off leaves such a pin.
        let stages = stages(&lab)?;
        assert_eq!(stages.len(), 1, "{stages:?}");
        let pin = stages.first().context("stages")?;
        std::os::unix::fs::symlink("nowhere", pin.with_file_name("HELD"))?;
    }
    let ranges = [
        (2_000, 2_000),
        (3_000, 3_000),
        (4_000, 4_000),
        (5_000, 5_999),
    ];
    assert_eq!(silent(&lab)?, ranges);
    // What makes it no worse is done all the same.
    lab.node
        .netd_ok(&["network", "set", "n0", "--storm", "9"])?;
    lab.network("plain")?;
    let said = lab
        .node
        .netd(&["network", "create", "x", "--masquerade-ports", "7000-7000"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    lab.node.netd_ok(&["network", "rm", "n3"])?;
    assert_eq!(problems()?, Vec::<String>::new());
    let ranges = [
        (2_000, 2_000),
        (3_000, 3_000),
        (4_000, 4_000),
        (9_000, 9_001),
    ];
    assert_eq!(silent(&lab)?, ranges);
    Ok(())
}

/// What is pinned for stages.
fn stages(lab: &Lab) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for generation in std::fs::read_dir(lab.node.bpf_dir())? {
        let dir = generation?.path().join("stages");
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            found.push(entry?.path());
        }
    }
    Ok(found)
}
