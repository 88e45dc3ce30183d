//! `netd-lab`: the demo tells the truth, and labs are removed however they end.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use netd_tests::both_modes;
use netd_tests::lab::process::{self, Running};
use netd_tests::lab::{AttachMode, Lab, cleanup, netns, node, wait};
use nix::sys::signal::Signal;

fn netd_lab(args: &[&str]) -> Result<Command> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(env!("CARGO_BIN_EXE_netd-lab"));
    command.args(args).arg("--netd").arg(node::find_netd()?);
    command.process_group(0);
    Ok(command)
}

/// The lab's directory, from a line that names something in it.
fn lab_dir(line: &str) -> Option<PathBuf> {
    let at = line.find("/run/ndt-")?;
    line.get(at..at + "/run/ndt-0000".len()).map(PathBuf::from)
}

fn nothing_left(dir: &Path) -> Result<()> {
    let id = dir.to_string_lossy().replace("/run/ndt-", "");
    let prefix = format!("ndt{id}-");
    wait::until(&format!("{} to be removed", dir.display()), || {
        Ok((!dir.exists()).then_some(()))
    })?;
    assert!(!netns::list().iter().any(|n| n.starts_with(&prefix)));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!mounts.contains(&*dir.to_string_lossy()));
    Ok(())
}

fn every_line_of_the_demo_works(mode: AttachMode) -> Result<()> {
    let mut command = netd_lab(&["demo", "--plain", "--attach-mode", mode.name()])?;
    let shown = process::run(&mut command)?.success()?;
    let rows = |what: &str| shown.lines().filter(|l| l.starts_with(what)).count();
    // Two families; ping, TCP and UDP; of published ports TCP and UDP.
    assert_eq!(rows("endpoint → endpoint"), 12, "{shown}");
    assert_eq!(rows("endpoint → node"), 6, "{shown}");
    assert_eq!(rows("node → endpoint"), 6, "{shown}");
    assert_eq!(rows("endpoint → outside"), 6, "{shown}");
    assert_eq!(rows("outside → published"), 4, "{shown}");
    assert!(
        !shown.contains("FAILED") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    let widest = shown.lines().map(|l| l.trim_end().chars().count()).max();
    assert!(widest <= Some(100), "{widest:?} columns:\n{shown}");
    Ok(())
}

both_modes! {
    every_line_of_the_demo_works;
}

#[test]
fn a_line_that_does_not_work_makes_the_demo_fail() -> Result<()> {
    let lab = Lab::builder("wrapper").without_daemon().build()?;
    // A netd that says it has published a port, and has not.
    let wrapper = lab.dir().join("netd");
    let netd = node::find_netd()?;
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' publish '*) echo '[]'; exit 0;; esac\nexec {} \"$@\"\n",
        netd.display()
    );
    std::fs::write(&wrapper, script)?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_netd-lab"));
    let said = process::run(command.args(["demo", "--plain", "--netd"]).arg(&wrapper))?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stdout.contains("FAILED outside → published"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("4 of 45 lines failed"),
        "{}",
        said.stdout
    );
    Ok(())
}

#[test]
fn keep_leaves_a_lab_that_works_and_clean_all_names() -> Result<()> {
    let shown = process::run(&mut netd_lab(&["demo", "--plain", "--keep"])?)?.success()?;
    let dir = shown.lines().find_map(lab_dir).context("no lab named")?;
    let enter = shown
        .lines()
        .find_map(|l| {
            l.trim()
                .strip_prefix("nsenter --net=")?
                .strip_suffix("-a sh")
        })
        .context("no way in named")?;
    let inside = Command::new("nsenter")
        .arg(format!("--net={enter}-a"))
        .args(["ping", "-c", "1", "-W", "5", "192.0.2.100"])
        .output()?;
    let id = netd_tests::lab::names::LabId::all()
        .into_iter()
        .find(|id| id.dir() == dir)
        .context("the lab is not there")?;
    // A plain `clean` leaves it.
    process::run(Command::new(env!("CARGO_BIN_EXE_netd-lab")).arg("clean"))?.success()?;
    let kept = dir.exists();
    cleanup::remove(&id)?;
    assert!(inside.status.success(), "{inside:?}");
    assert!(kept, "clean removed a kept lab");
    nothing_left(&dir)
}

/// Starts `netd-lab run` and waits until it is up; its lab's directory.
fn started() -> Result<(Running, PathBuf)> {
    let mut command = netd_lab(&["run"])?;
    let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let out = running.child().stdout.take().context("no output")?;
    let mut dir = None;
    for line in BufReader::new(out).lines() {
        let line = line?;
        dir = dir.or_else(|| lab_dir(&line));
        if line.contains("Ctrl-C") {
            break;
        }
    }
    let dir = dir.context("no lab named")?;
    assert!(dir.join("run/netd.sock").exists());
    Ok((running, dir))
}

#[test]
fn a_signal_removes_the_lab() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (mut running, dir) = started()?;
        running.signal(signal)?;
        assert_eq!(running.wait()?.code(), Some(128 + signal as i32));
        nothing_left(&dir)?;
    }
    Ok(())
}

#[test]
fn clean_removes_what_a_killed_run_left() -> Result<()> {
    let (mut running, dir) = started()?;
    running.signal(Signal::SIGKILL)?;
    running.wait()?;
    assert!(dir.exists());
    process::run(Command::new(env!("CARGO_BIN_EXE_netd-lab")).arg("clean"))?.success()?;
    nothing_left(&dir)
}
