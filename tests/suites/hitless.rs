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

use anyhow::{Result, ensure};
use load::{Load, Scene};
use netd_tests::both_modes;
use netd_tests::lab::AttachMode;
use nix::sys::signal::Signal;

/// How often the daemon is killed in the long run.
const KILLS: usize = 10;

#[test]
fn nothing_is_lost_while_the_daemon_is_killed_and_stopped_again_and_again() -> Result<()> {
    let scene = Scene::new("hitless", AttachMode::Auto)?;
    let report = scene.under_load(|load| {
        for n in 0..KILLS {
            restart(
                &scene,
                load,
                if n == 4 {
                    Signal::SIGTERM
                } else {
                    Signal::SIGKILL
                },
            )?;
        }
        restart(&scene, load, Signal::SIGKILL)
    })?;
    report.whole()
}

fn nothing_is_lost_by_a_kill(mode: AttachMode) -> Result<()> {
    let scene = Scene::new("hitless-mode", mode)?;
    let report = scene.under_load(|load| {
        restart(&scene, load, Signal::SIGKILL)?;
        restart(&scene, load, Signal::SIGTERM)
    })?;
    report.whole()
}

both_modes! {
    nothing_is_lost_by_a_kill;
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
