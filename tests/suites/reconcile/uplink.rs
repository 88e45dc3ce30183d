//! An uplink that changes under traffic.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use anyhow::{Result, ensure};
use netd_api::FlowLine;
use netd_tests::lab::topology::{OUTSIDE_DEVICE, UPLINK};
use netd_tests::lab::{AttachMode, Lab, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Found, Scene};

/// The uplink's addresses, and others.
const OLD: [&str; 2] = ["192.0.2.2/24", "2001:db8:1::2/64"];
const NEW: [&str; 2] = ["192.0.2.9/24", "2001:db8:1::9/64"];

fn ip(net: &str) -> IpAddr {
    let net: ipnet::IpNet = net.parse().unwrap_or_default();
    net.addr()
}

/// Routes to the outside.
fn routes(lab: &Lab) -> String {
    let mut lines = String::new();
    for ip in [lab.outside.v4(), lab.outside.v6()] {
        let _ = writeln!(lines, "route replace default via {ip} dev {UPLINK}");
    }
    lines
}

/// Gives the uplink other addresses.
fn readdress(lab: &Lab, from: [&str; 2], to: [&str; 2]) -> Result<()> {
    let mut lines = String::new();
    for (from, to) in from.iter().zip(to) {
        let nodad = if to.contains(':') { " nodad" } else { " brd +" };
        let _ = writeln!(lines, "addr del {from} dev {UPLINK}");
        let _ = writeln!(lines, "addr add {to}{nodad} dev {UPLINK}");
    }
    lab.node.ip(&(lines + &routes(lab)))
}

/// A socket of an endpoint, and what it talks to.
struct Talk {
    near: UdpSocket,
    far: UdpSocket,
    to: SocketAddr,
}

impl Talk {
    fn new(scene: &Scene, v6: bool) -> Result<Self> {
        let (own, ip) = if v6 {
            (scene.a.v6(), scene.lab.outside.v6())
        } else {
            (scene.a.v4(), scene.lab.outside.v4())
        };
        Ok(Self {
            near: scene.a.udp_bind(own, 5000)?,
            far: scene.lab.outside.udp_bind(ip, 7000)?,
            to: SocketAddr::new(ip, 7000),
        })
    }

    /// There and back; as whom the outside saw it.
    fn seen_as(&self) -> Result<IpAddr> {
        let mut buffer = [0; 8];
        self.near.send_to(b"hello", self.to)?;
        let (_, peer) = self.far.recv_from(&mut buffer)?;
        self.far.send_to(b"there", peer)?;
        self.near.recv_from(&mut buffer)?;
        Ok(peer.ip())
    }
}

fn nothing_stands_on(scene: &Scene, addresses: [&str; 2]) -> Result<()> {
    let flows: Vec<FlowLine> = scene.lab.node.netd_json(&["flow", "ls"])?;
    let text = scene.lab.node.netd_ok(&["mapping", "ls"])?;
    for net in addresses {
        let ip = ip(net);
        let on = |f: &FlowLine| f.nat_src == ip || f.dst == ip;
        ensure!(!flows.iter().any(on), "{ip}: {flows:#?}");
        ensure!(!text.contains(&format!(" {ip}")), "{ip}: {text}");
    }
    Ok(())
}

fn address_changes(found: Found) -> Result<()> {
    let scene = Scene::new("readdressed", AttachMode::Auto, found)?;
    let talks = [Talk::new(&scene, false)?, Talk::new(&scene, true)?];
    let all_seen_as = |addresses: [&str; 2]| -> Result<()> {
        for (talk, net) in talks.iter().zip(addresses) {
            let seen = talk.seen_as()?;
            ensure!(seen == ip(net), "{seen} is not {net}");
        }
        Ok(())
    };
    all_seen_as(OLD)?;
    // The very same sockets go on, with the new address.
    scene.seen("flows ended and", |lab| readdress(lab, OLD, NEW))?;
    nothing_stands_on(&scene, OLD)?;
    all_seen_as(NEW)?;
    // While the daemon is dead.
    scene.lab.node.stop(Signal::SIGKILL)?;
    readdress(&scene.lab, NEW, OLD)?;
    scene.lab.node.start()?;
    nothing_stands_on(&scene, NEW)?;
    all_seen_as(OLD)?;
    scene.works()
}

#[test]
fn flows_of_an_address_that_went_end_and_begin_again_with_the_new_one_when_told() -> Result<()> {
    address_changes(Found::Told)
}

#[test]
fn flows_of_an_address_that_went_end_and_begin_again_with_the_new_one_when_swept() -> Result<()> {
    address_changes(Found::Swept)
}

/// Takes the uplink down and up, with all that an administrator sets again.
fn flap(lab: &Lab) -> Result<()> {
    let v6 = OLD[1];
    let up = format!(
        "link set {UPLINK} down\nlink set {UPLINK} up\naddr replace {v6} nodad dev {UPLINK}\n"
    );
    lab.node.ip(&(up + &routes(lab)))
}

fn word(mut from: &TcpStream, mut to: &TcpStream) -> Result<()> {
    let mut got = [0; 5];
    from.write_all(b"alive")?;
    to.read_exact(&mut got)?;
    ensure!(&got == b"alive", "got something else");
    Ok(())
}

