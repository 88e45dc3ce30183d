//! The daemon is killed while it applies: its next start has the old state or the new one, whole.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use netd_tests::lab::wait;
use nix::sys::signal::Signal;

use super::{SHOP, Scene};

/// More steps than any of the applies below has.
const MOST: usize = 200;

/// Steps the daemon has told of in its log.
fn steps(scene: &Scene) -> usize {
    scene.lab.node.log().matches("step=").count()
}

/// Applies a file and kills the daemon when it begins its `at`th step; whether it came that far.
fn killed_at(scene: &Scene, file: &str, at: usize) -> Result<bool> {
    let node = &scene.lab.node;
    let before = steps(scene);
    let mut command = node.netd_command(&["apply", "-f", file, "--prune"]);
    let mut apply = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let far = wait::until("the step or the end", || {
        if steps(scene) >= before + at {
            return Ok(Some(true));
        }
        Ok(apply.try_wait()?.map(|_| steps(scene) >= before + at))
    })?;
    if far {
        node.stop(Signal::SIGKILL)?;
    }
    apply.wait()?;
    let said = apply.stderr.take().context("no stderr")?;
    let said: Vec<String> = BufReader::new(said)
        .lines()
        .collect::<std::io::Result<_>>()?;
    ensure!(far || said.is_empty(), "{said:?}");
    if far {
        node.start()?;
    }
    Ok(far)
}

/// Kills the daemon at every step of the way from one file to another.
fn sweep(name: &str, old: &str, new: &str, other: [&str; 2]) -> Result<()> {
    let scene = Scene::new(name, &["a", "b", "c"])?;
    let node = &scene.lab.node;
    node.stop(Signal::SIGTERM)?;
    node.reconfigure(|o| o.log = "info,netd::apply=trace".into());
    node.start()?;
    let old = scene.file("old.toml", old)?;
    let new = scene.file("new.toml", new)?;
    for at in 1..MOST {
        scene.apply(&old)?;
        if !killed_at(&scene, &new, at)? {
            ensure!(at > 10, "only {at} steps");
            return Ok(());
        }
        // It is one of the two, by its own account and by the node's.
        let plan = |file: &str| node.netd(&["plan", "-f", file, "--prune"]);
        let (is_old, is_new) = (plan(&old)?, plan(&new)?);
        let codes = (is_old.code, is_new.code);
        ensure!(
            matches!(codes, (Some(0), Some(3)) | (Some(3), Some(0))),
            "killed at step {at}: {is_old:?}\n{is_new:?}\n{}",
            node.log()
        );
        let status: netd_api::Status = node.netd_json(&["status"])?;
        ensure!(
            status.problems.is_empty(),
            "step {at}: {:?}",
            status.problems
        );
        let a = scene.host("a")?;
        let other = scene.host(other[usize::from(is_new.code == Some(0))])?;
        a.ping(other.v4())?;
        a.ping(scene.lab.outside.v6())?;
        nothing_is_left_over(&scene).with_context(|| format!("killed at step {at}"))?;
    }
    Ok(())
}

/// There is no device, address or hook but those of what is there.
fn nothing_is_left_over(scene: &Scene) -> Result<()> {
    let node = &scene.lab.node;
    let endpoints: Vec<netd_api::Endpoint> = node.netd_json(&["endpoint", "ls"])?;
    let networks: Vec<netd_api::Network> = node.netd_json(&["network", "ls"])?;
    wait::until("the devices of what is gone to go", || {
        let devices = node.devices()?;
        let count = |start: &str| devices.iter().filter(|d| d.starts_with(start)).count();
        let right = count("nde") == endpoints.len() && count("nd-") == networks.len();
        Ok(right.then_some(()))
    })?;
    for network in &networks {
        let device = network.device.clone().context("no gateway")?;
        let shown = node.ok(
            "ip",
            &["-o", "addr", "show", "dev", &device, "scope", "global"],
        )?;
        ensure!(shown.lines().count() == network.gateways.len(), "{shown}");
    }
    Ok(())
}

#[test]
fn whichever_step_it_is_killed_at_the_old_state_or_the_new_is_there() -> Result<()> {
    // One endpoint goes, one is made anew, others come, with a network and ports.
    let new =
        SHOP.replace(
            "[endpoint.b]\ntarget = \"@b\"",
            "[endpoint.c]\ntarget = \"@c\"",
        )
        .replace(
            "\"web\"\npublish = [\"8080:80\"",
            "\"web\"\nmac = \"02:00:00:00:00:77\"\npublish = [\"8080:80\", \"8081:81\"",
        ) + "\n[network.db]\n\n[endpoint.d]\ntarget = \"@b\"\nnetwork = \"db\"\n";
    sweep("apply-killed", SHOP, &new, ["b", "c"])
}

#[test]
fn the_same_when_a_whole_network_is_made_anew() -> Result<()> {
    let new = SHOP.replace("10.80.0.0/24", "10.81.0.0/24");
    sweep("apply-killed-net", SHOP, &new, ["b", "b"])
}
