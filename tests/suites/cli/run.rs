//! `netd run`: a command in a fresh namespace on a network, and all gone when it ends.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Result;
use netd_api::Endpoint;
use netd_tests::lab::process::Running;
use netd_tests::lab::{Lab, Proto, wait};
use nix::sys::signal::Signal;

fn endpoints(lab: &Lab) -> Result<Vec<Endpoint>> {
    lab.node.netd_json(&["endpoint", "ls"])
}

#[test]
fn a_command_is_on_the_network_and_its_status_is_passed_on() -> Result<()> {
    let lab = Lab::new("run")?;
    lab.network("web")?;
    let outside = lab.outside.v4().to_string();
    let said = lab.node.netd(&[
        "run",
        "--network",
        "web",
        "--",
        "ping",
        "-c",
        "1",
        "-W",
        "5",
        &outside,
    ])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    // The only network is the default.
    let outside = lab.outside.v6().to_string();
    let said = lab
        .node
        .netd(&["run", "--", "ping", "-c", "1", "-W", "5", &outside])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        lab.node.netd(&["run", "--", "sh", "-c", "exit 9"])?.code,
        Some(9)
    );
    assert_eq!(
        lab.node.netd(&["run", "--", "/nosuch/command"])?.code,
        Some(127)
    );
    assert!(endpoints(&lab)?.is_empty());
    Ok(())
}

#[test]
fn several_networks_must_be_chosen_from() -> Result<()> {
    let lab = Lab::new("run-choose")?;
    lab.network("web")?;
    lab.network("db")?;
    let said = lab.node.netd(&["run", "--", "true"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stderr.contains("web") && said.stderr.contains("db"),
        "{said:?}"
    );
    let both = lab.node.netd_ok(&[
        "run",
        "--network",
        "web",
        "--network",
        "db",
        "--",
        "ip",
        "-o",
        "link",
    ])?;
    assert!(both.contains("eth0") && both.contains("eth1"), "{both}");
    assert!(endpoints(&lab)?.is_empty());
    Ok(())
}

fn serve(lab: &Lab) -> Result<Running> {
    let mut command = lab.node.netd_command(&[
        "run",
        "--network",
        "web",
        "--name",
        "server",
        "-p",
        "8080:80",
        "--",
        "socat",
        "TCP4-LISTEN:80,reuseaddr,fork",
        "SYSTEM:read q; echo $SOCAT_PEERADDR $SOCAT_PEERPORT $q",
    ]);
    let running = Running::start(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    let to = SocketAddr::new(lab.node.v4(), 8080);
    let seen = wait::until("the server to answer", || {
        Ok(lab.outside.ask_source(Proto::Tcp, to).ok())
    })?;
    assert_eq!(seen.ip(), lab.outside.v4());
    Ok(running)
}

#[test]
fn a_published_port_goes_with_its_command() -> Result<()> {
    let lab = Lab::new("run-publish")?;
    lab.network("web")?;
    let mut running = serve(&lab)?;
    assert_eq!(
        endpoints(&lab)?.first().map(|e| e.owner.clone()).as_deref(),
        Some("run")
    );
    running.signal(Signal::SIGTERM)?;
    let status = running.wait()?;
    assert_eq!(
        status.code(),
        Some(143),
        "the signal reached the command: {status}"
    );
    assert!(endpoints(&lab)?.is_empty());
    let left: Vec<netd_api::Published> = lab.node.netd_json(&["published"])?;
    assert!(left.is_empty());
    Ok(())
}

#[test]
fn the_command_dies_with_netd_run() -> Result<()> {
    let lab = Lab::new("run-killed")?;
    lab.network("web")?;
    let mut running = serve(&lab)?;
    running.signal(Signal::SIGKILL)?;
    running.wait()?;
    // Its namespace goes with its last process: nothing answers, and netd sees the endpoint vanish.
    wait::until("endpoint server to be gone", || {
        let all = endpoints(&lab)?;
        Ok(all
            .iter()
            .all(|e| e.state == netd_api::EndpointState::Gone)
            .then_some(()))
    })?;
    lab.outside
        .ask_source_fails(Proto::Tcp, SocketAddr::new(lab.node.v4(), 8080))
}
