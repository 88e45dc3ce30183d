//! `netd ns`: compatible with `ip netns`, no daemon needed.

use anyhow::{Context as _, Result};
use netd_tests::lab::process::{self, Output, Running};
use netd_tests::lab::{Lab, netns};
use serde_json::Value;

fn lab() -> Result<Lab> {
    let lab = Lab::builder("ns").without_daemon().build()?;
    lab.node
        .reconfigure(|o| o.netd = netd_tests::lab::node::find_netd().unwrap_or_default());
    Ok(lab)
}

fn ns(lab: &Lab, args: &[&str]) -> Result<Output> {
    lab.node.netd(&[&["ns"], args].concat())
}

#[test]
fn add_ls_and_del_work_with_ip_netns() -> Result<()> {
    let lab = lab()?;
    let name = lab.id().ns("box");
    ns(&lab, &["add", &name])?.success()?;
    let listed =
        process::run(std::process::Command::new("ip").args(["netns", "list"]))?.success()?;
    assert!(listed.contains(&name), "{listed}");
    let lo =
        process::run(std::process::Command::new("ip").args(["-n", &name, "link", "show", "lo"]))?
            .success()?;
    assert!(lo.contains("UP"), "{lo}");
    let shown: Vec<Value> = serde_json::from_str(&lab.node.netd_ok(&["-o", "json", "ns", "ls"])?)?;
    assert!(
        shown
            .iter()
            .any(|l| l.get("name").and_then(Value::as_str) == Some(&name))
    );
    let twice = ns(&lab, &["add", &name])?;
    assert_eq!(twice.code, Some(1));
    assert!(
        twice.stderr.contains(&name) && twice.stderr.trim().lines().count() == 1,
        "{twice:?}"
    );
    ns(&lab, &["del", &name])?.success()?;
    assert!(!netns::list().contains(&name));
    assert_eq!(ns(&lab, &["del", &name])?.code, Some(1));

    // And the other way round.
    process::run(std::process::Command::new("ip").args(["netns", "add", &name]))?.success()?;
    ns(&lab, &["exec", &name, "ip", "link"])?.success()?;
    ns(&lab, &["del", &name])?.success().map(drop)
}

#[test]
fn exec_is_inside_and_passes_on_the_exit_status() -> Result<()> {
    let lab = lab()?;
    let space = lab.namespace("box")?;
    let name = space.name();
    let inside = ns(&lab, &["exec", name, "readlink", "/proc/self/ns/net"])?.success()?;
    let (_, ino) = space.identity()?;
    assert_eq!(inside.trim(), format!("net:[{ino}]"));
    assert_eq!(
        ns(&lab, &["exec", name, "sh", "-c", "exit 7"])?.code,
        Some(7)
    );
    assert_eq!(ns(&lab, &["exec", name, "true"])?.code, Some(0));
    assert_eq!(
        ns(&lab, &["exec", name, "/nosuch/command"])?.code,
        Some(127)
    );
    let killed = process::run(
        lab.node
            .command("sh")
            .args(["-c", "\"$0\" ns exec \"$1\" sh -c 'kill -9 $$'; echo $?"])
            .arg(lab.node.netd_command(&[]).get_program())
            .arg(name),
    )?;
    assert_eq!(killed.stdout.trim(), "137", "{killed:?}");
    // /sys is the machine's: a bpffs stays visible.
    let sys = ns(&lab, &["exec", name, "cat", "/proc/self/mountinfo"])?.success()?;
    assert_eq!(
        sys.matches(" /sys ").count(),
        std::fs::read_to_string("/proc/self/mountinfo")?
            .matches(" /sys ")
            .count()
    );
    Ok(())
}

