//! Floating IPs: an outside address that is an endpoint's, used by real hosts, endpoints and the node.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use netd_api::{Floating, FlowLine};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Lab, Proto, wait};
use nix::sys::signal::Signal;

/// Addresses on the uplink's link that nobody has.
const FLOATS: [&str; 2] = ["192.0.2.77", "2001:db8:1::77"];
const OTHERS: [&str; 2] = ["192.0.2.78", "2001:db8:1::78"];

fn add(lab: &Lab, address: &str, endpoint: &str) -> Result<()> {
    let said = lab.node.netd_ok(&["floating", "add", address, endpoint])?;
    ensure!(said.trim() == address, "{said}");
    Ok(())
}

fn listed(lab: &Lab) -> Result<Vec<Floating>> {
    lab.node.netd_json(&["floating", "ls"])
}

fn flows(lab: &Lab, kind: &str) -> Result<Vec<FlowLine>> {
    let all: Vec<FlowLine> = lab.node.netd_json(&["flow", "ls"])?;
    Ok(all.into_iter().filter(|f| f.kind == kind).collect())
}

fn a_floating_address_is_the_endpoints_for_everybody(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("floating", mode)?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let a = lab.endpoint("a", &web)?;
    let (b, c) = (lab.endpoint("b", &web)?, lab.endpoint("c", &db)?);
    let families = [
        (FLOATS[0], a.v4(), lab.outside.v4(), lab.node.v4()),
        (FLOATS[1], a.v6(), lab.outside.v6(), lab.node.v6()),
    ];
    for (float, inside, outside, node) in families {
        add(&lab, float, "a")?;
        let float: IpAddr = float.parse()?;
        // Who knows nothing of it asks the link, and netd answers.
        lab.outside.ping(float)?;
        b.ping(float)?;
        c.ping(float)?;
        a.ping(float)?;
        lab.node.ping(float)?;
        for proto in Proto::ALL {
            let _server = a.serve_source(proto, 80)?;
            let to = SocketAddr::new(float, 80);
            for (caller, seen) in [
                (&lab.outside, outside),
                (&*b, node),
                (&*c, node),
                (&*a, float),
            ] {
                let by = caller.ask_source(proto, to)?;
                ensure!(by.ip() == seen, "{}: seen as {by}", caller.name);
            }
            lab.node.ask_source(proto, to)?;
            // The way out: its address, its port.
            let by = a.source_seen_by(proto, &lab.outside, outside, 9000)?;
            ensure!(by.ip() == float, "{by}");
            let by = b.source_seen_by(proto, &lab.outside, outside, 9000)?;
            ensure!(by.ip() == node, "{by}");
        }
        let (listen, to) = (SocketAddr::new(inside, 81), SocketAddr::new(float, 81));
        for caller in [&lab.outside, &*b, &lab.node] {
            caller.bulk_tcp(&a, listen, to, 2)?;
            // The second one in fragments, there and back.
            for len in [1400, 4000] {
                caller.udp_echo(&a, listen, to, len)?;
            }
        }
        let of = flows(&lab, "floating")?;
        ensure!(
            of.iter().any(|f| f.dst == float && f.nat_dst == inside)
                && of.iter().any(|f| f.src == inside && f.nat_src == float),
            "{of:?}"
        );
        ensure!(
            of.iter().all(|f| f.endpoint.as_deref() == Some("a")),
            "{of:?}"
        );
    }
    // Isolation still holds for the endpoint's own address.
    c.ping_fails(a.v4())?;
    c.ping_fails(a.v6())
}

both_modes! {
    a_floating_address_is_the_endpoints_for_everybody;
}

