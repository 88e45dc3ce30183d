//! What a start could not bring into order is brought into order later, as if the start had done it.

use anyhow::{Result, ensure};
use netd_api::{Endpoint as Object, EndpointState};
use netd_tests::lab::{AttachMode, Endpoint, netns, wait};
use nix::sys::signal::Signal;

use super::{Found, Scene};

#[test]
fn programs_of_before_go_when_what_kept_them_is_repaired() -> Result<()> {
    let scene = Scene::new("late", AttachMode::Auto, Found::Swept)?;
    let node = &scene.lab.node;
    let stages = || {
        let dir = super::taken::find(&node.bpf_dir(), "stages").unwrap_or_default();
        std::fs::read_dir(dir).into_iter().flatten().count()
    };
    ensure!(stages() == 1, "{} stages", stages());
    node.stop(Signal::SIGKILL)?;
    node.ip("link del nd-web\nlink add nd-web type veth peer name nd-peer")?;
    node.start()?;
    let problems = scene.status()?.problems;
    ensure!(
        problems
            .iter()
            .any(|p| p.contains("nd-web is somebody else's")),
        "{problems:?}"
    );
    ensure!(stages() == 2, "{} stages", stages());
    node.ip("link del nd-web")?;
    wait::until("a node in order", || {
        Ok(scene.status()?.problems.is_empty().then_some(()))
    })?;
    wait::until("the programs of before to go", || {
        Ok((stages() == 1).then_some(()))
    })?;
    scene.works()
}

#[test]
fn an_endpoint_that_nobody_can_finish_is_in_nobodys_way() -> Result<()> {
    let scene = Scene::new("unfinished", AttachMode::Auto, Found::Told)?;
    let node = &scene.lab.node;
    let web = scene.lab.inspect_network("web")?;
    // That an attach came to its end is stored with the next change: of `b` it is, of `c` it is not.
    let c = scene.lab.endpoint("c", &web)?;
    node.stop(Signal::SIGKILL)?;
    for endpoint in [&scene.b, &c] {
        let (device, id) = (&endpoint.info.device, &endpoint.info.id);
        let making = format!("netd:{}:making/{id}", node.instance());
        node.ip(&format!("link set {device} alias {making}"))?;
        // The name of the namespace is gone; the namespace is not, and with it neither is the device.
        netns::remove(endpoint.ns.name())?;
    }
    node.start()?;
    let all: Vec<Object> = node.netd_json(&["endpoint", "ls"])?;
    let all: Vec<_> = all.iter().map(|e| (e.name.as_str(), e.state)).collect();
    ensure!(
        all == [("a", EndpointState::Bound), ("b", EndpointState::Gone)],
        "{all:?}"
    );
    wait::until("their devices to go", || {
        let devices = node.devices()?;
        let gone = |e: &Endpoint| !devices.contains(&e.info.device);
        Ok((gone(&scene.b) && gone(&c)).then_some(()))
    })?;
    scene.lab.publish("a", "9090:90/udp")?;
    node.netd_ok(&["detach", "b"])?;
    let status = scene.status()?;
    ensure!(status.problems.is_empty(), "{status:?}");
    Ok(())
}
