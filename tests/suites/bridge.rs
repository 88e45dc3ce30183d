//! Endpoints that hold more than one MAC: what is behind them is found, moves, is forgotten and limited.

#[path = "bridge/floods.rs"]
mod floods;

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use netd_api::FdbLine;
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Host, Lab, Network, Proto, frames, wait};
use nix::sys::signal::Signal;

/// The guests' MACs.
const FIRST: &str = "02:00:5e:10:00:01";
const SECOND: &str = "02:00:5e:10:00:02";

/// An endpoint with a bridge inside, and the options it was attached with.
fn bridged(lab: &Lab, name: &str, network: &Network, options: &[&str]) -> Result<Endpoint> {
    let endpoint = lab.endpoint_with(name, network, options)?;
    endpoint.bridge_inside(false)?;
    Ok(endpoint)
}

/// A guest behind an endpoint, with host number `host` on the network.
fn guest(lab: &Lab, vm: &Endpoint, network: &Network, mac: &str, host: u32) -> Result<Host> {
    vm.plug(&lab.namespace(&format!("guest{host}"))?, network, mac, host)
}

/// What netd knows of a MAC because it was learned.
fn known(lab: &Lab, network: &Network, mac: &str) -> Result<Option<FdbLine>> {
    Ok(lab.learned(network)?.into_iter().find(|l| l.mac == mac))
}

fn guests_of_a_bridge_inside_an_endpoint_are_hosts_like_others(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("guests", mode)?;
    let web = lab.network("web")?;
    let vm = bridged(&lab, "vm", &web, &["--macs", "any"])?;
    let other = lab.endpoint("other", &web)?;
    let first = guest(&lab, &vm, &web, FIRST, 201)?;
    let second = guest(&lab, &vm, &web, SECOND, 202)?;
    for (i, v6) in [false, true].into_iter().enumerate() {
        let of = |h: &Host| if v6 { h.v6() } else { h.v4() };
        let port = 8080 + u16::try_from(i)?;
        // Each other, without leaving the bridge; an endpoint; the node.
        first.ping(of(&second))?;
        first.ping(of(&other))?;
        first.ping(web.gateway(v6)?)?;
        for proto in Proto::ALL {
            let seen = first.source_seen_by(proto, &other, of(&other), port)?;
            assert_eq!(seen.ip(), of(&first));
            let seen = other.source_seen_by(proto, &second, of(&second), port)?;
            assert_eq!(seen.ip(), of(&other));
            lab.node.source_seen_by(proto, &first, of(&first), port)?;
            // The outside sees the node's address, and two guests at once get their own answers.
            for guest in [&first, &second] {
                let seen = guest.source_seen_by(proto, &lab.outside, of(&lab.outside), port)?;
                assert_eq!(seen.ip(), of(&lab.node));
            }
        }
        // The one who hosts them speaks for itself as before.
        vm.ping(of(&other))?;
        other.ping(of(&vm))?;
    }
    let line = known(&lab, &web, FIRST)?.context("the first guest is not listed")?;
    assert_eq!(
        (line.endpoint.as_deref(), line.device.as_str()),
        (Some("vm"), vm.info.device.as_str())
    );
    assert!(line.age_s.is_some_and(|age| age < 60), "{line:?}");
    let table = lab.node.netd_ok(&["fdb", "ls"])?;
    assert!(table.contains(SECOND) && table.contains("AGE"), "{table}");
    Ok(())
}

fn what_only_the_guest_should_get_nobody_else_gets(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("private", mode)?;
    let web = lab.network("web")?;
    let vm = bridged(&lab, "vm", &web, &["--macs", "2"])?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let first = guest(&lab, &vm, &web, FIRST, 201)?;
    first.ping(a.v4())?;
    let at_b = b.capture(&b.device)?;
    let to = frames::mac(FIRST)?;
    for (from, dst) in [(a.v4(), first.v4()), (a.v6(), first.v6())] {
        a.ping(dst)?;
        let at_guest = first.capture("eth0")?;
        let mac = frames::mac(&a.info.mac)?;
        a.capture(&a.device)?
            .send(&frames::udp(mac, to, (from, 9), (dst, 9), b"private")?)?;
        at_guest.wait_for("the frame", |f| f.bytes.ends_with(b"private").then_some(()))?;
    }
    let stray = at_b.drain()?;
    ensure!(
        !stray.iter().any(|f| f.bytes.get(..6) == Some(&to[..])),
        "b got what is the guest's: {stray:x?}"
    );
    Ok(())
}