#[test]
fn adopt_names_the_namespace_of_a_process() -> Result<()> {
    let lab = lab()?;
    let space = lab.namespace("box")?;
    let sleeper = Running::start(space.command("sleep").arg("600"))?;
    let name = lab.id().ns("adopted");
    ns(&lab, &["adopt", &name, &format!("pid:{}", sleeper.pid())])?.success()?;
    assert_eq!(netns::Ns::open(&name)?.identity()?, space.identity()?);
    let said = ns(&lab, &["adopt", &lab.id().ns("nobody"), "pid:4194999"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(!netns::list().contains(&lab.id().ns("nobody")));
    Ok(())
}

#[test]
fn ls_shows_the_endpoints_of_a_namespace() -> Result<()> {
    let lab = Lab::new("ns-endpoints")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let all: Vec<Value> = lab.node.netd_json(&["ns", "ls"])?;
    let line = all
        .iter()
        .find(|l| l.get("name").and_then(Value::as_str) == Some(a.ns.name()));
    let line = line.context("the namespace is not listed")?;
    assert!(line.to_string().contains("\"a\""), "{line}");
    Ok(())
}

/// The line of a veth of a namespace: (peer's name, peer's ifindex, peer's namespace).
fn peer_of(all: &[Value], ns: &str, veth: &str) -> Result<(Value, Value, Value)> {
    let line = all
        .iter()
        .find(|l| l.get("name").and_then(Value::as_str) == Some(ns));
    let line = line.with_context(|| format!("{ns} is not listed"))?;
    let veths = line.get("veths").and_then(Value::as_array);
    let found = veths
        .context("no veths")?
        .iter()
        .find(|v| v.get("name").and_then(Value::as_str) == Some(veth));
    let peer = found
        .and_then(|v| v.get("peer"))
        .with_context(|| format!("{ns} has no {veth}: {line}"))?;
    let field = |name: &str| peer.get(name).cloned().unwrap_or_default();
    Ok((field("name"), field("ifindex"), field("namespace")))
}

#[test]
fn ls_shows_which_veth_is_whose_peer_foreign_ones_too() -> Result<()> {
    let lab = Lab::new("ns-peers")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let (b, c) = (lab.namespace("b")?, lab.namespace("c")?);
    // Ifindexes are counted in each namespace: these pairs have the same ones in different places.
    b.ip(&format!(
        "link add foreign type veth peer name there netns {}\nlink add one type veth peer name two\n",
        c.name()
    ))?;
    // A namespace without a name: a process holds it.
    let holder = Running::start(c.command("unshare").args(["-n", "sleep", "600"]))?;
    let inside = format!("/proc/{}/ns/net", holder.pid());
    netd_tests::lab::wait::until("the namespace without a name", || {
        Ok((netns::identity(inside.as_ref())? != c.identity()?).then_some(()))
    })?;
    c.ip(&format!(
        "link add nameless type veth peer name eth0 netns {}\n",
        holder.pid()
    ))?;
    let all: Vec<Value> = lab.node.netd_json(&["ns", "ls"])?;
    let (node, pid) = (lab.node.ns.name(), format!("pid:{}", holder.pid()));
    for (ns, veth, peer, at) in [
        (a.ns.name(), "eth0", a.info.device.as_str(), node),
        (node, a.info.device.as_str(), "eth0", a.ns.name()),
        (node, "up0", "eth0", lab.outside.ns.name()),
        (b.name(), "foreign", "there", c.name()),
        (c.name(), "there", "foreign", b.name()),
        (b.name(), "one", "two", b.name()),
        (b.name(), "two", "one", b.name()),
        (c.name(), "nameless", "eth0", pid.as_str()),
    ] {
        let (name, _, namespace) = peer_of(&all, ns, veth)?;
        assert_eq!(
            (name.as_str(), namespace.as_str()),
            (Some(peer), Some(at)),
            "{veth} in {ns}"
        );
    }
    assert_eq!(
        peer_of(&all, a.ns.name(), "eth0")?.1.as_u64(),
        Some(u64::from(a.info.ifindex))
    );
    let table = lab.node.netd_ok(&["ns", "ls"])?;
    let line = table
        .lines()
        .find(|l| l.contains("foreign") && l.contains(b.name()));
    assert!(line.is_some_and(|l| l.contains("there")), "{table}");
    Ok(())
}

#[test]
fn bad_names_are_refused() -> Result<()> {
    let lab = lab()?;
    let before = netns::list();
    let long = "x".repeat(256);
    for name in ["", ".", "..", "../x", "a/b", &long] {
        for verb in ["add", "del"] {
            let said = ns(&lab, &[verb, name])?;
            assert!(
                said.code == Some(1) || said.code == Some(2),
                "{name:?}: {said:?}"
            );
            assert!(!said.stderr.trim().is_empty());
        }
    }
    let after = netns::list();
    assert!(
        after
            .iter()
            .filter(|n| n.starts_with(&lab.id().ns("")))
            .count()
            <= before.len()
    );
    assert!(!std::path::Path::new("/run/x").exists());
    Ok(())
}
