//! The files under `examples/`, run as they stand on a node with a daemon: every command in them works,
//! they show what they say, and they leave nothing behind.
//!
//! They use names a person would type. So that these meet nobody else's, each test has a `/run/netns` of
//! its own, in a mount namespace of its thread.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use netd_tests::lab::process::{self, Output};
use netd_tests::lab::{Lab, netns, node, wait};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Files with a test below.
const TESTED: [&str; 8] = [
    "01-veth-pair.sh",
    "02-switch.sh",
    "03-gateway-later.sh",
    "04-node-and-namespace.sh",
    "05-masquerade.sh",
    "06-publish-port-80.sh",
    "07-adopt-a-process.sh",
    "08-one-file.sh",
];
/// A file that one of them applies.
const APPLIED: &str = "shop.toml";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// From here on this thread, and what it starts, has a `/run/netns` of its own.
fn names_of_our_own() -> Result<()> {
    std::fs::create_dir_all("/run/netns")?;
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
    let none = None::<&str>;
    let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(none, "/", none, flags, none).context("no mounts of ours for others")?;
    let place = Some("tmpfs");
    mount(place, "/run/netns", place, MsFlags::empty(), none).context("an empty /run/netns")
}

/// A lab in which an example can be run.
fn lab(name: &str) -> Result<Lab> {
    names_of_our_own()?;
    Lab::new(name)
}

/// Runs an example on the node, as a person would: `netd` is in the PATH.
fn run(lab: &Lab, file: &str, env: &[(&str, String)]) -> Result<Output> {
    let netd = node::find_netd()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let dir = netd.parent().context("netd is in no directory")?;
    let mut command = lab.node.command(folder().join(file));
    command
        .env("PATH", format!("{}:{path}", dir.display()))
        .env("NETD_SOCKET", lab.node.socket())
        .envs(env.iter().map(|(k, v)| (k, v)));
    process::run(&mut command)
}

/// Runs an example that must work, show all of `shows`, and clean up behind itself; what it printed.
fn works(lab: &Lab, file: &str, env: &[(&str, String)], shows: &[&str]) -> Result<String> {
    let names = || netns::list().into_iter().collect::<BTreeSet<_>>();
    let devices = || -> Result<BTreeSet<_>> { Ok(lab.node.devices()?.into_iter().collect()) };
    let before = (names(), devices()?);
    let shown = run(lab, file, env)?.success()?;
    for text in shows {
        assert!(shown.contains(text), "{text:?} is not in:\n{shown}");
    }
    assert!(shown.ends_with("== done\n"), "{shown}");
    assert_eq!(lab.node.netd_ok(&["endpoint", "ls", "-o", "json"])?, "[]\n");
    assert_eq!(lab.node.netd_ok(&["network", "ls", "-o", "json"])?, "[]\n");
    assert_eq!(names(), before.0, "namespaces");
    // Devices of detached endpoints go a moment later.
    wait::until("the node's devices to be what they were", || {
        Ok((devices()? == before.1).then_some(()))
    })?;
    Ok(shown)
}

/// How many pings were answered.
fn answered(shown: &str) -> usize {
    shown
        .matches("1 packets transmitted, 1 received, 0% packet loss")
        .count()
}

#[test]
fn every_file_has_a_test() -> Result<()> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder())? {
        files.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    let readme = std::fs::read_to_string(folder().join("README.md"))?;
    assert!(files.remove("README.md"));
    assert!(files.remove(APPLIED) && readme.contains(APPLIED));
    assert_eq!(files, TESTED.map(str::to_owned).into_iter().collect());
    for file in TESTED {
        assert!(readme.contains(file), "{file} is not in the folder's page");
        let text = std::fs::read_to_string(folder().join(file))?;
        let name = file.trim_end_matches(".sh");
        // Named here, so that none is in the list only.
        let this = include_str!("examples.rs");
        assert!(this.matches(name).count() > 1, "{file} is not run");
        assert!(text.contains("\n# Cleaning up."), "{file}");
    }
    Ok(())
}

#[test]
fn a_veth_pair_between_two_namespaces() -> Result<()> {
    let lab = lab("example-pair")?;
    let shows = ["cable0", "red-cable", "10.71.0.2"];
    let shown = works(&lab, "01-veth-pair.sh", &[], &shows)?;
    assert_eq!(answered(&shown), 4, "{shown}");
    let pair = |a: &str, b: &str| {
        let mut lines = shown.lines().map(|l| l.split_whitespace());
        lines.any(|mut l| l.next() == Some(a) && l.skip(2).eq(["cable0", "cable0", b]))
    };
    assert!(pair("red", "blue") && pair("blue", "red"), "{shown}");
    Ok(())
}

