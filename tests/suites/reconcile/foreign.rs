//! Programs of others on the hooks of an uplink.

use anyhow::{Result, ensure};
use netd_tests::lab::topology::UPLINK;
use netd_tests::lab::{AttachMode, Foreign, ForeignHook, Side, kernel_at_least, wait};

use super::{Found, Scene};

fn is_named(mode: AttachMode, behind: ForeignHook, before: ForeignHook) -> Result<()> {
    let scene = Scene::new("foreign", mode, Found::Swept)?;
    let problems = || Ok::<Vec<String>, anyhow::Error>(scene.status()?.problems);
    let named = |wanted: bool| {
        wait::until("a look at the hooks", || {
            let now = problems()?;
            let there = now
                .iter()
                .any(|p| p.contains("before netd's") && p.contains(UPLINK));
            Ok((there == wanted).then_some(now))
        })
    };
    let harmless = Foreign::attach(&scene.lab, UPLINK, Side::Ingress, behind)?;
    scene.works()?;
    // Two sweeps have seen it: one that was under way as it came, and one more.
    for _ in 0..2 {
        scene.repaired("lost its hooks", |lab| {
            Ok(std::fs::remove_dir_all(super::taken::pins_of(lab, UPLINK))?)
        })?;
    }
    ensure!(problems()?.is_empty(), "{:?}", problems()?);
    let first = Foreign::attach(&scene.lab, UPLINK, Side::Ingress, before)?;
    let line = named(true)?.join("\n");
    ensure!(line.contains("hook them behind netd's"), "{line}");
    scene.works()?;
    ensure!(first.packets()? > 0, "it sees packets");
    drop(first);
    if before == ForeignHook::ClsactFirst {
        let del = ["filter", "del", "dev", UPLINK, "ingress", "pref", "1"];
        scene.lab.node.ok("tc", &del)?;
    }
    named(false)?;
    drop(harmless);
    Ok(())
}

#[test]
fn a_tcx_program_before_netds_is_named_and_one_behind_is_not() -> Result<()> {
    if !kernel_at_least(6, 6) {
        println!("SKIP: TCX needs Linux 6.6");
        return Ok(());
    }
    is_named(AttachMode::Tcx, ForeignHook::Tcx, ForeignHook::TcxFirst)
}

#[test]
fn a_clsact_filter_before_netds_is_named_and_one_behind_is_not() -> Result<()> {
    is_named(
        AttachMode::Clsact,
        ForeignHook::Clsact,
        ForeignHook::ClsactFirst,
    )
}
