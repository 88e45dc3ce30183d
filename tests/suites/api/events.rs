//! `netd events`: each change once, with what and by whom.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use netd_api::{By, Event, EventKind, EventLine, HostSpec, PublishSpec};
use netd_tests::lab::{Lab, Node, wait};
use nix::sys::signal::Signal;

use super::clients::{ask, send};

/// The events after a number that there are now.
pub fn since(node: &Node, number: u64) -> Result<Vec<Event>> {
    let args = ["events", "-o", "json", "--no-wait", "--since"];
    let number = number.to_string();
    let text = node.netd_ok(&[&args[..], &[&number]].concat())?;
    let read = |line: &str| match serde_json::from_str(line)? {
        EventLine::Event(event) => Ok(event),
        EventLine::Lost(lost) => anyhow::bail!("{lost:?}"),
    };
    text.lines().map(read).collect()
}

/// Number of the newest event.
pub fn newest(node: &Node) -> Result<u64> {
    Ok(since(node, 0)?.last().map_or(0, |e| e.number))
}

fn shapes(events: &[Event]) -> Vec<(EventKind, &str)> {
    events.iter().map(|e| (e.kind, &e.object[..])).collect()
}

/// Runs a command; what it changed, as told.
fn done(node: &Node, args: &[&str]) -> Result<Vec<Event>> {
    let before = newest(node)?;
    let mut command = node.netd_command(args);
    command.stdout(std::process::Stdio::null());
    let mut child = command.spawn()?;
    let pid = child.id();
    ensure!(child.wait()?.success(), "{args:?}");
    let events = since(node, before)?;
    for event in &events {
        let By::Caller(caller) = &event.by else {
            anyhow::bail!("{event:?} is of {args:?}");
        };
        ensure!(caller.uid == Some(0), "{event:?}");
        ensure!(caller.pid == Some(pid), "{event:?}, but it was {pid}");
        ensure!(caller.command.as_deref() == Some("netd"), "{event:?}");
    }
    Ok(events)
}

#[test]
fn each_change_is_one_event_and_one_line_of_the_log() -> Result<()> {
    let lab = Lab::new("told-once")?;
    let node = &lab.node;
    let ns = lab.namespace("a")?;
    let floating = match node.v4() {
        std::net::IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.77")
        }
        ip @ std::net::IpAddr::V6(_) => anyhow::bail!("{ip}"),
    };
    let file = lab.dir().join("db.toml");
    std::fs::write(&file, "[network.db]\n")?;
    let file = file.display().to_string();
    let first = newest(node)?;
    let mut told = Vec::new();
    for (args, wanted) in [
        (
            &["network", "create", "web"][..],
            &[(EventKind::Created, "network web")][..],
        ),
        (
            &["network", "set", "web", "--storm", "7"],
            &[(EventKind::Changed, "network web")],
        ),
        (
            &[
                "attach",
                ns.name(),
                "--network",
                "web",
                "--name",
                "a",
                "--publish",
                "8080:80",
            ],
            &[
                (EventKind::Created, "endpoint a"),
                (EventKind::Created, "publish 8080/tcp"),
            ],
        ),
        (
            &["publish", "a", "8443:443"],
            &[(EventKind::Created, "publish 8443/tcp")],
        ),
        (
            &["floating", "add", &floating, "a"],
            &[(EventKind::Created, &format!("floating {floating}"))],
        ),
        (
            &["unpublish", "8443"],
            &[(EventKind::Removed, "publish 8443/tcp")],
        ),
        (
            &["detach", "a"],
            &[
                (EventKind::Removed, "publish 8080/tcp"),
                (EventKind::Removed, &format!("floating {floating}")),
                (EventKind::Removed, "endpoint a"),
            ],
        ),
        (
            &["network", "rm", "web"],
            &[(EventKind::Removed, "network web")],
        ),
        (
            &["apply", "-f", &file],
            &[
                (EventKind::Created, "network db"),
                (EventKind::Applied, "file:db"),
            ],
        ),
        // Nothing is left to do: nothing has happened.
        (&["apply", "-f", &file], &[]),
        (&["flow", "flush"], &[]),
    ] {
        let events = done(node, args)?;
        let (mut got, mut wanted) = (shapes(&events), wanted.to_vec());
        got.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(got, wanted, "{args:?}");
        told.extend(events);
    }
    // What is refused changes nothing, so nothing is told.
    let refused = node.netd(&["network", "create", "db"])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let numbers: Vec<u64> = since(node, first)?.iter().map(|e| e.number).collect();
    let wanted: Vec<u64> = (first + 1..=first + told.len() as u64).collect();
    assert_eq!(numbers, wanted, "nothing beside, none left out");

    let log = node.log();
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &told {
        *lines.entry(&event.text).or_default() += 1;
    }
    for (text, times) in lines {
        let found = log.lines().filter(|l| l.contains(&format!("{text}; by ")));
        assert_eq!(found.count(), times, "{text}\n{log}");
    }
    Ok(())
}

