//! The daemon's log: as the journal wants it where it goes there, else for people.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::{fs, io::Read as _};

use anyhow::{Result, ensure};
use netd_tests::lab::process::{self, Running};
use netd_tests::lab::{Lab, wait};
use nix::sys::signal::Signal;

#[test]
fn the_journal_gets_lines_with_a_priority_and_nothing_it_adds_itself() -> Result<()> {
    let lab = Lab::new("journal")?;
    lab.node.stop(Signal::SIGTERM)?;
    let (mut journal, stderr) = UnixStream::pair()?;
    // As systemd does: it names the socket that stderr is.
    let stat = fs::metadata(format!("/proc/self/fd/{}", stderr.as_raw_fd()))?;
    let stream = {
        use std::os::unix::fs::MetadataExt as _;
        format!("{}:{}", stat.dev(), stat.ino())
    };
    let mut command = lab.node.daemon_command()?;
    command
        .env("JOURNAL_STREAM", stream)
        .stdout(Stdio::null())
        .stderr(OwnedFd::from(stderr));
    let mut daemon = Running::start(&mut command)?;
    wait::until("the daemon to answer", || {
        Ok(UnixStream::connect(lab.node.socket()).is_ok().then_some(()))
    })?;
    lab.network("web")?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?;
    drop(command);
    let mut text = String::new();
    journal.read_to_string(&mut text)?;
    for line in text.lines() {
        ensure!(
            line.starts_with("<6>") || line.starts_with("<4>"),
            "{line:?}"
        );
        ensure!(
            !line.contains('\u{1b}') && !line.contains("INFO"),
            "{line:?}"
        );
    }
    let of_web: Vec<&str> = text.lines().filter(|l| l.contains("network web")).collect();
    assert_eq!(of_web.len(), 1, "{text}");
    assert!(of_web[0].starts_with("<6>network web created: "), "{text}");
    lab.node.start()
}

#[test]
fn what_is_logged_is_said_by_an_option_or_the_environment_and_a_wrong_filter_is_refused()
-> Result<()> {
    let lab = Lab::new("levels")?;
    let restart = |args: &[&str], log: &str| -> Result<String> {
        lab.node.reconfigure(|o| {
            o.args = args.iter().map(|a| (*a).to_owned()).collect();
            o.log = log.to_owned();
        });
        lab.node.stop(Signal::SIGTERM)?;
        let before = lab.node.log().len();
        lab.node.start()?;
        Ok(lab.node.log()[before..].to_owned())
    };
    assert!(
        restart(&[], "")?.contains("INFO netd "),
        "info is the default"
    );
    assert!(!restart(&["--log", "error"], "")?.contains("INFO"));
    assert!(!restart(&[], "error")?.contains("INFO"));
    assert!(
        restart(&["--log", "info"], "error")?.contains("INFO"),
        "the option wins"
    );
    lab.node
        .reconfigure(|o| o.args = vec!["--log".into(), "netd=loud".into()]);
    let said = process::run(&mut lab.node.daemon_command()?)?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.stderr.trim().lines().count(), 1, "{said:?}");
    assert!(said.stderr.contains("netd=loud"), "{said:?}");
    Ok(())
}