fn a_guest_that_moves_is_found_at_once(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("moves", mode)?;
    let web = lab.network("web")?;
    let here = bridged(&lab, "here", &web, &["--macs", "any"])?;
    let there = bridged(&lab, "there", &web, &["--macs", "any"])?;
    let client = lab.endpoint("client", &web)?;
    let ns = lab.namespace("mover")?;
    let mover = here.plug(&ns, &web, FIRST, 201)?;
    client.ping(mover.v4())?;
    client.ping(mover.v6())?;
    assert_eq!(
        known(&lab, &web, FIRST)?
            .and_then(|l| l.endpoint)
            .as_deref(),
        Some("here")
    );
    for (from, to) in [(&here, &there), (&there, &here)] {
        from.unplug(201)?;
        let mover = to.plug(&ns, &web, FIRST, 201)?;
        // Its first word tells the segment where it is now.
        mover.ping(client.v6())?;
        assert_eq!(
            known(&lab, &web, FIRST)?.and_then(|l| l.endpoint),
            Some(to.info.name.clone())
        );
        client.ping(mover.v4())?;
        client.ping(mover.v6())?;
    }
    Ok(())
}

both_modes! {
    guests_of_a_bridge_inside_an_endpoint_are_hosts_like_others;
    what_only_the_guest_should_get_nobody_else_gets;
    a_guest_that_moves_is_found_at_once;
}

#[test]
fn an_endpoint_with_one_mac_has_no_guests() -> Result<()> {
    let lab = Lab::new("one-mac")?;
    let web = lab.network("web")?;
    let vm = bridged(&lab, "vm", &web, &[])?;
    let other = lab.endpoint("other", &web)?;
    let first = guest(&lab, &vm, &web, FIRST, 201)?;
    first.ping_fails(other.v4())?;
    first.ping_fails(other.v6())?;
    vm.ping(other.v4())?;
    assert!(lab.node.stat("ep_out", Some("spoofed_mac"))? > 0);
    assert_eq!(lab.learned(&web)?, []);
    Ok(())
}

#[test]
fn there_are_as_many_guests_as_asked_for_and_no_more() -> Result<()> {
    let lab = Lab::new("mac-limit")?;
    let web = lab.network_with("web", &["--aging", "2"])?;
    let vm = bridged(&lab, "vm", &web, &["--macs", "2"])?;
    assert_eq!(vm.info.macs.to_string(), "2");
    let other = lab.endpoint("other", &web)?;
    let first = guest(&lab, &vm, &web, FIRST, 201)?;
    let second = guest(&lab, &vm, &web, SECOND, 202)?;
    first.ping(other.v4())?;
    first.ping(other.v6())?;
    // While the first one speaks the second one may not.
    let refused = lab.node.stat("ep_out", Some("mac_limit"))?;
    let talk = first
        .command("ping")
        .args(["-q", "-i", "0.2", &other.v4().to_string()])
        .stdout(Stdio::null())
        .spawn();
    let mut talk = talk.context("ping")?;
    let kept_out = second.ping_fails(other.v6());
    talk.kill()?;
    talk.wait()?;
    kept_out?;
    assert!(lab.node.stat("ep_out", Some("mac_limit"))? > refused);
    // The first one has gone silent: it is forgotten, and its place is free.
    vm.unplug(201)?;
    wait::until("the first guest to be forgotten", || {
        Ok(known(&lab, &web, FIRST)?.is_none().then_some(()))
    })?;
    wait::until("room for the second guest", || {
        Ok(second.ping_with(other.v4(), &["-c", "1", "-W", "1"]).ok())
    })?;
    second.ping(other.v6())
}

