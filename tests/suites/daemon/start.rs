//! Starting: what is refused, what is private, what it costs, what it says.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::Result;
use netd_tests::lab::{Lab, process};
use nix::sys::signal::Signal;

#[test]
fn a_second_daemon_is_refused_at_once() -> Result<()> {
    let lab = Lab::new("second")?;
    let first = lab.node.pid()?.to_string();
    let netd = lab.node.netd_command(&[]).get_program().to_owned();
    let elsewhere = |what: &str| {
        lab.dir()
            .join(format!("second-{what}"))
            .display()
            .to_string()
    };
    let (run, state, bpf) = (elsewhere("run"), elsewhere("state"), elsewhere("bpf"));
    let args = [
        "daemon",
        "--instance",
        "second",
        "--run-dir",
        &run,
        "--state-dir",
        &state,
        "--bpf-dir",
        &bpf,
    ];
    let second = process::run(lab.node.command(netd).args(args))?;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert_eq!(second.stderr.trim().lines().count(), 1, "{second:?}");
    assert!(
        second.stderr.contains(&first),
        "it names the pid {first}: {second:?}"
    );
    let dir = lab.node.run_dir().display().to_string();
    assert!(
        second.stderr.contains(&dir),
        "it names the run directory: {second:?}"
    );
    for dir in [run, bpf] {
        assert!(!Path::new(&dir).exists(), "{dir} was made");
    }
    lab.node.netd_ok(&["status"])?;
    Ok(())
}

#[test]
fn the_socket_is_roots_alone() -> Result<()> {
    let lab = Lab::new("socket")?;
    let mode =
        |path: &Path| -> Result<u32> { Ok(std::fs::metadata(path)?.permissions().mode() & 0o777) };
    assert_eq!(mode(&lab.node.socket())?, 0o600);
    assert_eq!(mode(&lab.node.run_dir())?, 0o700);
    assert_eq!(mode(&lab.node.state_dir())?, 0o700);
    Ok(())
}

#[test]
fn verbose_shows_log_lines_of_the_programs() -> Result<()> {
    let lab = Lab::builder("verbose").verbose().build()?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let mine = netd_tests::lab::frames::mac(&a.info.mac)?;
    let frame = netd_tests::lab::frames::udp(
        [2, 0xde, 0xad, 0, 0, 1],
        mine,
        (a.v4(), 9),
        (lab.outside.v4(), 9),
        b"x",
    )?;
    a.capture(&a.device)?.send(&frame)?;
    lab.node.wait_log("spoofed_mac")?;
    Ok(())
}

#[test]
fn the_daemon_stays_below_40_mb() -> Result<()> {
    let lab = Lab::new("rss")?;
    let web = lab.network("web")?;
    for i in 0..20 {
        let name = format!("e{i}");
        let endpoint = lab.endpoint(&name, &web)?;
        lab.publish(&name, &format!("{}:80", 9000 + i))?;
        endpoint.ping(lab.outside.v4())?;
    }
    let rss = lab.node.rss_kib()?;
    assert!(rss <= 40 * 1024, "the daemon takes {rss} KiB");
    Ok(())
}

#[test]
fn without_root_the_daemon_says_so() -> Result<()> {
    let lab = Lab::builder("unprivileged").without_daemon().build()?;
    let netd = netd_tests::lab::node::find_netd()?;
    // A copy where anybody may execute it: the build directory may be private.
    let copy = lab.dir().join("netd");
    std::fs::copy(&netd, &copy)?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))?;
    for verb in ["daemon", "cleanup"] {
        let mut command = lab.node.command("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .arg(verb);
        command.args(lab.node.directories()).stdin(Stdio::null());
        let said = process::run(&mut command)?;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert_eq!(said.stderr.trim().lines().count(), 1, "{said:?}");
        assert!(said.stderr.contains("root"), "{said:?}");
    }
    for dir in [lab.node.run_dir(), lab.node.state_dir(), lab.node.bpf_dir()] {
        assert!(!dir.exists());
    }
    Ok(())
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused() -> Result<()> {
    let lab = Lab::builder("config").without_daemon().build()?;
    for (config, why) in [
        ("uplinkz = [\"eth0\"]\n", "uplinkz"),
        (
            "sweep = 0\n",
            "sweep \"0\" is refused: give 1 to 3600 seconds",
        ),
    ] {
        lab.node.reconfigure(|o| {
            o.netd = netd_tests::lab::node::find_netd().unwrap_or_default();
            config.clone_into(&mut o.config);
        });
        let said = process::run(&mut lab.node.daemon_command()?)?;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.stderr.contains(why) && said.stderr.trim().lines().count() == 1,
            "{said:?}"
        );
    }
    assert!(!lab.node.run_dir().join("netd.sock").exists());
    Ok(())
}

#[test]
fn an_uplink_that_is_not_there_is_named() -> Result<()> {
    let lab = Lab::builder("no-uplink").without_daemon().build()?;
    lab.node.reconfigure(|o| {
        o.netd = netd_tests::lab::node::find_netd().unwrap_or_default();
        o.args = vec!["--uplink".into(), "nosuch0".into()];
    });
    let said = process::run(&mut lab.node.daemon_command()?)?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("nosuch0"), "{said:?}");
    Ok(())
}

#[test]
fn each_start_leaves_the_stages_of_its_own_programs_alone() -> Result<()> {
    let lab = Lab::new("stages")?;
    let web = lab.network("web")?;
    lab.endpoint("a", &web)?;
    let pins = || -> Result<Vec<String>> {
        let mut found = Vec::new();
        for generation in std::fs::read_dir(lab.node.bpf_dir())? {
            let stages = generation?.path().join("stages");
            if stages.is_dir() {
                for pin in std::fs::read_dir(stages)? {
                    found.push(pin?.file_name().to_string_lossy().into_owned());
                }
            }
        }
        Ok(found)
    };
    assert_eq!(pins()?, ["1"]);
    for number in ["2", "3"] {
        lab.node.restart(Signal::SIGKILL)?;
        assert_eq!(pins()?, [number], "after a restart");
    }
    Ok(())
}