#[test]
fn floating_addresses_outlive_the_daemon_and_go_with_rm_and_detach() -> Result<()> {
    let lab = Lab::new("floating-life")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    for (first, second) in FLOATS.into_iter().zip(OTHERS) {
        add(&lab, first, "a")?;
        add(&lab, second, "a")?;
    }
    let before = listed(&lab)?;
    let outgoing = |all: &[Floating]| -> Vec<String> {
        let out = all.iter().filter(|f| f.outgoing);
        out.map(|f| f.address.to_string()).collect()
    };
    ensure!(
        before.len() == 4 && outgoing(&before) == FLOATS,
        "{before:?}"
    );
    ensure!(
        before
            .iter()
            .all(|f| f.uplink.as_deref() == Some("up0") && f.owner == "cli"),
        "{before:?}"
    );
    let table = lab.node.netd_ok(&["floating", "ls"])?;
    ensure!(
        table.contains("OUTGOING") && table.contains(FLOATS[1]),
        "{table}"
    );

    // Running and new traffic while the daemon is dead; the next start adopts.
    let server = a.tcp_listen(a.v4(), 80)?;
    let mut client = lab
        .outside
        .tcp_connect(SocketAddr::new(FLOATS[0].parse()?, 80))?;
    let (mut accepted, _) = server.accept()?;
    lab.node.stop(Signal::SIGKILL)?;
    let mut talk = || -> Result<()> {
        std::io::Write::write_all(&mut client, b"x")?;
        std::io::Read::read_exact(&mut accepted, &mut [0])?;
        Ok(())
    };
    talk()?;
    for float in FLOATS.into_iter().chain(OTHERS) {
        lab.outside.ping(float.parse()?)?;
    }
    lab.outside.ip("neigh flush all\n")?;
    lab.outside.ping(OTHERS[1].parse()?)?;
    let seen = a.source_seen_by(Proto::Udp, &lab.outside, lab.outside.v4(), 9000)?;
    ensure!(seen.ip() == FLOATS[0].parse::<IpAddr>()?, "{seen}");
    lab.node.start()?;
    talk()?;
    ensure!(listed(&lab)? == before, "{:?}", listed(&lab)?);

    // The first goes: its flows end, and the next is the outgoing one.
    lab.node.netd_ok(&["floating", "rm", FLOATS[0]])?;
    let gone: IpAddr = FLOATS[0].parse()?;
    let left = flows(&lab, "floating")?;
    ensure!(
        left.iter().all(|f| f.dst != gone && f.nat_src != gone),
        "{left:?}"
    );
    lab.outside.ping_fails(gone)?;
    ensure!(outgoing(&listed(&lab)?) == [OTHERS[0], FLOATS[1]]);
    let seen = a.source_seen_by(Proto::Udp, &lab.outside, lab.outside.v4(), 9000)?;
    ensure!(seen.ip() == OTHERS[0].parse::<IpAddr>()?, "{seen}");
    lab.node.netd_ok(&["detach", "a"])?;
    ensure!(listed(&lab)?.is_empty());
    lab.outside.ping_fails(FLOATS[1].parse()?)?;
    ensure!(flows(&lab, "floating")?.is_empty());
    Ok(())
}

#[test]
fn an_address_that_moves_is_announced_and_a_published_port_on_it_comes_first() -> Result<()> {
    let lab = Lab::new("floating-moves")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let listener = lab.outside.capture(&lab.outside.device)?;
    for (float, v6) in FLOATS.into_iter().zip([false, true]) {
        add(&lab, float, "a")?;
        let said = listener.wait_for("an announcement", |frame| {
            let bytes = &frame.bytes;
            let ours = if v6 {
                bytes[12..14] == [0x86, 0xdd] && bytes[20] == 58 && bytes[54] == 136
            } else {
                bytes[12..14] == [8, 6] && bytes[28..32] == bytes[38..42]
            };
            ours.then(|| bytes.clone())
        })?;
        ensure!(
            said[..6] == [0xff; 6] || said[..2] == [0x33, 0x33],
            "{said:x?}"
        );
        let to = SocketAddr::new(float.parse()?, 8080);
        let spec = if v6 {
            format!("[{float}]:8080:80")
        } else {
            format!("{float}:8080:80")
        };
        lab.publish("b", &spec)?;
        let (_at_a, _at_b) = (
            a.serve_source(Proto::Tcp, 8080)?,
            b.serve_source(Proto::Tcp, 80)?,
        );
        let flow = || -> Result<FlowLine> {
            let all = flows(&lab, "publish")?;
            all.into_iter()
                .next()
                .context("no flow of the published port")
        };
        lab.outside.ask_source(Proto::Tcp, to)?;
        ensure!(flow()?.endpoint.as_deref() == Some("b"));
        a.ask_source(Proto::Tcp, to)?;
        lab.node.ask_source(Proto::Tcp, to)?;
        lab.node
            .netd_ok(&["unpublish", spec.trim_end_matches(":80")])?;
        lab.outside.ask_source(Proto::Tcp, to)?;
        // The same address for another endpoint.
        let said = lab.node.netd(&["floating", "add", float, "b"])?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("endpoint a"),
            "{said:?}"
        );
        lab.node.netd_ok(&["floating", "rm", float])?;
        add(&lab, float, "b")?;
        lab.outside
            .ask_source(Proto::Tcp, SocketAddr::new(to.ip(), 80))?;
        ensure!(
            flows(&lab, "floating")?
                .iter()
                .any(|f| f.endpoint.as_deref() == Some("b"))
        );
    }
    Ok(())
}

