//! The daemon on disks that are full or read-only: what was stored is there, what cannot be stored is refused
//! before anything is done, and traffic goes on.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use netd_api::Network;
use netd_tests::lab::{Lab, process};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

/// A node whose state is on a disk of two megabytes, and an endpoint that is to be left alone.
fn scene(name: &str) -> Result<Lab> {
    let lab = Lab::builder(name).without_daemon().build()?;
    let dir = lab.node.state_dir();
    fs::create_dir_all(&dir)?;
    mount(
        Some("netd-store"),
        &dir,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=2m,mode=0700"),
    )
    .context("cannot mount a small disk")?;
    lab.node.start()?;
    Ok(lab)
}

fn networks(lab: &Lab) -> Result<Vec<String>> {
    let all: Vec<Network> = lab.node.netd_json(&["network", "ls"])?;
    Ok(all.into_iter().map(|n| n.name).collect())
}

/// A change that is refused as the disk refuses it: nothing of it is there.
fn is_refused(lab: &Lab, why: &str) -> Result<()> {
    let before = (networks(lab)?, lab.node.devices()?);
    let said = lab.node.netd(&["network", "create", "late"])?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(
        said.stderr.contains(why) && said.stderr.lines().count() == 1,
        "{said:?}"
    );
    ensure!((networks(lab)?, lab.node.devices()?) == before);
    Ok(())
}

#[test]
fn a_full_disk_refuses_changes_and_nothing_else() -> Result<()> {
    let lab = scene("store-full")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let ballast = lab.node.state_dir().join("ballast");
    let error = fs::write(&ballast, vec![1; 4 << 20]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    // Some pages may be free in the file.
    let mut refused = None;
    for n in 0..200 {
        let name = format!("n{n}");
        let said = lab
            .node
            .netd(&["network", "create", &name, "--gateway", "none"])?;
        if said.code != Some(0) {
            refused = Some((name, said));
            break;
        }
    }
    let (name, said) = refused.context("the disk was never full")?;
    ensure!(said.stderr.contains("No space left"), "{said:?}");
    ensure!(said.stderr.lines().count() == 1, "{said:?}");
    let there = networks(&lab)?;
    ensure!(!there.contains(&name), "{there:?}");
    is_refused(&lab, "No space left")?;
    a.ping(b.v4())?;
    a.ping(lab.outside.v6())?;

    // With room again the same daemon stores again, and what was refused never comes back.
    fs::remove_file(&ballast)?;
    lab.node.netd_ok(&["network", "create", "after"])?;
    lab.node.restart(Signal::SIGKILL)?;
    let now = networks(&lab)?;
    ensure!(
        now.len() == there.len() + 1 && now.contains(&"after".into()),
        "{now:?}"
    );
    a.ping(b.v6())
}

#[test]
fn a_read_only_disk_refuses_changes_and_a_start_says_so() -> Result<()> {
    let lab = scene("store-readonly")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let remount = |flags: MsFlags| {
        let dir = lab.node.state_dir();
        let none = None::<&str>;
        mount(none, &dir, none, MsFlags::MS_REMOUNT | flags, none)
    };
    lab.node.stop(Signal::SIGKILL)?;
    remount(MsFlags::MS_RDONLY)?;
    let said = process::run(&mut lab.node.daemon_command()?)?;
    ensure!(said.code != Some(0), "{said:?}");
    let last = said.stderr.lines().last().unwrap_or_default();
    ensure!(
        last.contains("Read-only file system") && last.contains("state"),
        "{said:?}"
    );
    a.ping(b.v4())?;
    a.ping(lab.outside.v4())?;
    remount(MsFlags::empty())?;
    lab.node.start()?;
    assert_eq!(networks(&lab)?, ["web"]);
    lab.node.netd_ok(&["network", "create", "after"])?;
    a.ping(b.v6())
}
