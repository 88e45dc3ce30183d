//! What is made runs again, in a namespace that has nothing of the node.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use netd::repro::Case;
use netd::trace::End;
use netd_api::Repro;
use netd_common::maps::name;
use netd_common::reason::DropReason;
use netd_tests::lab::{Endpoint, Lab};
use netd_tests::packet::repro;

/// Makes another case of one.
type Change = fn(&mut Case);

/// One packet, and what its case must have.
struct Way {
    /// Where it comes in.
    at: String,
    /// The packet, in words.
    packet: String,
    /// Why it is dropped.
    reason: Option<&'static str>,
    /// What stands in the case's text.
    says: &'static [&'static str],
    /// What is taken out of the case, which then ends in another way.
    without: Option<Change>,
}

/// What `netd repro` says of a packet, and the case in the source that it writes.
fn made(lab: &Lab, at: &str, packet: &str) -> Result<(Repro, Case)> {
    let said: Repro = lab.node.netd_json(&["repro", at, packet])?;
    let text = super::const_of(&said.source)?;
    ensure!(text == said.case, "the source has another case");
    let case = text.parse()?;
    Ok((said, case))
}

impl Way {
    fn hold(&self, lab: &Lab) -> Result<()> {
        let (said, case) = made(lab, &self.at, &self.packet)?;
        assert_eq!(said.reason.as_deref(), self.reason, "{}", said.verdict);
        for part in self.says {
            ensure!(said.case.contains(part), "without {part}: {}", said.case);
        }
        repro::check(&said.case).with_context(|| said.case.clone())?;
        if let Some(change) = self.without {
            let mut other = case;
            change(&mut other);
            let ended = repro::check(&other.to_string());
            ensure!(ended.is_err(), "what is left out does not matter");
        }
        Ok(())
    }
}

/// The programs that the daemon has open, by their ids.
fn programs(lab: &Lab) -> Result<BTreeSet<String>> {
    let open = format!("/proc/{}/fdinfo", lab.node.pid()?);
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(open)? {
        // What was closed meanwhile is none of them.
        let info = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let ids = info.lines().filter(|line| line.starts_with("prog_id:"));
        found.extend(ids.map(ToOwned::to_owned));
    }
    Ok(found)
}

/// Sees a case fail where another end or frame is said, or rows are missing.
fn can_fail(case: &Case) -> Result<()> {
    let changes: [(&str, Change); 3] = [
        ("any end is taken", |c| {
            c.runs[0].end = End::Dropped(DropReason::TtlExceeded);
        }),
        ("any frame is taken", |c| {
            let out = c.runs[0].out.as_mut().expect("a fixed frame");
            out[0] ^= 1;
        }),
        ("the rows do not matter", |c| {
            c.tables.values_mut().for_each(|table| table.rows.clear());
        }),
    ];
    for (wrong, change) in changes {
        let mut other = case.clone();
        change(&mut other);
        ensure!(repro::check(&other.to_string()).is_err(), wrong);
    }
    Ok(())
}

fn without_routes(case: &mut Case) {
    case.messages.retain(|m| m.is_rule);
}

fn without_flows(case: &mut Case) {
    for flows in [name::FLOW4, name::FLOW6] {
        if let Some(table) = case.tables.get_mut(flows) {
            table.rows.clear();
        }
    }
}

/// `a` and `b` on one network, `c` on another; of `b` a port is published.
struct Hosts<'a> {
    lab: &'a Lab,
    a: Endpoint,
    b: Endpoint,
    c: Endpoint,
}

/// Packets of one family, each of another way through the programs; `seen`: the outside socket of the flow that
/// `a` has opened from its port 5000 to port 443 of the outside.
fn ways(on: &Hosts<'_>, v6: bool, seen: SocketAddr) -> Vec<Way> {
    let ip = |v4, six| if v6 { six } else { v4 };
    let of = |e: &Endpoint| ip(e.v4(), e.v6());
    let at = |host: IpAddr, port: u16| SocketAddr::new(host, port);
    let up = on.lab.node.device.as_str();
    let (out, node) = (
        ip(on.lab.outside.v4(), on.lab.outside.v6()),
        ip(on.lab.node.v4(), on.lab.node.v6()),
    );
    let way = |at: &str, packet: String, reason, says| Way {
        at: at.into(),
        packet,
        reason,
        says,
        without: None,
    };
    let (a, b, c) = (of(&on.a), of(&on.b), of(&on.c));
    let server = at(out, 443);
    let flows: &[&str] = if v6 { &["row FLOW6 "] } else { &["row FLOW4 "] };
    vec![
        // Of an endpoint: to another network, with the address of another, of a flow that nobody has.
        way("a", format!("tcp {}", at(c, 80)), Some("isolated"), &[]),
        way(
            "a",
            format!("udp {} > {}", at(b, 1), at(out, 53)),
            Some("spoofed_ip"),
            &[],
        ),
        way(
            "a",
            format!("tcp :5001 > {server} flags A"),
            Some("tcp_no_flow"),
            &[],
        ),
        // From outside straight to an endpoint, by XDP and then by TC.
        way(
            up,
            format!("tcp {} > {}", at(out, 9), at(a, 80)),
            Some("unpublished"),
            &["\nrun xdp ", "\nrun up_in "],
        ),
        // What passes: to a published port, to the outside by the node's routes, to a neighbour.
        way(
            up,
            format!("tcp {} > {}", at(out, 9), at(node, 8080)),
            None,
            &["row PUBLISH "],
        ),
        Way {
            without: Some(without_routes),
            ..way(
                "a",
                format!("tcp :1234 > {server}"),
                None,
                &["\nroute ", "\nrun ep_out ", "\nrun up_out "],
            )
        },
        way("a", format!("udp {}", at(b, 53)), None, &[]),
        // Of a flow that is open, from both its sides.
        Way {
            without: Some(without_flows),
            ..way(up, format!("tcp {server} > {seen} flags A"), None, flows)
        },
        way("a", format!("tcp :5000 > {server} flags A"), None, flows),
    ]
}

#[test]
fn what_a_node_decides_is_decided_again_elsewhere() -> Result<()> {
    let lab = Lab::new("repro-ways")?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let hosts = Hosts {
        a: lab.endpoint("a", &web)?,
        b: lab.endpoint("b", &web)?,
        c: lab.endpoint("c", &db)?,
        lab: &lab,
    };
    lab.publish("b", "8080:80")?;
    for (v6, out) in [(false, lab.outside.v4()), (true, lab.outside.v6())] {
        let server = lab.outside.tcp_listen(out, 443)?;
        let _open = hosts.a.tcp_connect_from(5000, SocketAddr::new(out, 443))?;
        let (_peer, seen) = server.accept()?;
        for way in ways(&hosts, v6, seen) {
            way.hold(&lab)
                .with_context(|| format!("{} at {}", way.packet, way.at))?;
        }
    }
    // Of strangers there is nothing in a case, one that ends in another way fails, and the programs were loaded
    // for all of them together.
    let loaded = programs(&lab)?;
    ensure!(loaded.len() > 10, "programs of the trace: {loaded:?}");
    let (said, case) = made(&lab, "a", &format!("tcp {}:80", hosts.c.v4()))?;
    let hosts = case.tables[name::HOST4].rows.len();
    ensure!(hosts <= 2, "rows of strangers: {}", said.case);
    assert_eq!(programs(&lab)?, loaded, "loaded once more");
    can_fail(&case)
}
