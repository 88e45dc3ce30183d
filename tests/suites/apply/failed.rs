//! An apply that fails in the middle: all is as it was.

use anyhow::Result;

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
