//! The hooks outlive the daemon, follow the next one, and go with `netd cleanup`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use netd_tests::lab::{Lab, Proto, process, process::Running};
use nix::sys::signal::Signal;

use super::call::{Call, answered, fail, published, ways};

const TALK: &str = include_str!("talk.py");

#[test]
fn conversations_of_processes_survive_the_daemon() -> Result<()> {
    let lab = Lab::new("hooks-stay")?;
    let (web, a) = published(&lab)?;
    let gateways = [web.gateway(false)?, web.gateway(true)?];
    let mut calls: Vec<Call> = ways("127.0.0.1", 8080).into();
    calls.extend(ways("::1", 8080));
    // Echoes for what is connected before the daemon goes; new sockets get the other servers.
    let mut echoes = Vec::new();
    for kind in [
        "TCP4-LISTEN:81,fork",
        "UDP4-RECVFROM:81,fork",
        "TCP6-LISTEN:82,fork",
        "UDP6-RECVFROM:82,fork",
    ] {
        let mut socat = a.command("socat");
        echoes.push(Running::start(
            socat.args([kind, "EXEC:cat"]).stdin(Stdio::null()),
        )?);
    }
    for proto in Proto::ALL {
        for (port, v6) in [(81, false), (82, true)] {
            netd_tests::lab::wait::until("an echo server", || {
                Ok(a.listens(proto, port, v6)?.then_some(()))
            })?;
            lab.publish("a", &format!("{port}:{port}/{}", proto.name()))?;
        }
    }
    let mut talks = Vec::new();
    for (to, port) in [("127.0.0.1", 81), ("::1", 82)] {
        let mut command = lab.node.command("python3");
        command
            .args(["-c", TALK, to, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut talk = Running::start(&mut command)?;
        let stdin = talk.child().stdin.take().context("stdin")?;
        let stdout = BufReader::new(talk.child().stdout.take().context("stdout")?);
        let wanted = format!("netd, {to} {port}, netd, {to} {port}, {to} {port}");
        talks.push((talk, stdin, stdout, wanted));
    }
    let _tcp = a.serve_source(Proto::Tcp, 80)?;
    let _udp = a.serve_source(Proto::Udp, 80)?;
    let mut go_on = |when: &str| -> Result<()> {
        for (_, stdin, stdout, wanted) in &mut talks {
            stdin.write_all(b"netd\n")?;
            let mut line = String::new();
            stdout.read_line(&mut line)?;
            assert_eq!(line.trim(), wanted, "{when}");
        }
        answered(&lab.node, &calls, &gateways).with_context(|| when.to_owned())
    };
    go_on("at first")?;
    lab.node.stop(Signal::SIGKILL)?;
    go_on("while the daemon is dead")?;
    lab.node.start()?;
    go_on("with the next daemon")?;
    lab.node.restart(Signal::SIGTERM)?;
    go_on("after a restart")?;
    // The new daemon's programs are in place: they know what it publishes.
    lab.publish("a", "8088:80")?;
    answered(
        &lab.node,
        &[Call::connect(Proto::Tcp, "127.0.0.1", 8088)],
        &gateways,
    )?;
    fail(
        &lab.node,
        &[Call::bind(Proto::Tcp, "127.0.0.1", 8088)],
        "EADDRINUSE",
    )
}

#[test]
fn cleanup_removes_the_socket_hooks() -> Result<()> {
    let lab = Lab::new("hooks-go")?;
    let (_web, a) = published(&lab)?;
    let _tcp = a.serve_source(Proto::Tcp, 80)?;
    let bind = [Call::bind(Proto::Tcp, "127.0.0.1", 8080)];
    fail(&lab.node, &bind, "EADDRINUSE")?;
    lab.node.stop(Signal::SIGKILL)?;
    lab.node.cleanup(&["--force"])?.success()?;
    let seen = super::call::make(&lab.node, &bind)?;
    assert_eq!(seen[0].answer.as_deref(), Some("bound"), "{seen:?}");
    fail(&lab.node, &ways("127.0.0.1", 8080), "ECONNREFUSED")
}

#[test]
fn the_hooks_move_to_another_cgroup() -> Result<()> {
    let lab = Lab::new("other-cgroup")?;
    let (web, a) = published(&lab)?;
    let _tcp = a.serve_source(Proto::Tcp, 80)?;
    let cgroup = lab.node.cgroup.clone().context("no cgroup2")?;
    let below = cgroup.join("below");
    std::fs::create_dir(&below)?;
    let call = [Call::connect(Proto::Tcp, "127.0.0.1", 8080)];
    answered(&lab.node, &call, &[web.gateway(false)?])?;
    // The node's processes are not in that one.
    let dir = below.display().to_string();
    lab.node
        .reconfigure(|o| o.args = vec!["--cgroup".into(), dir.clone()]);
    let moved = lab.node.restart(Signal::SIGTERM).and_then(|()| {
        let status: netd_api::Status = lab.node.netd_json(&["status"])?;
        assert_eq!(status.cgroup, Some(dir));
        fail(&lab.node, &call, "ECONNREFUSED")?;
        let mut inside = (*lab.node).clone();
        inside.cgroup = Some(below.clone());
        answered(&inside, &call, &[web.gateway(false)?])
    });
    lab.node.reconfigure(|o| o.args = vec![]);
    lab.node.restart(Signal::SIGTERM)?;
    moved?;
    answered(&lab.node, &call, &[web.gateway(false)?])?;
    std::fs::remove_dir(&below).context("the cgroup is empty again")
}

#[test]
fn a_directory_that_is_no_cgroup_is_refused() -> Result<()> {
    let lab = Lab::builder("no-cgroup").without_daemon().build()?;
    lab.node.reconfigure(|o| {
        o.netd = netd_tests::lab::node::find_netd().unwrap_or_default();
        o.args = vec!["--cgroup".into(), "/proc".into()];
    });
    let said = process::run(&mut lab.node.daemon_command()?)?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stderr.contains("cgroup /proc") && said.stderr.trim().lines().count() == 1,
        "{said:?}"
    );
    Ok(())
}
