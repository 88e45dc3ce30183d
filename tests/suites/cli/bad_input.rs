//! Bad input: one clear line on stderr, an exit status that is not 0, nothing half-made.

use anyhow::{Context as _, Result, bail, ensure};
use netd_tests::lab::process::{self, Output};
use netd_tests::lab::{Host, Lab};
use serde_json::Value;

/// One case for each line: exit status, arguments, and after ` -- ` words the line must have.
/// FREE is a namespace without an endpoint, TAKEN that of `a`, STALE a file that is none.
const CASES: &str = "\
1 network create 0123456789012345678901234567890123456789012345678901234567890123 -- name
1 network create we/b -- name
1 network create web -- web exists
1 network inspect nosuch -- nosuch
1 network rm nosuch -- nosuch
1 network rm web -- web endpoint
1 endpoint inspect nosuch -- nosuch
1 detach nosuch -- nosuch
1 publish nosuch 80:80 -- nosuch
1 network create db --subnet 10.99.0.128/25 -- 10.99.0.128/25 web
1 network create db --subnet 192.0.2.0/24 -- 192.0.2.0/24
1 network create db --subnet 2001:db8:1::/64 -- 2001:db8:1::/64
2 network create db --subnet 10.1.0.0/33 -- 10.1.0.0/33
2 network create db --subnet 300.1.0.0/24 -- 300.1.0.0/24
2 network create db --subnet 10.1.0.0 -- 10.1.0.0
1 network create db --subnet 10.1.0.7/24 -- 10.1.0.7/24
1 network create db --subnet 10.1.0.0/24 --subnet 10.2.0.0/24 -- 10.
1 network create db --subnet 127.0.0.0/24 -- 127.0.0.0/24
1 network create db --subnet 224.0.0.0/24 -- 224.0.0.0/24
1 network create db --subnet 10.1.0.0/24 --gateway 10.2.0.1 -- 10.2.0.1
1 network create db --subnet 10.1.0.0/24 --gateway 10.1.0.255 -- 10.1.0.255
2 network create db --subnet 10.1.0.0/24 --gateway x -- x
1 network create db --subnet 10.1.0.0/24 --ip-range 10.2.0.0/28 -- 10.2.0.0/28
1 network create db --mtu 10 -- 10
1 network create db --mtu 100000 -- 100000
1 network create db --aging 0 -- 0 aging
2 network create db --aging soon -- soon
1 network create db --storm 1000001 -- 1000001 storm
2 network create db --storm 0 -- 0 off
1 network set web --aging 0 -- 0 aging
2 network create db --kind macvlan -- macvlan
1 publish a 8080:81 -- 8080 a
1 publish a 7070:80 -- 7070
2 publish a 8000-8005:80-81 -- 8000-8005:80-81
2 publish a 99999:80 -- 99999
1 publish a 198.51.100.1:8081:80 -- 198.51.100.1
1 publish a 8081:80/sctp -- sctp
2 publish a 8081 -- 8081
1 unpublish 4444 -- 4444
1 floating add 192.0.2.2 a -- 192.0.2.2 node
1 floating add 192.0.2.255 a -- 192.0.2.255 broadcast
1 floating add 10.99.0.77 a -- 10.99.0.77 web
1 floating add 224.0.0.9 a -- 224.0.0.9 group
1 floating add fe80::9 a -- fe80::9 link-local
1 floating add 127.0.0.9 a -- 127.0.0.9
1 floating add 192.0.2.9 nosuch -- nosuch
2 floating add here a -- here
2 floating add 192.0.2.9 -- EP
1 floating rm 192.0.2.9 -- 192.0.2.9
2 network create -- NAME
2 frobnicate -- frobnicate
2 network ls --nosuch -- --nosuch
1 attach FREE --network web --name n --ip 10.99.0.9 -- 10.99.0.9 a
1 attach FREE --network web --name n --ip 10.99.0.1 -- 10.99.0.1
1 attach FREE --network web --name n --ip 10.99.0.0 -- 10.99.0.0
1 attach FREE --network web --name n --ip 10.99.0.255 -- 10.99.0.255
1 attach FREE --network web --name n --ip 10.98.0.5 -- 10.98.0.5
1 attach FREE --network web --name n --ip 10.99.0.5 --ip 10.99.0.6 -- 10.99.0.
2 attach FREE --network web --name n --ip ten -- ten
1 attach FREE --network web --name n --mac 01:00:5e:00:00:01 -- 01:00:5e:00:00:01
1 attach FREE --network web --name n --mac zz -- zz
2 attach FREE --network web --name n --macs 0 -- 0 any
2 attach FREE --network web --name n --macs 8193 -- 8193 8192
2 attach FREE --network web --name n --macs all -- all any
1 attach FREE --network web --name n --ifname sixteen-letters0 -- sixteen-letters0 15
1 attach FREE --network web --name n --ifname lo -- lo
1 attach FREE --network web --name n --publish 8080:80 -- 8080 a
1 attach FREE --network web --name n --publish 7070:80 -- 7070
1 attach FREE --network nosuch -- nosuch
1 attach FREE --network web --name a -- a exists
1 attach FREE --network web --name bad/name -- bad/name
1 attach TAKEN --network web --name second -- web already
1 attach nosuchns --network web -- nosuchns
1 attach /nosuch/path --network web -- /nosuch/path
1 attach pid:4194999 --network web -- pid:4194999
2 attach pid:x --network web -- pid:x
2 attach ../x --network web -- ../x
1 attach STALE --network web -- namespace
1 attach NODE --network web -- node
";

