//! The daemon is killed, stopped, started and upgraded under load: flows lose nothing, new ones begin whether it
//! runs or not, and what is denied stays denied at every moment.

#[path = "hitless/denied.rs"]
mod denied;
#[path = "hitless/load.rs"]
mod load;
#[path = "hitless/numbered.rs"]
mod numbered;
#[path = "hitless/streams.rs"]
mod streams;
#[path = "hitless/upgrade.rs"]
mod upgrade;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use load::{Load, Scene};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Lab};
use nix::sys::signal::Signal;

/// How often the daemon is killed in the long run.
const KILLS: usize = 10;

#[test]
fn nothing_is_lost_while_the_daemon_is_killed_stopped_and_upgraded_again_and_again() -> Result<()> {
    let scene = Scene::new("hitless", AttachMode::Auto)?;
    let recorded = upgrade::recorded()?;
    let report = scene.under_load(|load| {
        for _ in 0..KILLS {
            restart(&scene, load, Signal::SIGKILL)?;
        }
        // From one build of the programs to another, back, and there again.
        for programs in [Some(&recorded), None, Some(&recorded)] {
            upgrade::load(&scene.lab, programs.cloned());
            restart(&scene, load, Signal::SIGTERM)?;
        }
        Ok(())
    })?;
    report.whole()
}

fn a_kill_loses_nothing_and_every_link_stays(mode: AttachMode) -> Result<()> {
    let scene = Scene::new("hitless-mode", mode)?;
    let before = load::links(&scene.lab)?;
    let xdp = |(path, _): &(PathBuf, u64)| path.to_string_lossy().contains("netd_xdp");
    ensure!(before.iter().any(xdp), "XDP is not hooked: {before:?}");
    let report = scene.under_load(|load| restart(&scene, load, Signal::SIGKILL))?;
    report.whole()?;
    // One that is made anew has a new pin, and its device had none for a moment.
    assert_eq!(load::links(&scene.lab)?, before);
    Ok(())
}

both_modes! {
    a_kill_loses_nothing_and_every_link_stays;
}

/// Ends the daemon, lets traffic go on without, and starts it again.
fn restart(scene: &Scene, load: &Load<'_>, signal: Signal) -> Result<()> {
    scene.lab.node.stop(signal)?;
    scene.new_flows_work()?;
    load.goes_on()?;
    scene.lab.node.start()?;
    load.goes_on()
}

#[test]
fn xdp_in_the_stack_stays_where_the_driver_has_none() -> Result<()> {
    let lab = Lab::builder("hitless-xdp").without_daemon().build()?;
    let up = format!(
        "link add mv0 link {} type macvlan mode bridge",
        lab.node.device
    );
    lab.node.ip(&format!("{up}\nlink set mv0 up\n"))?;
    lab.node
        .reconfigure(|o| o.args = vec!["--uplink".into(), "mv0".into()]);
    lab.node.start()?;
    let before = load::links(&lab)?;
    let generic = |(path, _): &(PathBuf, u64)| path.ends_with("mv0/netd_xdp_generic");
    ensure!(before.iter().any(generic), "{before:?}");
    lab.node.restart(Signal::SIGKILL)?;
    assert_eq!(load::links(&lab)?, before);
    lab.node.stop(Signal::SIGTERM)
}

#[test]
fn a_moment_without_programs_is_seen() -> Result<()> {
    let scene = Scene::new("hitless-gap", AttachMode::Auto)?;
    let mut expected = vec!["let through, a denied source"];
    let report = scene.under_load(|load| {
        scene.lab.node.stop(Signal::SIGKILL)?;
        let native = scene.unhook("netd_xdp_native")?;
        ensure!(
            native || scene.unhook("netd_xdp_generic")?,
            "XDP is not hooked"
        );
        load.denied_goes_on()?;
        // Where that is a filter it stays.
        if scene.unhook("netd_up_in")? {
            expected.extend([
                "lost, masquerade, IPv4, back",
                "lost, published, IPv6, there",
            ]);
            load.denied_goes_on()?;
        }
        scene.lab.node.start()
    })?;
    let said = report.whole().err().map(|e| e.to_string());
    let said = said.unwrap_or_default();
    for words in expected {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    Ok(())
}
