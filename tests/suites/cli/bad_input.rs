//! Bad input: one clear line on stderr, an exit status that is not 0, nothing half-made.

use anyhow::{Result, ensure};
use netd_tests::lab::process;
use netd_tests::lab::{Host, Lab};
use serde_json::Value;

/// Arguments, the exit status, and words the line must have.
type Case = (Vec<String>, i32, &'static [&'static str]);

fn case(line: &str, status: i32, words: &'static [&'static str]) -> Case {
    (
        line.split_whitespace().map(str::to_owned).collect(),
        status,
        words,
    )
}

/// All that could be half-made: objects, devices, addresses, namespaces.
fn snapshot(lab: &Lab, inside: &[&Host]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for verb in [
        &["network", "ls"][..],
        &["endpoint", "ls"],
        &["published"],
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

    let mut cases = vec![
        // Names.
        case(
            "network create 0123456789012345678901234567890123456789012345678901234567890123",
            1,
            &["name"],
        ),
        case("network create we/b", 1, &["name"]),
        case("network create web", 1, &["web", "exists"]),
        case("network inspect nosuch", 1, &["nosuch"]),
        case("network rm nosuch", 1, &["nosuch"]),
        case("network rm web", 1, &["web", "endpoint"]),
        case("endpoint inspect nosuch", 1, &["nosuch"]),
        case("detach nosuch", 1, &["nosuch"]),
        case("publish nosuch 80:80", 1, &["nosuch"]),
        // Subnets.
        case(
            "network create db --subnet 10.99.0.128/25",
            1,
            &["10.99.0.128/25", "web"],
        ),
        case(
            "network create db --subnet 192.0.2.0/24",
            1,
            &["192.0.2.0/24"],
        ),
        case(
            "network create db --subnet 2001:db8:1::/64",
            1,
            &["2001:db8:1::/64"],
        ),
        case(
            "network create db --subnet 10.1.0.0/33",
            2,
            &["10.1.0.0/33"],
        ),
        case(
            "network create db --subnet 300.1.0.0/24",
            2,
            &["300.1.0.0/24"],
        ),
        case("network create db --subnet 10.1.0.0", 2, &["10.1.0.0"]),
        case(
            "network create db --subnet 10.1.0.7/24",
            1,
            &["10.1.0.7/24"],
        ),
        case(
            "network create db --subnet 10.1.0.0/24 --subnet 10.2.0.0/24",
            1,
            &["10."],
        ),
        case(
            "network create db --subnet 127.0.0.0/24",
            1,
            &["127.0.0.0/24"],
        ),
        case(
            "network create db --subnet 224.0.0.0/24",
            1,
            &["224.0.0.0/24"],
        ),
        case(
            "network create db --subnet 10.1.0.0/24 --gateway 10.2.0.1",
            1,
            &["10.2.0.1"],
        ),
        case(
            "network create db --subnet 10.1.0.0/24 --gateway 10.1.0.255",
            1,
            &["10.1.0.255"],
        ),
        case(
            "network create db --subnet 10.1.0.0/24 --gateway x",
            2,
            &["x"],
        ),
        case(
            "network create db --subnet 10.1.0.0/24 --ip-range 10.2.0.0/28",
            1,
            &["10.2.0.0/28"],
        ),
        case("network create db --mtu 10", 1, &["10"]),
        case("network create db --mtu 100000", 1, &["100000"]),
        case("network create db --kind macvlan", 2, &["macvlan"]),
        // Publishes.
        case("publish a 8080:81", 1, &["8080", "a"]),
        case("publish a 7070:80", 1, &["7070"]),
        case("publish a 8000-8005:80-81", 2, &["8000-8005:80-81"]),
        case("publish a 99999:80", 2, &["99999"]),
        case("publish a 198.51.100.1:8081:80", 1, &["198.51.100.1"]),
        case("publish a 8081:80/sctp", 1, &["sctp"]),
        case("publish a 8081", 2, &["8081"]),
        case("unpublish 4444", 1, &["4444"]),
        // Usage.
        case("network create", 2, &["NAME"]),
        case("frobnicate", 2, &["frobnicate"]),
        case("network ls --nosuch", 2, &["--nosuch"]),
    ];
    let attach = |options: &str, status, words| {
        case(
            &format!("attach {free} --network web --name n {options}"),
            status,
            words,
        )
    };
    cases.extend([
        attach("--ip 10.99.0.9", 1, &["10.99.0.9", "a"]),
        attach("--ip 10.99.0.1", 1, &["10.99.0.1"]),
        attach("--ip 10.99.0.0", 1, &["10.99.0.0"]),
        attach("--ip 10.99.0.255", 1, &["10.99.0.255"]),
        attach("--ip 10.98.0.5", 1, &["10.98.0.5"]),
        attach("--ip 10.99.0.5 --ip 10.99.0.6", 1, &["10.99.0."]),
        attach("--ip ten", 2, &["ten"]),
        attach("--mac 01:00:5e:00:00:01", 1, &["01:00:5e:00:00:01"]),
        attach("--mac zz", 1, &["zz"]),
        attach("--ifname sixteen-letters0", 1, &["sixteen-letters0", "15"]),
        attach("--ifname lo", 1, &["lo"]),
        attach("--publish 8080:80", 1, &["8080", "a"]),
        attach("--publish 7070:80", 1, &["7070"]),
        case(&format!("attach {free} --network nosuch"), 1, &["nosuch"]),
        case(
            &format!("attach {free} --network web --name a"),
            1,
            &["a", "exists"],
        ),
        case(
            &format!("attach {free} --network web --name bad/name"),
            1,
            &["bad/name"],
        ),
        case(
            &format!("attach {taken} --network web --name second"),
            1,
            &["web", "already"],
        ),
        case("attach nosuchns --network web", 1, &["nosuchns"]),
        case("attach /nosuch/path --network web", 1, &["/nosuch/path"]),
        case("attach pid:4194999 --network web", 1, &["pid:4194999"]),
        case("attach pid:x --network web", 2, &["pid:x"]),
        case("attach ../x --network web", 2, &["../x"]),
        case(&format!("attach {stale} --network web"), 1, &["namespace"]),
        case(
            &format!("attach {} --network web", lab.node.ns.name()),
            1,
            &["node"],
        ),
    ]);

    let space = lab.namespace("look")?;
    let look = Host::new("free", netd_tests::lab::netns::Ns::open(&free)?, "lo", &[]);
    drop(space);
    let before = snapshot(&lab, &[&look, &a])?;
    let mut wrong = Vec::new();
    for (args, status, words) in &cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let said = lab.node.netd(&args)?;
        let verdict = || -> Result<()> {
            ensure!(
                said.code == Some(*status),
                "exit status {:?}, not {status}",
                said.code
            );
            ensure!(said.stdout.is_empty(), "stdout: {}", said.stdout);
            for word in *words {
                ensure!(said.stderr.contains(word), "{word:?} is not named");
            }
            if *status == 1 {
                ensure!(said.stderr.trim_end().lines().count() == 1, "not one line");
                ensure!(
                    said.stderr.starts_with("netd: "),
                    "does not begin with netd:"
                );
            }
            let after = snapshot(&lab, &[&look, &a])?;
            if let Some((was, is)) = before.iter().zip(&after).find(|(was, is)| was != is) {
                anyhow::bail!("something was left:\n was {was}\n is  {is}");
            }
            ensure!(after.len() == before.len(), "a namespace was left");
            Ok(())
        };
        if let Err(e) = verdict() {
            wrong.push(format!(
                "`netd {}`: {e}\n    {}",
                args.join(" "),
                said.stderr.trim()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
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
