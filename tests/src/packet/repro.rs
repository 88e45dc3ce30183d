//! Cases of `netd repro`: a packet of another node, run through the programs over that node's rows, on devices
//! and routes like its own.

use std::fmt::Write as _;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use netd::datapath::{At, Copies};
use netd::net::{Netlink, replay};
use netd::repro::{Case, Clock, Device};
use netd::trace::{end, summary};
use netd_common::flow::Timeouts;

use super::table::uptime;
use super::world::{apart, ip, silent, sysctl};

/// The loopback device, which each namespace has.
const LOOPBACK: u32 = 1;
/// Loaded programs, which the next case is run by with rows of its own.
static IDLE: Mutex<Vec<Copies>> = Mutex::new(Vec::new());
/// The other ends of the devices have these ifindexes, out of the way of those of any node.
const PEERS: u32 = 1 << 30;

/// Runs a case, in its text form, in a network namespace of its own; a difference to what was seen when it
/// was made is a panic.
#[track_caller]
pub fn run(case: &str) {
    if let Err(wrong) = check(case) {
        panic!("{wrong:#}");
    }
}

/// The same, with the difference as the error.
pub fn check(case: &str) -> Result<()> {
    let mut case: Case = case.parse()?;
    let mut done = Ok(());
    apart(|| done = again(&mut case));
    done
}

/// In a namespace without devices: makes it the node's, and runs.
fn again(case: &mut Case) -> Result<()> {
    scene(case)?;
    let clock = Clock {
        from: case.clock,
        to: uptime(),
    };
    clock.shift(&mut case.tables)?;
    let idle = IDLE.lock().expect("nobody panics who takes one").pop();
    let mut copies = match idle {
        Some(idle) => idle.again(&case.tables)?,
        None => Copies::of(&case.tables, Timeouts::DEFAULT)?,
    };
    let done = compare(case, &mut copies);
    IDLE.lock().expect("nor who gives one").push(copies);
    done
}

/// Runs the programs, and says where it ends in another way.
fn compare(case: &Case, copies: &mut Copies) -> Result<()> {
    for run in &case.runs {
        let at = At {
            hook: run.hook,
            ifindex: run.ifindex,
            mark: run.mark,
            frame: &run.frame,
        };
        let seen = copies.run(at)?;
        let (program, ended) = (run.hook.name(), end(&seen));
        if ended != run.end {
            bail!(
                "netd_{program} on {}: it ended as {ended:?}, not as {:?}",
                summary(&run.frame).text,
                run.end
            );
        }
        if let Some(out) = &run.out
            && *out != seen.frame
        {
            bail!(
                "netd_{program} on {}: it left as {}\n{}\nnot as {}\n{}",
                summary(&run.frame).text,
                summary(&seen.frame).text,
                netd_api::hex(&seen.frame),
                summary(out).text,
                netd_api::hex(out)
            );
        }
    }
    Ok(())
}

/// The devices, rules and routes of the node.
fn scene(case: &Case) -> Result<()> {
    silent();
    let made = || case.devices.iter().filter(|d| d.ifindex != LOOPBACK);
    let mut lines = String::from("link set lo up\n");
    for d in made() {
        let (index, peer) = (d.ifindex, PEERS + d.ifindex);
        write!(lines, "link add {} index {index} mtu {}", d.name, d.mtu)?;
        if d.mac != [0; 6] {
            let mac: Vec<String> = d.mac.iter().map(|b| format!("{b:02x}")).collect();
            write!(lines, " address {}", mac.join(":"))?;
        }
        writeln!(lines, " type veth peer name r{index} index {peer}")?;
    }
    ip(&lines);
    let set = |d: &Device, family: &str, name: &str, value: &str| {
        sysctl(&format!("{family}/conf/{}/{name}", d.name), value);
    };
    let mut lines = String::new();
    for d in made() {
        if d.speaks6 {
            set(d, "ipv6", "disable_ipv6", "0");
        }
        if d.up {
            writeln!(lines, "link set r{} up\nlink set {} up", d.ifindex, d.name)?;
        }
    }
    ip(&lines);
    for d in made() {
        for (forwards, family) in [(d.forwards4, "ipv4"), (d.forwards6, "ipv6")] {
            set(d, family, "forwarding", if forwards { "1" } else { "0" });
        }
    }
    let requests: Result<Vec<_>, _> = case
        .messages
        .iter()
        .map(|m| replay::replay(m.is_rule, &m.bytes))
        .collect();
    let requests = requests.context("the case's routes")?;
    if !requests.is_empty() {
        Netlink::open()?.batch(requests)?;
    }
    Ok(())
}