#[test]
fn three_namespaces_on_a_switch() -> Result<()> {
    let lab = lab("example-switch")?;
    let shows = ["red-switch", "green-switch", "blue-switch"];
    let shown = works(&lab, "02-switch.sh", &[], &shows)?;
    assert_eq!(answered(&shown), 6, "{shown}");
    Ok(())
}

#[test]
fn a_gateway_that_comes_later() -> Result<()> {
    let lab = lab("example-gateway")?;
    let shows = [
        "default via 10.73.0.1 dev eth0",
        "default via fd73::1 dev eth0",
        "nd-switch",
    ];
    let shown = works(&lab, "03-gateway-later.sh", &[], &shows)?;
    assert_eq!(answered(&shown), 6, "{shown}");
    let routes = shown.matches("default via 10.73.0.1").count();
    assert_eq!(
        routes, 1,
        "a default route before there was a gateway:\n{shown}"
    );
    Ok(())
}

#[test]
fn the_node_and_a_namespace() -> Result<()> {
    let lab = lab("example-node")?;
    let shows = [
        "hello 10.74.0.1\n",
        "hello [fd74:",
        "10.74.0.1/24",
        "fd74::1/64",
    ];
    let shown = works(&lab, "04-node-and-namespace.sh", &[], &shows)?;
    assert_eq!(answered(&shown), 4, "{shown}");
    assert_eq!(shown.matches("hello ").count(), 2, "{shown}");
    Ok(())
}

#[test]
fn masquerade() -> Result<()> {
    let lab = lab("example-masquerade")?;
    let (node4, node6) = (lab.node.v4().to_string(), lab.node.v6().to_string());
    let shown = works(
        &lab,
        "05-masquerade.sh",
        &[],
        &["masquerade", &node4, &node6],
    )?;
    assert_eq!(answered(&shown), 2, "{shown}");
    Ok(())
}

#[test]
fn port_80_is_published() -> Result<()> {
    let lab = lab("example-publish")?;
    let outside = format!("nsenter --net={}", lab.outside.ns.path().display());
    let v4 = format!("hello {}\n", lab.outside.v4());
    let shown = works(
        &lab,
        "06-publish-port-80.sh",
        &[("CLIENT", outside)],
        &["box-web", &v4, "hello [2001:0db8:"],
    )?;
    assert_eq!(shown.matches("hello ").count(), 2, "{shown}");
    // Without a client elsewhere the node itself asks; the server sees its address on the network.
    let shown = works(&lab, "06-publish-port-80.sh", &[], &["hello 10.76.0.1\n"])?;
    assert_eq!(shown.matches("hello ").count(), 2, "{shown}");
    Ok(())
}

#[test]
fn the_namespace_of_a_process_is_adopted() -> Result<()> {
    let lab = lab("example-adopt")?;
    let shown = works(&lab, "07-adopt-a-process.sh", &[], &["guest"])?;
    assert_eq!(answered(&shown), 2, "{shown}");
    Ok(())
}

#[test]
fn one_file_is_applied_changed_and_deleted() -> Result<()> {
    let lab = lab("example-file")?;
    let shows = [
        "+ network front\n",
        "to be created: 7, changed: 0, made anew: 0, removed: 0",
        "nothing to do\n",
        "hello 10.78.0.1\n",
        "- publish 8079/tcp\n",
        "removed: 6",
    ];
    let shown = works(&lab, "08-one-file.sh", &[], &shows)?;
    assert_eq!(answered(&shown), 1, "{shown}");
    assert_eq!(shown.matches("nothing to do\n").count(), 2, "{shown}");
    Ok(())
}

#[test]
fn an_example_that_fails_says_so() -> Result<()> {
    let lab = lab("example-fails")?;
    // The name is taken: its first command is refused, and nothing after it is done.
    lab.node.netd_ok(&["ns", "add", "red"])?;
    let said = run(&lab, "01-veth-pair.sh", &[])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("red") && !said.stdout.contains("done"));
    lab.node.netd_ok(&["ns", "del", "red"]).map(drop)
}
