//! `netd trace` on a node that runs: what it says comes true, and nothing of the node changes.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use netd_api::Trace;
use netd_tests::lab::capture::Frame;
use netd_tests::lab::{Lab, Proto, frames};

/// What `netd trace` says and its exit status.
fn trace(lab: &Lab, args: &[&str]) -> Result<(Trace, i32)> {
    let args = [&["-o", "json", "trace"], args].concat();
    let out = lab.node.netd(&args)?;
    let status = out.code.context("it was killed")?;
    let said =
        serde_json::from_str(&out.stdout).with_context(|| format!("{args:?}: {}", out.stderr))?;
    Ok((said, status))
}

fn points(said: &Trace) -> Vec<&str> {
    let steps = said.programs.iter().flat_map(|p| &p.steps);
    steps.map(|s| s.point.as_str()).collect()
}

fn told(said: &Trace, part: &str) -> bool {
    let steps = said.programs.iter().flat_map(|p| &p.steps);
    steps.into_iter().any(|s| s.text.contains(part)) || said.verdict.contains(part)
}

#[test]
fn a_packet_is_followed_to_where_it_goes() -> Result<()> {
    let lab = Lab::new("trace-ways")?;
    let web = lab.network("web")?;
    let db = lab.network("db")?;
    let (a, b, c) = (
        lab.endpoint("a", &web)?,
        lab.endpoint("b", &web)?,
        lab.endpoint("c", &db)?,
    );
    let (ea, eb, ec) = (&a.info.name, &b.info.name, &c.info.name);
    for v6 in [false, true] {
        let ip = |v4, six| if v6 { six } else { v4 };
        let at = |host, port| SocketAddr::new(host, port).to_string();
        let (out, node) = (
            ip(lab.outside.v4(), lab.outside.v6()),
            ip(lab.node.v4(), lab.node.v6()),
        );
        let (ia, ib, ic) = (ip(a.v4(), a.v6()), ip(b.v4(), b.v6()), ip(c.v4(), c.v6()));

        // To the outside, masqueraded.
        let (said, status) = trace(&lab, &[ea, &format!("tcp :1234 > {}", at(out, 443))])?;
        let leaves = format!(
            "leaves by {} as tcp {} > {}",
            lab.node.device,
            at(node, 1234),
            at(out, 443)
        );
        ensure!(
            said.passes && status == 0 && told(&said, &leaves),
            "{said:#?}"
        );
        let programs: Vec<&str> = said.programs.iter().map(|p| p.program.as_str()).collect();
        assert_eq!(programs, ["netd_ep_out", "netd_up_out"]);
        ensure!(
            [
                "guard", "no_flow", "stage", "fib", "begun", "rewrite", "neigh"
            ]
            .iter()
            .all(|p| points(&said).contains(p)),
            "{said:#?}"
        );
        // To a neighbour, by its MAC.
        let (said, status) = trace(&lab, &[ea, "udp", &at(ib, 53)])?;
        ensure!(
            status == 0 && told(&said, &format!("reaches endpoint {eb}")),
            "{said:#?}"
        );
        // To another network: refused, with the reason's name and what it means.
        let (said, status) = trace(&lab, &[ea, "icmp", &ic.to_string()])?;
        assert_eq!(
            (said.passes, status, said.reason.as_deref()),
            (false, 1, Some("isolated"))
        );
        ensure!(
            told(&said, &format!("endpoint {ec} on network db")),
            "{said:#?}"
        );
        let person = lab.node.netd(&["trace", ea, "icmp", &ic.to_string()])?;
        let text = person.stdout;
        ensure!(
            text.contains("isolated") && text.contains("--no-isolation"),
            "{text}"
        );
        // From the node.
        let (said, _) = trace(&lab, &["network:web", "icmp", &ia.to_string()])?;
        ensure!(
            said.passes && told(&said, &format!("reaches endpoint {ea}")),
            "{said:#?}"
        );
        // A question netd answers itself.
        let word = if v6 { "nd" } else { "arp" };
        let (said, _) = trace(&lab, &[ea, word, "who-has", &ib.to_string()])?;
        ensure!(
            said.passes && told(&said, &format!("answered to endpoint {ea}")),
            "{said:#?}"
        );
        // A source that is not its own.
        let spoof = format!("udp {} > {}", at(ib, 1), at(out, 53));
        let (said, _) = trace(&lab, &[ea, &spoof])?;
        assert_eq!(said.reason.as_deref(), Some("spoofed_ip"));
        ensure!(!points(&said).contains(&"guard"), "{said:#?}");
    }
    Ok(())
}

