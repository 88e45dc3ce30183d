//! Datagrams larger than a packet, with real sockets at both ends.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use netd_tests::both_modes;
use netd_tests::lab::frames::{self, Mac};
use netd_tests::lab::{AttachMode, Endpoint, Host, Lab, Network};
use netd_tests::packet::cut;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// One fragment more than a packet, some, and nearly as many as a datagram may have.
const SIZES: [usize; 3] = [2_408, 20_000, 60_000];

fn large_datagrams_pass_both_ways(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("fragments", mode)?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let server = lab.endpoint("server", &web)?;
    let other = lab.endpoint("other", &db)?;
    let outside = &lab.outside;
    lab.publish("server", "8080:80/udp")?;
    let families = [
        (server.v4(), lab.node.v4(), outside.v4()),
        (server.v6(), lab.node.v6(), outside.v6()),
    ];
    for (inside, node, out) in families {
        let (listen, published) = (SocketAddr::new(inside, 80), SocketAddr::new(node, 8080));
        let far = SocketAddr::new(out, 9000);
        for size in SIZES {
            println!("{size} bytes, {node}");
            let seen = server.udp_echo(outside, far, far, size).context("out")?;
            ensure!(seen.ip() == node, "seen as {seen}");
            outside
                .udp_echo(&server, listen, published, size)
                .context("in")?;
            let seen = other
                .udp_echo(&server, listen, published, size)
                .context("hairpin")?;
            ensure!(seen.ip() == node, "seen as {seen}");
            server
                .udp_echo(&server, listen, published, size)
                .context("to itself")?;
            // The node's own: to endpoints, to the outside, and from there.
            lab.node
                .udp_echo(&server, listen, listen, size)
                .context("node")?;
            lab.node
                .udp_echo(outside, far, far, size)
                .context("the node's own")?;
            let own = SocketAddr::new(node, 9001);
            outside
                .udp_echo(&lab.node, own, own, size)
                .context("to the node")?;
        }
        let size = SIZES[0].to_string();
        server
            .ping_with(out, &["-c", "1", "-s", &size])
            .context("echo")?;
    }
    for hook in ["ep_out", "up_in", "up_out"] {
        for reason in ["nat_fragment", "bad_fragment", "frag_limit", "frag_timeout"] {
            ensure!(lab.node.stat(hook, Some(reason))? == 0, "{hook} {reason}");
        }
    }
    Ok(())
}

fn networks_that_may_talk_pass_large_datagrams(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("fragments-open", mode)?;
    let a = lab.endpoint("a", &lab.network_with("one", &["--no-isolation"])?)?;
    let b = lab.endpoint("b", &lab.network_with("two", &["--no-isolation"])?)?;
    for to in [b.v4(), b.v6()] {
        let to = SocketAddr::new(to, 80);
        for size in SIZES {
            ensure!(
                a.udp_echo(&b, to, to, size)?.ip() == if to.is_ipv4() { a.v4() } else { a.v6() }
            );
        }
    }
    Ok(())
}

/// What Linux leaves in later fragments of the option that the first one has: 39 that do nothing.
fn fragments_with_a_record_route_pass_both_ways(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("fragments-options", mode)?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let options = ["-c", "1", "-W", "5", "-R", "-s", "3000"];
    for to in [b.v4(), lab.outside.v4(), lab.node.v4()] {
        a.ping_with(to, &options)?;
    }
    Ok(())
}

both_modes! {
    large_datagrams_pass_both_ways;
    fragments_with_a_record_route_pass_both_ways;
    networks_that_may_talk_pass_large_datagrams;
}

/// Payload number `n`: no two alike.
fn payload(n: u32, len: usize) -> Vec<u8> {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.extend((4..len as u32).map(|at| (at.wrapping_mul(n | 1) >> 3) as u8));
    bytes
}

/// Where frames go in, and what they are to say.
struct Way<'a> {
    sender: &'a Host,
    macs: (Mac, Mac),
    from: SocketAddr,
    to: SocketAddr,
}

