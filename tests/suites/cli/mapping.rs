//! `netd mapping ls`: what real traffic has mapped.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use netd_api::{Filtering, MappingLine, Profile};
use netd_tests::lab::{Lab, Proto};

/// What fits these options, of this family.
fn listed(lab: &Lab, v6: bool, options: &[&str]) -> Result<Vec<MappingLine>> {
    let verb = [&["mapping", "ls"], options].concat();
    let mut all: Vec<MappingLine> = lab.node.netd_json(&verb)?;
    all.retain(|m| m.inside.is_ipv6() == v6);
    Ok(all)
}

fn only(lab: &Lab, v6: bool, options: &[&str]) -> Result<MappingLine> {
    let all = listed(lab, v6, options)?;
    match &all[..] {
        [one] => Ok(one.clone()),
        _ => bail!("{options:?}: {all:?}"),
    }
}

#[test]
fn a_mapping_is_listed_until_its_outside_port_is_free() -> Result<()> {
    let lab = Lab::new("mapping-ls")?;
    let web = lab.network_with("web", &["--masquerade-profile", "strict"])?;
    let db = lab.network("db")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &db)?);
    for out in [lab.outside.v4(), lab.outside.v6()] {
        let v6 = out.is_ipv6();
        let server = SocketAddr::new(out, 8080);
        let _server = lab.outside.serve_source(Proto::Udp, 8080)?;
        let ask =
            |host: &netd_tests::lab::Host| host.ask_source_from_port(Proto::Udp, server, 5000);
        let (of_a, of_b) = (ask(&a)?, ask(&b)?);
        let strict = only(&lab, v6, &["--endpoint", "a"])?;
        let own = if v6 { a.v6() } else { a.v4() };
        assert_eq!(strict.proto, "udp");
        assert_eq!((strict.inside, strict.inside_port), (own, 5000));
        let outside = |m: &MappingLine| SocketAddr::new(m.outside, m.outside_port);
        assert_eq!(outside(&strict), of_a);
        assert_eq!(strict.endpoint.as_deref(), Some("a"));
        assert_eq!(strict.network.as_deref(), Some("web"));
        assert_eq!(
            (strict.profile, strict.filtering),
            (Profile::Strict, Filtering::Address)
        );
        assert_eq!((&strict.state[..], strict.flows), ("used", 1));
        // Its flow lasts for a while, and then the port rests.
        ensure!(strict.expires_s > 120, "{strict:?}");

        let balanced = only(&lab, v6, &["--network", "db"])?;
        assert_eq!(outside(&balanced), of_b);
        assert_eq!(
            (balanced.profile, balanced.filtering),
            (Profile::Balanced, Filtering::AddressPort)
        );
        ensure!(
            (1..strict.expires_s).contains(&balanced.expires_s),
            "{balanced:?}"
        );

        // By protocol, and by the port on either side.
        assert_eq!(
            listed(&lab, v6, &["--proto", "udp", "--port", "5000"])?.len(),
            2
        );
        let by = of_b.port().to_string();
        ensure!(
            listed(&lab, v6, &["--port", &by])?.contains(&balanced),
            "{by}"
        );
        assert_eq!(listed(&lab, v6, &["--proto", "tcp"])?, []);

        lab.node.netd_ok(&["flow", "flush", "--proto", "udp"])?;
        let rests = only(&lab, v6, &[])?;
        assert_eq!(outside(&rests), of_a, "the balanced one is gone");
        assert_eq!((&rests.state[..], rests.flows), ("quarantine", 0));
        ensure!((1..=120).contains(&rests.expires_s), "{rests:?}");
        let table = lab.node.netd_ok(&["mapping", "ls", "--endpoint", "a"])?;
        let line = table.lines().find(|l| l.contains(&of_a.to_string()));
        ensure!(
            line.is_some_and(|l| l.contains("strict") && l.contains("quarantine")),
            "{table}"
        );
        assert_eq!(ask(&a)?, of_a, "it was kept for its socket");
        lab.node.netd_ok(&["flow", "flush"])?;
    }
    for (options, part) in [
        (["--endpoint", "nobody"], "no endpoint"),
        (["--network", "nowhere"], "no network"),
    ] {
        let out = lab
            .node
            .netd(&[&["mapping", "ls"], &options[..]].concat())?;
        let error = out.stderr;
        assert_eq!(out.code, Some(1), "{error}");
        ensure!(
            error.lines().count() == 1 && error.contains(part),
            "{error}"
        );
    }
    Ok(())
}
