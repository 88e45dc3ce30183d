//! An apply that fails in the middle: all is as it was.

use anyhow::Result;
use netd_api::{Endpoint, EndpointState, Status};
use netd_tests::lab::wait;

use super::{SHOP, Scene};

#[test]
fn what_fails_on_the_node_is_taken_back_as_a_whole() -> Result<()> {
    let scene = Scene::new("apply-fails", &["a", "b", "c"])?;
    let node = &scene.lab.node;
    scene.apply(&scene.file("shop.toml", SHOP)?)?;
    let before = scene.state()?;
    let b = scene.host("b")?;
    // Somebody has a device of the name that the new network's gateway needs.
    node.ip("link add nd-late type veth peer name other0")?;
    let text =
        SHOP.replace(
            "subnets = [\"10.80",
            "storm = 9\nmtu = 1400\nsubnets = [\"10.80",
        )
        .replace(
            "network = \"web\"\npublish",
            "network = \"web\"\nmac = \"02:00:00:00:00:77\"\npublish",
        ) + "\n[network.late]\n\n[endpoint.c]\ntarget = \"@c\"\nnetwork = \"late\"\n";
    let file = scene.file("shop.toml", &text)?;
    let said = node.netd(&["apply", "-f", &file])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    assert!(
        said.stderr.contains("network late") && said.stderr.contains("nd-late"),
        "{said:?}"
    );
    node.ip("link del nd-late")?;
    assert_eq!(scene.state()?, before);
    let a = scene.host("a")?;
    a.ping(b.v4())?;
    b.ping(a.v6())?;
    a.ping(scene.lab.outside.v4())?;
    let shown = b.ok("ip", &["-o", "link", "show", "eth0"])?;
    assert!(shown.contains("mtu 1500"), "{shown}");
    let inside = scene.spaces[2]
        .command("ip")
        .args(["-o", "link"])
        .output()?;
    assert!(!String::from_utf8_lossy(&inside.stdout).contains("eth0"));
    // A daemon that starts now finds the same, and what was in the way is not any more.
    node.restart(nix::sys::signal::Signal::SIGKILL)?;
    assert_eq!(scene.state()?, before);
    a.ping(b.v4())?;
    scene.apply(&file)?;
    scene.host("c")?.ping(scene.lab.outside.v4())
}

#[test]
fn an_endpoint_that_was_gone_before_is_gone_after_and_in_nobodys_way() -> Result<()> {
    let scene = Scene::new("apply-gone", &["a", "b", "c"])?;
    let node = &scene.lab.node;
    scene.apply(&scene.file("shop.toml", SHOP)?)?;
    // Its device goes, and its namespace, and another one of that name comes.
    let b = scene.spaces[1].name();
    scene.spaces[1].ip("link del eth0")?;
    netd_tests::lab::netns::remove(b)?;
    let state = || -> Result<EndpointState> {
        Ok(node
            .netd_json::<Endpoint>(&["endpoint", "inspect", "b"])?
            .state)
    };
    wait::until("b to be gone", || {
        Ok((state()? == EndpointState::Gone).then_some(()))
    })?;
    netd_tests::lab::netns::Ns::create(b)?;
    node.ip("link add nd-late type veth peer name other0")?;
    let file = scene.file("shop.toml", &format!("{SHOP}\n[network.late]\n"))?;
    let said = node.netd(&["apply", "-f", &file])?;
    assert!(said.stderr.contains("nd-late"), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    assert_eq!(state()?, EndpointState::Gone);
    let status: Status = node.netd_json(&["status"])?;
    let only = |p: &String| p.starts_with("endpoint b is gone");
    assert!(status.problems.iter().all(only), "{status:?}");
    // Others on its network come and change.
    let c = scene.spaces[2].name();
    node.netd_ok(&["attach", c, "--network", "web", "--name", "c"])?;
    node.netd_ok(&["publish", "c", "9090:90"])?;
    node.netd_ok(&["network", "set", "web", "--storm", "9"])?;
    node.netd_ok(&["network", "set", "web", "--storm", "2000"])?;
    node.ip("link del nd-late")?;
    scene.apply(&file)?;
    scene.host("b")?.ping(scene.host("a")?.v6())
}