impl Way<'_> {
    fn pieces(&self, n: u32, len: usize, size: usize) -> Result<Vec<Vec<u8>>> {
        let (from, to) = (self.from, self.to);
        let (src, dst) = ((from.ip(), from.port()), (to.ip(), to.port()));
        let whole = frames::udp(self.macs.0, self.macs.1, src, dst, &payload(n, len))?;
        Ok(cut(&whole, n, size))
    }
}

fn device_mac(host: &Host, device: &str) -> Result<Mac> {
    let link = host.ok("ip", &["-o", "link", "show", device])?;
    let mac = link
        .split_whitespace()
        .skip_while(|w| *w != "link/ether")
        .nth(1);
    frames::mac(mac.context("the device's MAC")?)
}

fn inward(lab: &Lab, v6: bool) -> Result<Way<'_>> {
    let outside = &lab.outside;
    let (from, to): (IpAddr, IpAddr) = if v6 {
        (outside.v6(), lab.node.v6())
    } else {
        (outside.v4(), lab.node.v4())
    };
    // Both know each other's MAC from then on.
    outside.ping(to)?;
    Ok(Way {
        sender: outside,
        macs: (
            device_mac(outside, &outside.device)?,
            device_mac(&lab.node, &lab.node.device)?,
        ),
        from: SocketAddr::new(from, 5_000),
        to: SocketAddr::new(to, 8080),
    })
}

fn outward<'a>(lab: &Lab, a: &'a Endpoint, network: &Network, v6: bool) -> Result<Way<'a>> {
    let (from, to) = if v6 {
        (a.v6(), lab.outside.v6())
    } else {
        (a.v4(), lab.outside.v4())
    };
    a.ping(to)?;
    let outer = network.gateway(v6)?;
    let text = a.ok("ip", &["neigh", "show", &outer.to_string()])?;
    let mac = text
        .split_whitespace()
        .skip_while(|w| *w != "lladdr")
        .nth(1);
    Ok(Way {
        sender: a,
        macs: (
            frames::mac(&a.info.mac)?,
            frames::mac(mac.context("the gateway's MAC")?)?,
        ),
        from: SocketAddr::new(from, 5_000),
        to: SocketAddr::new(to, 9000),
    })
}