#[test]
fn who_was_forgotten_is_looked_for_everywhere_also_without_the_daemon() -> Result<()> {
    let lab = Lab::new("aging")?;
    let web = lab.network_with("web", &["--aging", "1"])?;
    assert_eq!(web.aging_s, 1);
    let vm = bridged(&lab, "vm", &web, &["--macs", "any"])?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let first = guest(&lab, &vm, &web, FIRST, 201)?;
    first.ping(a.v4())?;
    lab.node.stop(Signal::SIGKILL)?;
    vm.unplug(201)?;
    let (at_a, at_b) = (a.capture(&a.device)?, b.capture(&b.device)?);
    let (from, to) = (frames::mac(&a.info.mac)?, frames::mac(FIRST)?);
    let frame = frames::udp(from, to, (a.v4(), 9), (first.v4(), 9), b"where")?;
    // Known, the frame goes to one switch port; forgotten, to all.
    wait::until("a frame for the silent guest to be flooded", || {
        at_a.send(&frame)?;
        let seen = at_b.drain()?;
        Ok(seen.iter().any(|f| f.bytes == frame).then_some(()))
    })?;
    lab.node.start()?;
    wait::until("the guest to be forgotten for good", || {
        Ok(lab.learned(&web)?.is_empty().then_some(()))
    })
}

#[test]
fn what_was_learned_outlives_the_daemon_and_its_count_too() -> Result<()> {
    let lab = Lab::new("learned-restart")?;
    let web = lab.network("web")?;
    let vm = bridged(&lab, "vm", &web, &["--macs", "3"])?;
    let other = lab.endpoint("other", &web)?;
    let first = guest(&lab, &vm, &web, FIRST, 201)?;
    first.ping(other.v4())?;
    lab.node.stop(Signal::SIGKILL)?;
    other.ping(first.v6())?;
    let second = guest(&lab, &vm, &web, SECOND, 202)?;
    second.ping(other.v6())?;
    lab.node.start()?;
    let mut macs: Vec<String> = lab.learned(&web)?.into_iter().map(|l| l.mac).collect();
    macs.sort_unstable();
    assert_eq!(macs, [FIRST, SECOND]);
    let third = guest(&lab, &vm, &web, "02:00:5e:10:00:03", 203)?;
    third.ping_fails(other.v4())?;
    other.ping(first.v4())?;
    other.ping(second.v4())
}

#[test]
fn what_was_learned_goes_with_its_endpoint() -> Result<()> {
    let lab = Lab::new("flushed")?;
    let web = lab.network("web")?;
    let other = lab.endpoint("other", &web)?;
    for vanish in [false, true] {
        let name = if vanish { "lost" } else { "vm" };
        let vm = bridged(&lab, name, &web, &["--macs", "any"])?;
        let host = 201 + u32::from(vanish);
        let first = guest(&lab, &vm, &web, FIRST, host)?;
        first.ping(other.v4())?;
        assert!(known(&lab, &web, FIRST)?.is_some());
        if vanish {
            // The node's end goes with its peer, and the rows with it, without anybody asking.
            vm.ip(&format!("link del {}\n", vm.device))?;
            wait::until("the rows of the lost endpoint to go", || {
                Ok(lab.learned(&web)?.is_empty().then_some(()))
            })?;
        } else {
            lab.node.netd_ok(&["detach", "vm"])?;
            assert_eq!(lab.learned(&web)?, []);
        }
    }
    Ok(())
}

#[test]
fn a_mac_that_netd_has_given_away_is_nobody_elses() -> Result<()> {
    let lab = Lab::new("stolen")?;
    let web = lab.network("web")?;
    let (client, owner) = (lab.endpoint("client", &web)?, lab.endpoint("owner", &web)?);
    let vm = bridged(&lab, "vm", &web, &["--macs", "any"])?;
    let thief = guest(&lab, &vm, &web, &owner.info.mac, 201)?;
    let before = lab.node.stat("ep_out", Some("spoofed_mac"))?;
    thief.ping_fails(client.v4())?;
    thief.ping_fails(client.v6())?;
    assert!(lab.node.stat("ep_out", Some("spoofed_mac"))? > before);
    client.ping(owner.v4())?;
    client.ping(owner.v6())?;
    // Nor can a guest have the address of another.
    let first = guest(&lab, &vm, &web, FIRST, 202)?;
    // It knows its gateway: it need not ask for it with the wrong address.
    first.ping(web.gateway(false)?)?;
    first.ping(web.gateway(true)?)?;
    let (v4, v6) = (owner.v4(), owner.v6());
    first.ip(&format!(
        "addr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n"
    ))?;
    let before = lab.node.stat("ep_out", Some("spoofed_ip"))?;
    for (ip, to) in [(v4, lab.outside.v4()), (v6, lab.outside.v6())] {
        let from = ip.to_string();
        let answered = first.ping_with(to, &["-c", "1", "-W", "1", "-I", &from]);
        assert!(answered.is_err(), "{ip} was used by a guest");
    }
    assert!(lab.node.stat("ep_out", Some("spoofed_ip"))? >= before + 2);
    client.ping(owner.v4())
}