#[test]
fn a_packet_from_outside_is_followed_to_where_it_goes() -> Result<()> {
    let lab = Lab::new("trace-in")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.publish("b", "8080:80")?;
    let eb = &b.info.name;
    for v6 in [false, true] {
        let ip = |v4, six| if v6 { six } else { v4 };
        let at = |host, port| SocketAddr::new(host, port).to_string();
        let (out, node) = (
            ip(lab.outside.v4(), lab.outside.v6()),
            ip(lab.node.v4(), lab.node.v6()),
        );
        let (ia, ib) = (ip(a.v4(), a.v6()), ip(b.v4(), b.v6()));
        // From outside to a published port.
        let call = format!("tcp {} > {}", at(out, 9), at(node, 8080));
        let (said, status) = trace(&lab, &[&lab.node.device, &call])?;
        let arrives = format!(
            "reaches endpoint {eb} as tcp {} > {}",
            at(out, 9),
            at(ib, 80)
        );
        ensure!(status == 0 && told(&said, &arrives), "{said:#?}");
        ensure!(
            told(&said, "publish") && said.programs[0].program == "netd_xdp",
            "{said:#?}"
        );
        // From outside to nobody: the node's stack has it. Straight to an endpoint: dropped.
        let (said, _) = trace(
            &lab,
            &[
                &lab.node.device,
                &format!("tcp {} > {}", at(out, 9), at(node, 81)),
            ],
        )?;
        ensure!(said.passes && told(&said, "node's stack"), "{said:#?}");
        let (said, _) = trace(
            &lab,
            &[
                &lab.node.device,
                &format!("tcp {} > {}", at(out, 9), at(ia, 80)),
            ],
        )?;
        assert_eq!(said.reason.as_deref(), Some("unpublished"));
    }
    Ok(())
}

#[test]
fn what_is_traced_comes_true_and_changes_nothing() -> Result<()> {
    let lab = Lab::new("trace-true")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let name = &a.info.name;
    let to = SocketAddr::new(lab.outside.v4(), 8080);
    let flows = || lab.node.netd_ok(&["-o", "json", "flow", "ls"]);
    let drops = || lab.node.stat("ep_out", Some("spoofed_ip"));
    let (before, dropped) = (flows()?, drops()?);
    let wire = b.capture(&b.device)?;
    let (said, _) = trace(&lab, &[name, &format!("tcp :5000 > {to}")])?;
    let copies = trace(&lab, &[name, "udp 255.255.255.255:9"])?.0;
    ensure!(
        points(&copies).contains(&"copy") && told(&copies, "flooded to"),
        "{copies:#?}"
    );
    trace(&lab, &[name, &format!("udp 9.9.9.9:1 > {to}")])?;
    assert_eq!((flows()?, drops()?), (before, dropped));
    let got = wire.drain()?;
    ensure!(
        got.iter()
            .filter_map(Frame::packet)
            .all(|p| p.dst.to_string() != "255.255.255.255"),
        "a traced flood was sent"
    );
    // What was said is what the outside sees, and the next trace finds the flow.
    let server = lab.outside.tcp_listen(to.ip(), to.port())?;
    let open = a.tcp_connect_from(5000, to)?;
    let (_peer, seen) = server.accept()?;
    ensure!(
        told(&said, &format!("as tcp {seen} > {to}")),
        "{seen}: {said:#?}"
    );
    let (said, _) = trace(&lab, &[name, &format!("tcp :5000 > {to} flags A")])?;
    ensure!(told(&said, "masquerade flow, established"), "{said:#?}");
    let back = format!("tcp {to} > {seen} flags A");
    let (said, _) = trace(&lab, &[&lab.node.device, &back])?;
    ensure!(
        told(
            &said,
            &format!(
                "reaches endpoint {name} as tcp {to} > {}",
                SocketAddr::new(a.v4(), 5000)
            )
        ),
        "{said:#?}"
    );
    drop(open);
    // The daemon is as it was: it has one load of the programs, and its maps work.
    a.ping(b.v4())?;
    assert_eq!(
        a.source_seen_by(Proto::Udp, &lab.outside, lab.outside.v6(), 8081)?
            .ip(),
        lab.node.v6()
    );
    Ok(())
}