#[test]
fn flows_outlive_an_uplink_that_flaps() -> Result<()> {
    let scene = Scene::new("flaps", AttachMode::Auto, Found::Told)?;
    let outside = &scene.lab.outside;
    let mut streams = Vec::new();
    for ip in [outside.v4(), outside.v6()] {
        let listener = outside.tcp_listen(ip, 8000)?;
        let near = scene.a.tcp_connect(SocketAddr::new(ip, 8000))?;
        let far = listener.accept()?.0;
        far.set_read_timeout(Some(wait::PATIENCE))?;
        streams.push((near, far));
    }
    for _ in 0..20 {
        flap(&scene.lab)?;
    }
    for (near, far) in &streams {
        word(near, far)?;
        word(far, near)?;
    }
    // Whoever has seen this has seen all before.
    scene.repaired("MTU 1450", |lab| {
        lab.node.ip(&format!("link set {UPLINK} mtu 1450"))
    })?;
    for (near, far) in &streams {
        word(near, far)?;
    }
    scene.lab.node.ip(&format!("link set {UPLINK} mtu 1500"))
}

#[test]
fn an_uplink_may_be_renamed_resized_and_replaced() -> Result<()> {
    let scene = Scene::new("renamed", AttachMode::Auto, Found::Told)?;
    let (node, outside) = (&scene.lab.node, &scene.lab.outside);
    let rename = |from: &str, to: &str| -> Result<()> {
        let v6 = OLD[1];
        let lines = format!(
            "link set {from} down\nlink set {from} name {to}\nlink set {to} up\naddr replace {v6} nodad dev {to}\n"
        );
        node.ip(&(lines + &routes(&scene.lab).replace(UPLINK, to)))
    };
    scene.repaired(
        "uplink up7 changed: IPv4 192.0.2.2, IPv6 2001:db8:1::2",
        |_| rename(UPLINK, "up7"),
    )?;
    scene.repaired(
        "uplink up0 changed: IPv4 192.0.2.2, IPv6 2001:db8:1::2",
        |_| rename("up7", UPLINK),
    )?;
    // What is too big for it is told so.
    scene.repaired("MTU 1400", |lab| {
        lab.node.ip(&format!("link set {UPLINK} mtu 1400"))
    })?;
    for ip in [outside.v4(), outside.v6()] {
        let sized = |size| ["-c", "1", "-W", "5", "-M", "do", "-s", size];
        scene.a.ping_with(ip, &sized("1340"))?;
        let wrong = scene.a.ping_with(ip, &sized("1380"));
        ensure!(wrong.is_err(), "1380 bytes went through 1400");
    }
    // Another device of the same name: what stood on the first has ended with it.
    let talk = Talk::new(&scene, false)?;
    talk.seen_as()?;
    let gone = "uplink up0 is no uplink any more";
    let said = scene.said(gone);
    scene.repaired("XDP generic", |lab| {
        let [v4, v6] = OLD;
        lab.node.ip(&format!(
            "link del {UPLINK}\n\
             link add {UPLINK} type veth peer name {OUTSIDE_DEVICE} netns {}\n\
             addr add {v4} brd + dev {UPLINK}\naddr add {v6} nodad dev {UPLINK}\n\
             link set {UPLINK} up\n",
            outside.ns.name(),
        ))?;
        outside.ip(&format!(
            "addr add {}/24 brd + dev {OUTSIDE_DEVICE}\n\
             addr add {}/64 nodad dev {OUTSIDE_DEVICE}\n\
             link set {OUTSIDE_DEVICE} up\n",
            outside.v4(),
            outside.v6(),
        ))?;
        lab.node.ip(&routes(lab))?;
        wait::until("the uplink with both addresses", || {
            let status: netd_api::Status = lab.node.netd_json(&["status"])?;
            let whole = |u: &netd_api::UplinkStatus| u.v4.is_some() && u.v6.is_some();
            let both = status.uplinks.iter().all(whole) && !status.uplinks.is_empty();
            Ok((both && scene.said(gone) > said).then_some(()))
        })
    })?;
    ensure!(talk.seen_as()? == ip(OLD[0]), "the socket goes on");
    Ok(())
}

#[test]
fn notices_that_are_lost_are_made_up_for() -> Result<()> {
    let scene = Scene::new("overrun", AttachMode::Auto, Found::Told)?;
    let node = &scene.lab.node;
    let pid = Pid::from_raw(i32::try_from(node.pid()?)?);
    node.ip("link add flap0 type veth peer name flap1")?;
    // Nobody reads: what there is no room for is lost, the last of it first.
    kill(pid, Signal::SIGSTOP)?;
    let flaps = "link set flap0 up\nlink set flap0 down\n".repeat(5_000);
    let changed = node
        .ip(&flaps)
        .and_then(|()| readdress(&scene.lab, OLD, NEW));
    kill(pid, Signal::SIGCONT)?;
    changed?;
    node.wait_log("notices of the kernel were lost")?;
    wait::until("the new addresses", || {
        let status = scene.status()?;
        let uplink = status.uplinks.first();
        let seen = uplink.map(|u| [u.v4, u.v6]);
        Ok((seen == Some(NEW.map(|n| Some(ip(n))))).then_some(()))
    })?;
    let seen = Talk::new(&scene, false)?.seen_as()?;
    ensure!(seen == ip(NEW[0]), "{seen}");
    // And what is told afterwards is heard.
    scene.seen("IPv4 192.0.2.2,", |lab| readdress(lab, NEW, OLD))?;
    node.ip("link del flap0")?;
    Ok(())
}