#[test]
fn datagrams_arrive_whole_in_whatever_order_their_fragments_come() -> Result<()> {
    let lab = Lab::new("fragments-order")?;
    let web = lab.network("web")?;
    let server = lab.endpoint("server", &web)?;
    lab.publish("server", "8080:80/udp")?;
    for v6 in [false, true] {
        let ways = [
            (
                inward(&lab, v6)?,
                server.udp_bind(if v6 { server.v6() } else { server.v4() }, 80)?,
            ),
            (
                outward(&lab, &server, &web, v6)?,
                lab.outside.udp_bind(
                    if v6 {
                        lab.outside.v6()
                    } else {
                        lab.outside.v4()
                    },
                    9000,
                )?,
            ),
        ];
        for (way, receiver) in ways {
            let socket = way.sender.capture(&way.sender.device)?;
            let mut n = 1;
            for len in SIZES {
                for order in 0..4 {
                    n += 1;
                    let mut pieces = way.pieces(n, len, 1_400)?;
                    match order {
                        0 => {}
                        1 => pieces.reverse(),
                        // The first one last, the others as they are.
                        2 => pieces.rotate_left(1),
                        // Shuffled, the same way each time.
                        _ => pieces
                            .sort_by_key(|p| p.iter().map(|b| u32::from(*b)).sum::<u32>() % 61),
                    }
                    for piece in &pieces {
                        socket.send(piece)?;
                    }
                    let mut got = vec![0; 65_536];
                    let len_got = receiver.recv(&mut got).with_context(|| {
                        format!("{len} bytes from {} in order {order}", way.from)
                    })?;
                    ensure!(
                        got.get(..len_got) == Some(&payload(n, len)[..]),
                        "other bytes"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Datagrams of the race, and how many of them are under way at a time.
const RACES: u32 = 20_000;
const BATCH: u32 = 16;

#[test]
fn fragments_that_race_on_two_cpus_all_arrive() -> Result<()> {
    let lab = Lab::new("fragments-race")?;
    let web = lab.network("web")?;
    let server = lab.endpoint("server", &web)?;
    lab.publish("server", "8080:80/udp")?;
    let way = inward(&lab, false)?;
    let receiver = server.udp_bind(server.v4(), 80)?;
    let both = Barrier::new(3);
    let lost = thread::scope(|scope| -> Result<u32> {
        for part in [0, 1] {
            let (way, both) = (&way, &both);
            scope.spawn(move || {
                let sent = race(way, part, both);
                sent.expect("frames are sent");
            });
        }
        count(&receiver, &both)
    })?;
    println!("{lost} of {RACES} lost");
    ensure!(lost == 0, "{lost} of {RACES} datagrams were lost");
    Ok(())
}

/// Sends the first or the second fragment of each datagram, on a CPU of its own.
fn race(way: &Way, part: usize, both: &Barrier) -> Result<()> {
    let mut cpus = CpuSet::new();
    let n = thread::available_parallelism()?.get();
    cpus.set(part % n)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let socket = way.sender.capture(&way.sender.device)?;
    let all: Vec<Vec<u8>> = (0..RACES)
        .map(|n| Ok(way.pieces(n, 600, 400)?.swap_remove(part)))
        .collect::<Result<_>>()?;
    for batch in all.chunks(BATCH as usize) {
        both.wait();
        for frame in batch {
            socket.send(frame)?;
        }
        both.wait();
    }
    Ok(())
}

/// Receives batch after batch; gives how many datagrams did not come.
fn count(receiver: &UdpSocket, both: &Barrier) -> Result<u32> {
    let mut lost = 0;
    for batch in 0..RACES / BATCH {
        both.wait();
        both.wait();
        let mut missing: std::collections::BTreeSet<u32> =
            (batch * BATCH..(batch + 1) * BATCH).collect();
        let mut got = [0; 2_048];
        while !missing.is_empty() {
            let Ok(len) = receiver.recv(&mut got) else {
                break;
            };
            let number = got.first_chunk().map(|n| u32::from_be_bytes(*n));
            let number = number.ok_or_else(|| anyhow!("{len} bytes"))?;
            ensure!(
                got.get(..len) == Some(&payload(number, 600)[..]),
                "other bytes in {number}"
            );
            missing.remove(&number);
        }
        lost += missing.len() as u32;
    }
    Ok(lost)
}

/// Rounds of the flood, and first fragments in each: fewer than a CPU's queue takes.
const ROUNDS: u32 = 100;
const FLOOD: u32 = 200;

#[test]
fn a_flood_of_first_fragments_harms_its_sender_alone() -> Result<()> {
    let lab = Lab::new("fragments-flood")?;
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    let outside = &lab.outside;
    // The flood's victim waits for the others of all these fragments, and shall not be at an end before netd.
    let room = "echo 1000000000 > /proc/sys/net/ipv4/ipfrag_high_thresh";
    outside.ok("sh", &["-c", room])?;
    let far = SocketAddr::new(outside.v4(), 9100);
    let way = outward(&lab, &a, &web, false)?;
    let socket = a.capture(&a.device)?;
    let before = lab.node.stat("ep_out", None)?;
    for round in 0..ROUNDS {
        for n in 0..FLOOD {
            socket.send(&way.pieces(round * FLOOD + n, 600, 400)?[0])?;
        }
        // Whole datagrams of both endpoints, and such in fragments of the other one.
        a.udp_echo(outside, far, far, 1_000)?;
        b.udp_echo(outside, far, far, 1_000)?;
        b.udp_echo(outside, far, far, 5_000)?;
    }
    let seen = lab.node.stat("ep_out", None)? - before;
    ensure!(seen >= u64::from(ROUNDS * FLOOD), "no flood: {seen}");
    Ok(())
}