#[test]
fn frames_come_from_digits_and_from_capture_files() -> Result<()> {
    let lab = Lab::new("trace-frames")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let (ma, mb) = (frames::mac(&a.info.mac)?, frames::mac(&b.info.mac)?);
    let frame = frames::udp(ma, mb, (a.v4(), 7), (b.v4(), 8), b"word")?;
    let hex = netd_api::hex(&frame);
    let (by_hex, status) = trace(&lab, &[&a.info.name, "--hex", &hex])?;
    ensure!(status == 0 && by_hex.frame == hex, "{by_hex:#?}");
    let n = |v: u32| v.to_le_bytes();
    let mut file = [n(0xa1b2_c3d4), n(0x0004_0002), n(0), n(0), n(65_535), n(1)].concat();
    for bytes in [&[0u8; 20][..], &frame] {
        let len = n(bytes.len() as u32);
        file.extend([&n(0)[..], &n(0), &len, &len, bytes].concat());
    }
    let path = lab.dir().join("two.pcap");
    std::fs::write(&path, file)?;
    let (by_file, _) = trace(
        &lab,
        &[&a.info.name, "--pcap", &format!("{}:2", path.display())],
    )?;
    assert_eq!(by_file, by_hex);
    Ok(())
}

#[test]
fn a_packet_that_has_to_be_cut_is_followed() -> Result<()> {
    let lab = Lab::new("trace-cut")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    lab.node.ok("ip", &["link", "set", "up0", "mtu", "1300"])?;
    let to = SocketAddr::new(lab.outside.v4(), 53);
    let (said, _) = trace(&lab, &[&a.info.name, &format!("udp {to} len 1400")])?;
    assert_eq!(said.reason.as_deref(), Some("too_big"), "{said:#?}");
    // The same without "don't fragment", which the header's checksum counts as 0x4000.
    let digits = |at| u8::from_str_radix(&said.frame[at..at + 2], 16);
    let bytes = (0..said.frame.len()).step_by(2).map(digits);
    let mut frame = bytes.collect::<Result<Vec<u8>, _>>()?;
    frame[20] &= !0x40;
    let sum = u32::from(u16::from_be_bytes([frame[24], frame[25]])) + 0x4000;
    let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let hex = netd_api::hex(&frame);
    let (said, status) = trace(&lab, &[&a.info.name, "--hex", &hex])?;
    ensure!(
        said.passes
            && status == 0
            && told(&said, "cut to fragments of 1280 bytes")
            && said.verdict.contains("is cut to fragments"),
        "{said:#?}"
    );
    // The lab looks whether netd has changed anything; this was the test.
    lab.node.ok("ip", &["link", "set", "up0", "mtu", "1500"])?;
    Ok(())
}

#[test]
fn what_cannot_be_traced_is_refused_in_one_line() -> Result<()> {
    let lab = Lab::new("trace-refused")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let name = a.info.name.as_str();
    let device = lab.node.device.as_str();
    lab.endpoint("web", &web)?;
    for (args, status, part) in [
        (&[name, "tcp 1.1.1.1"][..], 2, "no port"),
        (&[name, "sctp 1.1.1.1:1"], 2, "no protocol"),
        (&[name], 2, "PACKET"),
        (
            &[name, "--pcap", "/nonexistent"],
            1,
            "cannot read /nonexistent",
        ),
        (&["nobody", "icmp 1.1.1.1"], 1, "no endpoint"),
        (&["web", "icmp 1.1.1.1"], 1, "endpoint:web"),
        (&[device, "icmp 1.1.1.1"], 1, "say the source"),
        (&[name, "--hex", "0g"], 1, "hexadecimal"),
        (&[name, "--hex", "00"], 1, "1 bytes"),
        (&[name, "udp 1.1.1.1:1 len 60000"], 1, "cannot be traced"),
    ] {
        let out = lab.node.netd(&[&["trace"], args].concat())?;
        let error = out.stderr;
        assert_eq!(out.code, Some(status), "{args:?}: {error}");
        ensure!(
            error.lines().count() == 1 && error.contains(part),
            "{args:?}: {error}"
        );
    }
    Ok(())
}
