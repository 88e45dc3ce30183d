//! `--from`: who may come to a published port.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Lab, Proto};

/// Refused and let in, from outside and from endpoints.
fn a_port_is_reached_by_the_sources_it_is_for_alone(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("from", mode)?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let server = lab.endpoint("server", &web)?;
    let (near, far) = (lab.endpoint("near", &web)?, lab.endpoint("far", &db)?);
    // A second address of the outside, which is let in, beside its first, which is not.
    lab.outside
        .ok("ip", &["addr", "add", "192.0.2.200/24", "dev", "eth0"])?;
    let subnet = |v6: bool| -> String {
        let found = db.subnets.iter().find(|s| s.addr().is_ipv6() == v6);
        found.map(ToString::to_string).unwrap_or_default()
    };
    let (db4, db6) = (subnet(false), subnet(true));
    for proto in Proto::ALL {
        let spec = format!("8080:80/{}", proto.name());
        let sources = ["192.0.2.200", "2001:db8:1::/64", &db4, &db6];
        let mut args = vec!["publish", "server", &spec];
        for source in sources {
            args.extend(["--from", source]);
        }
        lab.node.netd_ok(&args)?;
        let _server = server.serve_source(proto, 80)?;
        let (to4, to6) = (
            SocketAddr::new(lab.node.v4(), 8080),
            SocketAddr::new(lab.node.v6(), 8080),
        );
        lab.outside.ask_source_fails(proto, to4)?;
        lab.outside.ask_source(proto, to6)?;
        let allowed: SocketAddr = "192.0.2.200:4321".parse()?;
        ensure!(lab.outside.ask_source_bound(proto, to4, allowed)? == allowed);
        for to in [to4, to6] {
            near.ask_source_fails(proto, to)?;
            server.ask_source_fails(proto, to)?;
            far.ask_source(proto, to)?;
        }
    }
    ensure!(lab.node.stat("up_in", Some("source_refused"))? >= 2);
    ensure!(lab.node.stat("ep_out", Some("source_refused"))? >= 8);
    Ok(())
}

both_modes! {
    a_port_is_reached_by_the_sources_it_is_for_alone;
}

#[test]
fn sources_are_kept_shown_and_gone_with_their_publish() -> Result<()> {
    let lab = Lab::new("from-kept")?;
    let web = lab.network("web")?;
    let from = ["--from", "192.0.2.200/32", "--from", "2001:db8:9::1"];
    let options = [&["--publish", "8000-8009:80-89"][..], &from].concat();
    let server = lab.endpoint_with("server", &web, &options)?;
    let shown = || -> Result<Vec<netd_api::Published>> { lab.node.netd_json(&["published"]) };
    let texts = |all: &[netd_api::Published]| -> Vec<Vec<String>> {
        let text = |p: &netd_api::Published| p.spec.from.iter().map(ToString::to_string).collect();
        all.iter().map(text).collect()
    };
    let wanted = vec![vec![
        "192.0.2.200/32".to_owned(),
        "2001:db8:9::1/128".into(),
    ]];
    ensure!(texts(&shown()?) == wanted, "{:?}", shown()?);
    let table = lab.node.netd_ok(&["published"])?;
    ensure!(
        table.contains("192.0.2.200/32, 2001:db8:9::1/128"),
        "{table}"
    );
    let _server = server.serve_source(Proto::Tcp, 85)?;
    let to = SocketAddr::new(lab.node.v4(), 8005);
    lab.outside.ask_source_fails(Proto::Tcp, to)?;
    // A daemon that starts again adopts them.
    lab.node.stop(nix::sys::signal::Signal::SIGKILL)?;
    lab.outside.ask_source_fails(Proto::Tcp, to)?;
    lab.node.start()?;
    ensure!(texts(&shown()?) == wanted);
    lab.outside.ask_source_fails(Proto::Tcp, to)?;
    lab.node.netd_ok(&["unpublish", "8000-8009"])?;
    // The same port for everybody.
    lab.publish("server", "8005:85")?;
    lab.outside.ask_source(Proto::Tcp, to)?;
    ensure!(texts(&shown()?) == vec![Vec::<String>::new()]);
    // What cannot be is refused in one line.
    for (args, part) in [
        (
            &["8081:80", "--from", "192.0.2.0/33"][..],
            "written as a prefix",
        ),
        (
            &["192.0.2.2:8081:80", "--from", "2001:db8::/32"],
            "nobody could come",
        ),
    ] {
        let all: Vec<&str> = ["publish", "server"].iter().chain(args).copied().collect();
        let refused = lab.node.netd(&all)?;
        ensure!(
            refused.code != Some(0) && refused.stderr.contains(part),
            "{refused:?}"
        );
    }
    ensure!(shown()?.len() == 1);
    Ok(())
}

#[test]
fn a_command_is_reached_by_the_sources_it_is_for_alone() -> Result<()> {
    let lab = Lab::new("from-run")?;
    lab.network("web")?;
    for (source, reached) in [("198.51.100.0/24", false), ("192.0.2.0/24", true)] {
        let args = [
            "run",
            "-p",
            "8080:80",
            "--from",
            source,
            "--",
            "socat",
            "TCP4-LISTEN:80,fork",
            "SYSTEM:read q; echo $SOCAT_PEERADDR $SOCAT_PEERPORT $q",
        ];
        let mut running =
            netd_tests::lab::process::Running::start(&mut lab.node.netd_command(&args))?;
        netd_tests::lab::wait::until("the port", || {
            let all: Vec<netd_api::Published> = lab.node.netd_json(&["published"])?;
            Ok((!all.is_empty()).then_some(()))
        })?;
        let to = SocketAddr::new(lab.node.v4(), 8080);
        if reached {
            netd_tests::lab::wait::until("an answer", || {
                Ok(lab.outside.ask_source(Proto::Tcp, to).ok())
            })?;
        } else {
            lab.outside.ask_source_fails(Proto::Tcp, to)?;
            ensure!(lab.node.stat("up_in", Some("source_refused"))? >= 1);
        }
        running.signal(nix::sys::signal::Signal::SIGTERM)?;
        running.wait()?;
        netd_tests::lab::wait::until("the port to be gone", || {
            let all: Vec<netd_api::Published> = lab.node.netd_json(&["published"])?;
            Ok(all.is_empty().then_some(()))
        })?;
    }
    Ok(())
}