#[test]
fn the_spanning_tree_messages_of_a_bridge_inside_reach_the_others() -> Result<()> {
    let lab = Lab::new("stp")?;
    let web = lab.network("web")?;
    let vm = lab.endpoint_with("vm", &web, &["--macs", "any"])?;
    let other = lab.endpoint("other", &web)?;
    let (at_vm, at_other) = (vm.capture(&vm.device)?, other.capture(&other.device)?);
    vm.bridge_inside(true)?;
    let bpdu = |f: &netd_tests::lab::capture::Frame| {
        let is = f.bytes.starts_with(&[0x01, 0x80, 0xc2, 0, 0, 0])
            && f.bytes.get(14..17) == Some(&[0x42, 0x42, 3][..]);
        is.then(|| f.bytes.clone())
    };
    let came = at_other.wait_for("a spanning tree message", |f| bpdu(f))?;
    at_vm.wait_for("the message as it was sent", |f| {
        (f.bytes == came).then_some(())
    })?;
    // An endpoint without a bridge has nothing to say of that kind.
    let mine = frames::mac(&other.info.mac)?;
    let own = [&came[..6], &mine, &came[12..]].concat();
    let before = lab.node.stat("ep_out", Some("ethertype"))?;
    at_other.send(&own)?;
    wait::until("the message to be refused", || {
        Ok((lab.node.stat("ep_out", Some("ethertype"))? > before).then_some(()))
    })
}

#[test]
fn a_command_may_hold_more_macs_too() -> Result<()> {
    let lab = Lab::new("run-macs")?;
    let web = lab.network("web")?;
    let other = lab.endpoint("other", &web)?;
    let (v4, v6) = (other.v4(), other.v6());
    let [n4, n6] = [false, true].map(|v6| web.subnets.iter().find(|s| s.addr().is_ipv6() == v6));
    let (n4, n6) = (n4.context("IPv4")?, n6.context("IPv6")?);
    let (last4, last6) = (
        n4.hosts().nth(200).context("host")?,
        n6.hosts().nth(200).context("host")?,
    );
    // A macvlan: a second device with a MAC of its own on the endpoint's.
    let script = format!(
        "ip link add link eth0 name mv0 type macvlan mode bridge && ip addr flush dev eth0 && \
         ip addr add {last4}/{} dev mv0 && ip addr add {last6}/{} dev mv0 nodad && ip link set mv0 up && \
         ping -c1 -W5 {v4} && ping -c1 -W5 {v6}",
        n4.prefix_len(),
        n6.prefix_len()
    );
    let run = |macs: &str| {
        let args = [
            "run",
            "--network",
            "web",
            "--macs",
            macs,
            "--",
            "sh",
            "-c",
            &script,
        ];
        lab.node.netd(&args)
    };
    run("2")?.success()?;
    assert!(run("1")?.success().is_err());
    Ok(())
}

#[test]
fn limits_change_while_a_network_is_in_use() -> Result<()> {
    let lab = Lab::new("set-limits")?;
    let web = lab.network("web")?;
    assert_eq!((web.aging_s, web.storm), (300, 2000));
    let vm = bridged(&lab, "vm", &web, &["--macs", "any"])?;
    let other = lab.endpoint("other", &web)?;
    let first = guest(&lab, &vm, &web, FIRST, 201)?;
    first.ping(other.v4())?;
    vm.unplug(201)?;
    assert!(known(&lab, &web, FIRST)?.is_some());
    lab.node
        .netd_ok(&["network", "set", "web", "--aging", "1", "--storm", "off"])?;
    wait::until("the guest to be forgotten after the new time", || {
        Ok(known(&lab, &web, FIRST)?.is_none().then_some(()))
    })?;
    let web = lab.inspect_network("web")?;
    assert_eq!((web.aging_s, web.storm), (1, 0));
    let shown = lab.node.netd_ok(&["network", "inspect", "web"])?;
    ensure!(shown.contains("1 s") && shown.contains("off"), "{shown}");
    // The daemon knows it after a restart, too.
    lab.node.restart(Signal::SIGKILL)?;
    assert_eq!(lab.inspect_network("web")?.aging_s, 1);
    other.ping(web.gateway(true)?)
}