/// What one case says that it must not.
fn judge(said: &Output, status: &str, words: &str) -> Result<()> {
    ensure!(
        said.code.map(|c| c.to_string()).as_deref() == Some(status),
        "exit status {:?}, not {status}",
        said.code
    );
    ensure!(said.stdout.is_empty(), "stdout: {}", said.stdout);
    for word in words.split(' ') {
        ensure!(said.stderr.contains(word), "{word:?} is not named");
    }
    ensure!(said.stderr.trim_end().lines().count() == 1, "not one line");
    ensure!(
        said.stderr.starts_with("netd: "),
        "does not begin with netd:"
    );
    Ok(())
}

/// All that could be half-made: objects, devices, addresses, namespaces.
fn snapshot(lab: &Lab, inside: &[&Host]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for verb in [
        &["network", "ls"][..],
        &["endpoint", "ls"],
        &["published"],
        &["floating", "ls"],
        &["fdb", "ls"],
    ] {
        let value: Value = lab.node.netd_json(verb)?;
        all.push(value.to_string());
    }
    // The kernel's own check of link-local addresses may end meanwhile.
    all.push(
        lab.node
            .ok("ip", &["-o", "addr", "show"])?
            .replace(" tentative", ""),
    );
    for host in inside {
        all.push(
            host.ok("ip", &["-o", "addr", "show"])?
                .replace(" tentative", ""),
        );
        all.push(host.ok("ip", &["route", "show"])?);
    }
    let mut spaces = netd_tests::lab::netns::list();
    spaces.retain(|n| n.starts_with(&lab.id().ns("")));
    spaces.sort();
    all.extend(spaces);
    Ok(all)
}

#[test]
fn each_is_refused_in_one_line_and_leaves_nothing() -> Result<()> {
    let lab = Lab::new("bad-input")?;
    let web = lab.network_with(
        "web",
        &["--subnet", "10.99.0.0/24", "--subnet", "fd00:99::/64"],
    )?;
    let a = lab.endpoint_with("a", &web, &["--ip", "10.99.0.9"])?;
    lab.publish("a", "8080:80")?;
    let free = lab.namespace("free")?;
    let (free, taken) = (free.name().to_owned(), a.ns.name().to_owned());
    let stale = lab.dir().join("no-namespace");
    std::fs::write(&stale, "")?;
    let stale = stale.display().to_string();
    let _busy = lab.node.tcp_listen(lab.node.v4(), 7070)?;

    let look = Host::new("free", netd_tests::lab::netns::Ns::open(&free)?, "lo", &[]);
    let before = snapshot(&lab, &[&look, &a])?;
    let mut wrong = Vec::new();
    for line in CASES.lines() {
        let (status, rest) = line.split_once(' ').context("a case without status")?;
        let (args, words) = rest.split_once(" -- ").context("a case without words")?;
        let args: Vec<&str> = args
            .split(' ')
            .map(|word| match word {
                "FREE" => free.as_str(),
                "TAKEN" => taken.as_str(),
                "STALE" => stale.as_str(),
                "NODE" => lab.node.ns.name(),
                word => word,
            })
            .collect();
        let said = lab.node.netd(&args)?;
        let verdict = judge(&said, status, words).and_then(|()| {
            let after = snapshot(&lab, &[&look, &a])?;
            if let Some((was, is)) = before.iter().zip(&after).find(|(was, is)| was != is) {
                bail!("something was left:\n was {was}\n is  {is}");
            }
            ensure!(after.len() == before.len(), "a namespace was left");
            Ok(())
        });
        if let Err(e) = verdict {
            wrong.push(format!(
                "`netd {}`: {e}\n    {}",
                args.join(" "),
                said.stderr.trim()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    a.ping(lab.outside.v4())
}

#[test]
fn without_a_daemon_every_verb_names_the_socket() -> Result<()> {
    let lab = Lab::builder("no-daemon").without_daemon().build()?;
    lab.node
        .reconfigure(|o| o.netd = netd_tests::lab::node::find_netd().unwrap_or_default());
    let socket = lab.node.socket().display().to_string();
    for line in [
        "status",
        "stats",
        "network ls",
        "network create x",
        "endpoint ls",
        "published",
        "flow ls",
        "fdb ls",
        "detach x",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let said = lab.node.netd(&args)?;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert_eq!(said.stderr.trim_end().lines().count(), 1, "{said:?}");
        assert!(
            said.stderr.contains(&socket) && said.stderr.contains("netd daemon"),
            "{said:?}"
        );
    }
    Ok(())
}

#[test]
fn without_privileges_the_cli_says_so() -> Result<()> {
    let lab = Lab::new("cli-unprivileged")?;
    let netd = lab.dir().join("netd");
    std::fs::copy(lab.node.netd_command(&[]).get_program(), &netd)?;
    for verb in [
        &["status"][..],
        &["network", "create", "x"],
        &["ns", "add", "ndtx-unprivileged"],
    ] {
        let mut command = lab.node.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
            .arg(&netd)
            .arg("--socket")
            .arg(lab.node.socket())
            .args(verb);
        let said = process::run(&mut command)?;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert_eq!(said.stderr.trim_end().lines().count(), 1, "{said:?}");
        assert!(said.stderr.contains("root"), "{said:?}");
    }
    Ok(())
}
