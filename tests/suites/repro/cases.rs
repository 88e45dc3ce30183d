//! What is made runs again, in a namespace that has nothing of the node.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use netd::repro::Case;
use netd::trace::End;
use netd_api::Repro;
use netd_common::maps::name;
use netd_common::reason::DropReason;
use netd_tests::lab::Lab;
use netd_tests::packet::repro;

/// What `netd repro` says, with the text of its case taken out of the source it writes.
fn made(lab: &Lab, args: &[&str]) -> Result<(Repro, String)> {
    let args = [&["repro"], args].concat();
    let said: Repro = lab.node.netd_json(&args)?;
    let text = const_of(&said.source)?;
    ensure!(text == said.case, "the source has another case");
    Ok((said, text))
}

/// The text that the one `const` of a source holds.
fn const_of(source: &str) -> Result<String> {
    let text = source
        .split_once("const CASE: &str = \"\\\n")
        .and_then(|(_, rest)| rest.split_once("\";\n"));
    Ok(text.context("no const")?.0.to_owned())
}

/// Runs it, and gives it.
fn proven(said: &Repro, reason: Option<&str>) -> Result<Case> {
    assert_eq!(said.reason.as_deref(), reason, "{}", said.verdict);
    repro::check(&said.case).with_context(|| said.case.clone())?;
    Ok(said.case.parse()?)
}

/// Sees a case fail where another end or frame is said, or rows are missing.
fn can_fail(case: &Case) -> Result<()> {
    let fails = |change: &dyn Fn(&mut Case)| {
        let mut other = case.clone();
        change(&mut other);
        repro::check(&other.to_string()).is_err()
    };
    ensure!(
        fails(&|c| c.runs[0].end = End::Dropped(DropReason::TtlExceeded)),
        "any end is taken"
    );
    ensure!(
        fails(&|c| {
            let out = c.runs[0].out.as_mut().expect("a fixed frame");
            out[0] ^= 1;
        }),
        "any frame is taken"
    );
    ensure!(
        fails(&|c| {
            for table in c.tables.values_mut() {
                table.rows.clear();
            }
        }),
        "the rows do not matter"
    );
    Ok(())
}

fn at(host: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(host, port)
}

#[test]
fn what_a_node_decides_is_decided_again_elsewhere() -> Result<()> {
    let lab = Lab::new("repro-ways")?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let c = lab.endpoint("c", &db)?;
    lab.publish("b", "8080:80")?;
    let up = lab.node.device.as_str();
    for v6 in [false, true] {
        let ip = |v4, six| if v6 { six } else { v4 };
        let (out, node) = (
            ip(lab.outside.v4(), lab.outside.v6()),
            ip(lab.node.v4(), lab.node.v6()),
        );
        let (ia, ib, ic) = (ip(a.v4(), a.v6()), ip(b.v4(), b.v6()), ip(c.v4(), c.v6()));
        // Of an endpoint: to another network, and with the address of another.
        let (said, _) = made(&lab, &["a", "tcp", &at(ic, 80).to_string()])?;
        let case = proven(&said, Some("isolated"))?;
        if !v6 {
            can_fail(&case)?;
        }
        let hosts = if v6 { name::HOST6 } else { name::HOST4 };
        ensure!(
            case.tables[hosts].rows.len() <= 2,
            "rows of strangers: {}",
            said.case
        );
        let spoof = format!("udp {} > {}", at(ib, 1), at(out, 53));
        let (said, _) = made(&lab, &["a", &spoof])?;
        proven(&said, Some("spoofed_ip"))?;
        // From outside: to no published port, straight to an endpoint, by XDP and then by TC.
        let call = format!("tcp {} > {}", at(out, 9), at(ia, 80));
        let (said, _) = made(&lab, &[up, &call])?;
        repro::check(&said.case)?;
        assert_eq!(said.reason.as_deref(), Some("unpublished"));
        ensure!(said.case.contains("\nrun xdp ") && said.case.contains("\nrun up_in "));
        // What passes: to a published port, to the outside by the node's routes, to a neighbour.
        let call = format!("tcp {} > {}", at(out, 9), at(node, 8080));
        let (said, _) = made(&lab, &[up, &call])?;
        repro::check(&said.case)?;
        ensure!(
            said.reason.is_none() && said.case.contains("row PUBLISH"),
            "{}",
            said.case
        );
        let (said, _) = made(&lab, &["a", &format!("tcp :1234 > {}", at(out, 443))])?;
        let case = proven(&said, None)?;
        ensure!(
            !case.messages.is_empty() && case.runs.len() == 2,
            "{}",
            said.case
        );
        let mut lost = case;
        lost.messages.retain(|m| m.is_rule);
        ensure!(
            repro::check(&lost.to_string()).is_err(),
            "the routes do not matter"
        );
        let (said, _) = made(&lab, &["a", "udp", &at(ib, 53).to_string()])?;
        proven(&said, None)?;
    }
    Ok(())
}

#[test]
fn a_packet_of_an_open_flow_brings_its_flow_along() -> Result<()> {
    let lab = Lab::new("repro-flow")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    for out in [lab.outside.v4(), lab.outside.v6()] {
        let to = at(out, 8080);
        let server = lab.outside.tcp_listen(to.ip(), to.port())?;
        let _open = a.tcp_connect_from(5000, to)?;
        let (_peer, seen) = server.accept()?;
        let back = format!("tcp {to} > {seen} flags A");
        let (said, _) = made(&lab, &[&lab.node.device, &back])?;
        ensure!(said.reason.is_none(), "{}", said.verdict);
        repro::check(&said.case).with_context(|| said.case.clone())?;
        let mut case: Case = said.case.parse()?;
        let flows = if out.is_ipv4() {
            name::FLOW4
        } else {
            name::FLOW6
        };
        let rows = &mut case.tables.get_mut(flows).context("no flows")?.rows;
        assert_eq!(rows.len(), 2, "{}", said.case);
        rows.clear();
        ensure!(
            repro::check(&case.to_string()).is_err(),
            "the flow does not matter"
        );
        // The same flow from the endpoint's side.
        let (said, _) = made(&lab, &["a", &format!("tcp :5000 > {to} flags A")])?;
        repro::check(&said.case)?;
        // Of a flow that nobody has, the very same packet is dropped, here as there.
        let (said, _) = made(&lab, &["a", &format!("tcp :5001 > {to} flags A")])?;
        proven(&said, Some("tcp_no_flow"))?;
    }
    Ok(())
}