#[test]
fn what_others_do_to_the_node_is_told_as_found_and_repaired() -> Result<()> {
    let lab = Lab::new("told-found")?;
    let node = &lab.node;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let all = since(node, 0)?;
    assert_eq!(
        (all[0].number, all[0].kind, &all[0].object[..]),
        (1, EventKind::Started, "daemon")
    );
    let uplink = all.iter().find(|e| e.object == "uplink up0");
    assert_eq!(uplink.context("the uplink")?.kind, EventKind::Created);

    let mut seen = newest(node)?;
    let mut until = |kind: EventKind, object: &str| {
        let what = format!("{} of {object}", kind.name());
        wait::until(&what, || {
            let new = since(node, seen)?;
            let found = new.iter().find(|e| e.kind == kind && e.object == object);
            seen = found.map_or(seen, |e| e.number);
            Ok(found.cloned())
        })
    };
    let gateway = web.device.clone().context("a gateway")?;
    node.ip(&format!("link del {gateway}"))?;
    let repaired = until(EventKind::Repaired, "network web")?;
    assert_eq!(repaired.by, By::Netd);
    assert!(repaired.text.contains(&gateway), "{repaired:?}");
    a.ping(node.v4())?;

    node.ip("addr flush dev up0 scope global")?;
    until(EventKind::Changed, "uplink up0")?;
    let problem = until(EventKind::Problem, "node")?;
    assert!(problem.text.contains("up0 has no IPv"), "{problem:?}");
    node.ip(&format!("addr add {}/24 dev up0", node.v4()))?;
    node.ip(&format!("addr add {}/64 dev up0 nodad", node.v6()))?;
    let solved = until(EventKind::Solved, "node")?;
    assert!(
        solved.text.contains("no longer a problem: uplink up0"),
        "{solved:?}"
    );

    node.ip(&format!("link del {}", a.info.device))?;
    let gone = until(EventKind::Gone, "endpoint a")?;
    assert_eq!(gone.by, By::Netd);
    Ok(())
}

#[test]
fn readers_hear_what_comes_until_the_daemon_stops() -> Result<()> {
    let lab = Lab::new("told-on")?;
    let node = &lab.node;
    let newest = newest(node)?;
    let mut reader = UnixStream::connect(node.socket())?;
    reader.set_read_timeout(Some(wait::PATIENCE * 2))?;
    send(&mut reader, "GET", "/v1/events?since=0", "")?;
    let refused = ask(node, "GET", "/v1/events?since=100000", "")?;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(
        refused.body.contains(&format!("the newest is {newest}")),
        "{refused:?}"
    );
    lab.network("web")?;
    node.stop(Signal::SIGTERM)?;
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    assert!(text.contains(r#""event":"started""#), "{text}");
    assert!(text.contains("network web created"), "{text}");
    let last = text.lines().rfind(|l| l.starts_with('{'));
    let last: Event = serde_json::from_str(last.context("no event")?)?;
    assert_eq!(last.kind, EventKind::Stopping, "{text}");

    // The numbers of the next daemon begin anew.
    node.start()?;
    let all = since(node, 0)?;
    assert_eq!((all[0].number, all[0].kind), (1, EventKind::Started));
    let said = node.netd(&["events", "--count", "1", "--since", "0"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.stdout.lines().count(), 1, "{said:?}");
    assert!(said.stdout.contains(" started "), "{said:?}");
    Ok(())
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed() -> Result<()> {
    let lab = Lab::new("told-slow")?;
    let node = &lab.node;
    let web = lab.network("web")?;
    lab.endpoint("a", &web)?;
    let mut slow = UnixStream::connect(node.socket())?;
    slow.set_read_timeout(Some(wait::PATIENCE * 2))?;
    send(&mut slow, "GET", "/v1/events?since=0", "")?;
    // More events than the ring and the socket can hold.
    let specs: Vec<PublishSpec> = (10_000..13_000)
        .map(|port| format!("{port}:80").parse())
        .collect::<Result<_, _>>()?;
    let hosts: Vec<HostSpec> = specs.iter().map(|s| s.host).collect();
    let (specs, hosts) = (
        serde_json::to_string(&specs)?,
        serde_json::to_string(&hosts)?,
    );
    for _ in 0..2 {
        let answer = ask(node, "POST", "/v1/endpoints/a/publish", &specs)?;
        ensure!(answer.status == 200, "{answer:?}");
        let answer = ask(node, "POST", "/v1/unpublish", &hosts)?;
        ensure!(answer.status == 204, "{answer:?}");
    }
    let answer = ask(node, "GET", "/v1/events?since=0&wait=false", "")?;
    let last = answer.body.lines().rfind(|l| l.starts_with('{'));
    let last: Event = serde_json::from_str(last.context("no event")?)?;
    let end = last.number;
    ensure!(end > 12_000, "{end} events");
    let mut text = String::new();
    let mut lost = 0;
    let mut last = 0;
    let mut buffer = vec![0; 1 << 16];
    while last < end {
        let n = slow.read(&mut buffer)?;
        ensure!(n > 0, "the stream ended at {last} of {end}");
        text.push_str(std::str::from_utf8(&buffer[..n])?);
        while let Some((line, rest)) = text.split_once('\n') {
            if line.starts_with('{') {
                match serde_json::from_str(line)? {
                    EventLine::Lost(l) => {
                        lost += l.lost;
                        last += l.lost;
                    }
                    EventLine::Event(e) => {
                        last += 1;
                        ensure!(e.number == last, "{line} after {}", last - 1);
                    }
                }
            }
            text = rest.to_owned();
        }
    }
    ensure!(lost > 0, "it cannot have had all of them");
    Ok(())
}
