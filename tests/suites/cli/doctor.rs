//! `netd doctor`: sees what there is, with and without a daemon, says what is missing, changes nothing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};
use netd_tests::lab::process::{self, Output};
use netd_tests::lab::{ForeignHook, Lab, Side, node};
use serde_json::Value;

fn checks(output: &Output) -> Result<Vec<Value>> {
    serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
}

fn field<'a>(check: &'a Value, name: &str) -> &'a str {
    check.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The one check of a name.
fn named<'a>(all: &'a [Value], name: &str) -> Result<&'a Value> {
    let found = all.iter().find(|c| field(c, "check") == name);
    found.with_context(|| format!("no check {name:?} in {all:?}"))
}

fn doctor(lab: &Lab, more: &[&str]) -> Result<Output> {
    lab.node.netd(&[&["doctor", "-o", "json"], more].concat())
}

fn without_daemon() -> Result<Lab> {
    let lab = Lab::builder("doctor").without_daemon().build()?;
    let netd = node::find_netd()?;
    lab.node.reconfigure(|o| o.netd = netd);
    Ok(lab)
}

#[test]
fn it_looks_without_a_daemon_and_changes_nothing() -> Result<()> {
    let lab = without_daemon()?;
    let state = || -> Result<String> {
        let links = lab.node.ok("ip", &["-o", "link"])?;
        Ok(links + &lab.node.ok("tc", &["qdisc", "show"])?)
    };
    let before = state()?;
    let said = doctor(&lab, &[])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let all = checks(&said)?;
    for name in [
        "privileges",
        "programs",
        "helpers",
        "map types",
        "batched map reads",
        "clsact",
        "veth",
        "uplink up0",
        "hooks of up0",
        "bpffs",
    ] {
        assert_eq!(field(named(&all, name)?, "result"), "ok", "{name}");
    }
    for name in ["TCX", "socket hooks", "cgroup2", "JIT", "BTF", "forwarding"] {
        assert_ne!(field(named(&all, name)?, "result"), "missing", "{name}");
    }
    let daemon = named(&all, "daemon")?;
    assert_eq!(field(daemon, "result"), "note");
    assert!(field(daemon, "found").contains("none answers"), "{daemon}");
    assert_eq!(state()?, before);
    lab.assert_untouched()?;
    let table = lab.node.netd_ok(&["doctor"])?;
    assert_eq!(table.lines().count(), all.len() + 1, "{table}");
    Ok(())
}

#[test]
fn it_says_what_is_missing_and_fails() -> Result<()> {
    let lab = without_daemon()?;
    let said = doctor(&lab, &["--uplink", "none0"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    let all = checks(&said)?;
    let uplink = named(&all, "uplink none0")?;
    assert_eq!(field(uplink, "result"), "missing");
    assert!(!field(uplink, "cost").is_empty() && field(uplink, "remedy").contains("--uplink"));
    // Root without its rights, as in a container.
    let netd = node::find_netd()?;
    let mut barred = lab.node.command("setpriv");
    barred
        .arg("--bounding-set=-bpf,-sys_admin,-net_admin")
        .arg(&netd)
        .args(["doctor", "-o", "json"]);
    let said = process::run(&mut barred)?;
    assert_eq!(said.code, Some(1), "{said:?}");
    let all = checks(&said)?;
    let rights = named(&all, "privileges")?;
    assert_eq!(field(rights, "result"), "missing");
    assert!(field(rights, "found").contains("CAP_NET_ADMIN"), "{rights}");
    // A configuration that cannot be is one line.
    let said = doctor(&lab, &["--config", "/nosuch.toml"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("/nosuch.toml") && said.stderr.trim().lines().count() == 1);
    Ok(())
}

#[test]
fn without_root_it_says_what_it_could_not_see() -> Result<()> {
    let lab = without_daemon()?;
    // Where nobody may execute it.
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
    let netd = dir.path().join("netd");
    std::fs::copy(node::find_netd()?, &netd)?;
    let mut nobody = lab.node.command("setpriv");
    nobody
        .args(["--reuid", "65534", "--clear-groups"])
        .arg(&netd)
        .args(["doctor", "-o", "json"]);
    let said = process::run(&mut nobody)?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let all = checks(&said)?;
    for name in ["programs", "helpers", "TCX", "clsact", "hooks of up0"] {
        let check = named(&all, name)?;
        assert_eq!(field(check, "result"), "note", "{check}");
        assert!(field(check, "found").starts_with("not seen"), "{check}");
    }
    assert_eq!(field(named(&all, "uplink up0")?, "result"), "ok");
    Ok(())
}

#[test]
fn with_a_daemon_it_knows_its_uplinks_networks_and_who_else_is_hooked() -> Result<()> {
    let lab = Lab::new("doctor-daemon")?;
    lab.network_with("big", &["--mtu", "9000"])?;
    let all = checks(&doctor(&lab, &[])?)?;
    assert_eq!(field(named(&all, "daemon")?, "result"), "ok");
    // netd's own programs are there, and nobody else's.
    assert_eq!(field(named(&all, "hooks of up0")?, "result"), "ok");
    let mtu = named(&all, "MTU of network big")?;
    assert_eq!(field(mtu, "result"), "note");
    assert!(field(mtu, "remedy").contains("--mtu 1500"), "{mtu}");
    let _foreign = lab.foreign(Side::Ingress, ForeignHook::Clsact)?;
    let said = doctor(&lab, &[])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let all = checks(&said)?;
    let hooks = named(&all, "hooks of up0")?;
    assert_eq!(field(hooks, "result"), "note");
    assert!(field(hooks, "found").contains("on ingress"), "{hooks}");
    // What the daemon has for a problem.
    let gone = lab.endpoint("gone", &lab.inspect_network("big")?)?;
    gone.ip("link del eth0\n")?;
    netd_tests::lab::wait::until("the problem to be told", || {
        let all = checks(&doctor(&lab, &[])?)?;
        let problem = all.iter().find(|c| field(c, "check") == "problem");
        Ok(problem
            .filter(|p| field(p, "found").contains("gone"))
            .map(|_| ()))
    })
}