/// Whether the node's uplink is in the solicited-node multicast group of an address (RFC 4291 section 2.7.1).
fn in_group(lab: &Lab, address: &str) -> Result<bool> {
    let [.., a, b, c] = address.parse::<std::net::Ipv6Addr>()?.octets();
    let group = format!("ff0200000000000000000001ff{a:02x}{b:02x}{c:02x}");
    let joined = lab.node.proc_read("/proc/thread-self/net/igmp6")?;
    Ok(joined
        .lines()
        .any(|l| l.contains("up0") && l.contains(&group)))
}

#[test]
fn the_node_is_in_the_multicast_groups_of_its_floating_addresses() -> Result<()> {
    let lab = Lab::new("floating-groups")?;
    let web = lab.network("web")?;
    let _a = lab.endpoint("a", &web)?;
    let [ours, other, strangers] = [FLOATS[1], OTHERS[1], "2001:db8:1::5:99"];
    lab.node
        .ip(&format!("neigh add proxy {strangers} dev up0\n"))?;
    ensure!(!in_group(&lab, ours)? && in_group(&lab, strangers)?);
    for address in [ours, other] {
        add(&lab, address, "a")?;
        ensure!(in_group(&lab, address)?);
    }
    // A device that goes down leaves all groups for good, and loses its addresses of IPv6.
    let v6 = lab.node.v6();
    lab.node.stop(Signal::SIGKILL)?;
    lab.node.ip("link set up0 down\nlink set up0 up\n")?;
    lab.node.ip(&format!("addr add {v6}/64 dev up0 nodad\n"))?;
    ensure!(!in_group(&lab, ours)?, "nobody was there to join again");
    lab.node.start()?;
    ensure!(in_group(&lab, ours)? && in_group(&lab, other)?);
    lab.node.ip("link set up0 down\nlink set up0 up\n")?;
    lab.node.ip(&format!("addr add {v6}/64 dev up0 nodad\n"))?;
    wait::until("the groups joined again", || {
        Ok((in_group(&lab, ours)? && in_group(&lab, other)?).then_some(()))
    })?;
    // Somebody else takes an entry away: an event of its device is enough to see it.
    lab.node.ip(&format!(
        "neigh del proxy {ours} dev up0\nlink set up0 alias anything\n"
    ))?;
    wait::until("the group joined again", || {
        Ok(in_group(&lab, ours)?.then_some(()))
    })?;
    lab.node
        .ip(&format!("neigh add proxy {strangers} dev up0\n"))?;
    lab.node.netd_ok(&["floating", "rm", other])?;
    ensure!(in_group(&lab, ours)? && !in_group(&lab, other)?);
    lab.node.netd_ok(&["detach", "a"])?;
    ensure!(!in_group(&lab, ours)?);

    let _b = lab.endpoint("b", &web)?;
    add(&lab, ours, "b")?;
    ensure!(in_group(&lab, ours)?);
    lab.node.cleanup(&["--force"])?.success()?;
    ensure!(!in_group(&lab, ours)? && in_group(&lab, strangers)?);
    Ok(())
}
