//! Who may bind a published port: nobody.

use anyhow::{Context as _, Result};
use netd_tests::lab::{Lab, Proto, process::Running};
use nix::sys::signal::Signal;

use super::call::{Call, fail, make, mapped, published};

/// Binds of one port by every address and option that could get around a listener.
fn binds(lab: &Lab, proto: Proto, port: u16) -> Vec<Call> {
    let mut all = Vec::new();
    for addr in [
        "0.0.0.0",
        "127.0.0.1",
        "::",
        "::1",
        "::ffff:0.0.0.0",
        "::ffff:127.0.0.1",
    ] {
        all.push(Call::bind(proto, addr, port));
    }
    for addr in lab.node.addresses() {
        all.push(Call::bind(proto, addr, port));
    }
    all.push(Call::bind(proto, mapped(lab.node.v4()), port));
    for options in [
        &["SO_REUSEADDR"][..],
        &["SO_REUSEPORT"],
        &["SO_REUSEADDR", "SO_REUSEPORT"],
    ] {
        all.push(Call::bind(proto, "0.0.0.0", port).with(options));
        all.push(Call::bind(proto, "::", port).with(options));
    }
    all
}

fn succeed(lab: &Lab, calls: &[Call]) -> Result<()> {
    for (call, seen) in calls.iter().zip(make(&lab.node, calls)?) {
        assert_eq!(seen.answer.as_deref(), Some("bound"), "{call:?}: {seen:?}");
    }
    Ok(())
}

#[test]
fn a_published_port_cannot_be_bound_whether_the_daemon_lives_or_not() -> Result<()> {
    let lab = Lab::new("foreign-bind")?;
    published(&lab)?;
    let mut refused = Vec::new();
    for proto in Proto::ALL {
        refused.extend(binds(&lab, proto, 8080));
    }
    // Where the kernel has no MPTCP such a socket cannot be made.
    let mptcp = Call::bind(Proto::Tcp, "0.0.0.0", 8080).number(262);
    if make(
        &lab.node,
        &[Call::bind(Proto::Tcp, "0.0.0.0", 9).number(262)],
    )?[0]
        .error
        .is_none()
    {
        refused.push(mptcp);
    }
    fail(&lab.node, &refused, "EADDRINUSE")?;
    lab.node.stop(Signal::SIGKILL)?;
    fail(&lab.node, &refused, "EADDRINUSE")?;
    lab.node.start()?;
    fail(&lab.node, &refused, "EADDRINUSE")?;
    // What is not published is free, and so is what was.
    for proto in Proto::ALL {
        succeed(&lab, &binds(&lab, proto, 8081))?;
    }
    lab.node.netd_ok(&["unpublish", "8080/tcp"])?;
    succeed(&lab, &binds(&lab, Proto::Tcp, 8080))?;
    fail(&lab.node, &binds(&lab, Proto::Udp, 8080), "EADDRINUSE")?;
    lab.node.netd_ok(&["detach", "a"])?;
    succeed(&lab, &binds(&lab, Proto::Udp, 8080))
}

#[test]
fn a_port_published_on_one_address_is_free_on_the_others() -> Result<()> {
    let lab = Lab::new("one-address")?;
    let web = lab.network("web")?;
    lab.endpoint("a", &web)?;
    let (four, six) = (lab.node.v4(), lab.node.v6());
    lab.publish("a", &format!("{four}:8090:80"))?;
    lab.publish("a", "[::1]:8091:80")?;
    for (port, taken, free) in [
        (
            8090,
            vec![
                "0.0.0.0".into(),
                four.to_string(),
                mapped(four),
                "::".into(),
            ],
            vec!["127.0.0.1".to_owned(), "::1".into(), six.to_string()],
        ),
        (
            8091,
            vec!["::".into(), "::1".into()],
            vec!["0.0.0.0".into(), "127.0.0.1".into(), six.to_string()],
        ),
    ] {
        let binds = |addrs: Vec<String>| -> Vec<Call> {
            let bind = |addr| Call::bind(Proto::Tcp, addr, port);
            addrs.into_iter().map(bind).collect()
        };
        fail(&lab.node, &binds(taken), "EADDRINUSE")?;
        succeed(&lab, &binds(free))?;
    }
    Ok(())
}

#[test]
fn publishing_what_a_process_holds_is_refused_naming_it() -> Result<()> {
    let lab = Lab::new("held")?;
    let web = lab.network("web")?;
    lab.endpoint("a", &web)?;
    let node = lab.node.v4().to_string();
    for (holder, spec) in [
        ("TCP4-LISTEN:9001,bind=127.0.0.1", "9001:80"),
        ("TCP4-LISTEN:9001,bind=127.0.0.1", "9000-9002:80-82"),
        ("TCP6-LISTEN:9001,bind=[::1]", "9000-9002:80-82"),
        ("TCP6-LISTEN:9001", "127.0.0.1:9001:80"),
        ("UDP4-RECV:9001,bind=127.0.0.1", "9001:80/udp"),
        ("UDP6-RECV:9001,bind=[::1]", "[::1]:9001:80/udp"),
    ] {
        let proto = if holder.starts_with("TCP") {
            Proto::Tcp
        } else {
            Proto::Udp
        };
        let mut socat = lab.node.command("socat");
        let running = Running::start(socat.args(["-u", holder, "STDOUT"]))?;
        let v6 = holder.contains('6');
        netd_tests::lab::wait::until("socat to listen", || {
            Ok(lab.node.listens(proto, 9001, v6)?.then_some(()))
        })?;
        let said = lab.node.netd(&["publish", "a", spec])?;
        let named = format!("socat (pid {})", running.pid());
        assert_eq!(said.code, Some(1), "{holder} {spec}: {said:?}");
        assert!(said.stderr.contains(&named), "{holder} {spec}: {said:?}");
        assert_eq!(said.stderr.trim().lines().count(), 1, "{said:?}");
        // Nothing half-made: the ports around it can be bound, and other addresses published.
        let around: Vec<Call> = [9000, 9002]
            .into_iter()
            .flat_map(|port| binds(&lab, proto, port))
            .collect();
        succeed(&lab, &around)?;
        if spec == "9001:80" {
            lab.publish("a", &format!("{node}:9001:80"))?;
            lab.node.netd_ok(&["unpublish", &format!("{node}:9001")])?;
        }
    }
    let left: Vec<netd_api::Published> = lab.node.netd_json(&["published"])?;
    assert_eq!(left, []);
    Ok(())
}

#[test]
fn a_port_netd_chooses_is_none_the_kernel_gives_out() -> Result<()> {
    let lab = Lab::new("chosen")?;
    let web = lab.network("web")?;
    lab.endpoint("a", &web)?;
    let range = lab
        .node
        .ok("sysctl", &["-n", "net.ipv4.ip_local_port_range"])?;
    let ends = range.split_whitespace().map(str::parse);
    let [first, last] = ends.collect::<Result<Vec<u16>, _>>()?[..] else {
        anyhow::bail!("{range:?}");
    };
    for i in 0..20 {
        let proto = Proto::ALL[i % 2].name();
        let published = lab.publish("a", &format!("0:80/{proto}"))?;
        let port = published.first().context("nothing")?.spec.host.host_port;
        assert!(!(first..=last).contains(&port), "{port} of {range}");
    }
    Ok(())
}

#[test]
fn binding_and_publishing_a_port_at_once_has_one_winner() -> Result<()> {
    let lab = Lab::new("race")?;
    let web = lab.network("web")?;
    lab.endpoint("a", &web)?;
    // Binds and lets go without end; at each line it says what it has, keeps it until the next line,
    // and answers that too.
    let script = "import errno, os, select, socket\n\
                  os.write(1, b'ready\\n')\n\
                  while True:\n\
                  \x20   s = socket.socket()\n\
                  \x20   try:\n\
                  \x20       s.bind(('0.0.0.0', 9100)); s.listen(); got = 'bound'\n\
                  \x20   except OSError as e:\n\
                  \x20       got = errno.errorcode[e.errno]\n\
                  \x20   if select.select([0], [], [], 0)[0]:\n\
                  \x20       for said in got, 'on':\n\
                  \x20           if not os.read(0, 9): raise SystemExit\n\
                  \x20           os.write(1, (said + '\\n').encode())\n\
                  \x20   s.close()\n";
    let (mut won, mut lost) = (0, 0);
    let mut command = lab.node.command("python3");
    command
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut binder = Running::start(&mut command)?;
    let child = binder.child();
    let mut stdin = child.stdin.take().context("stdin")?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        child.stdout.take().context("stdout")?,
    ));
    let mut line = || lines.next().context("the binder ended")?.context("a line");
    assert_eq!(line()?, "ready");
    for _ in 0..40 {
        let published = lab.node.netd(&["publish", "a", "9100:80"])?;
        std::io::Write::write_all(&mut stdin, b"hold")?;
        let bound = line()?;
        if published.code == Some(0) {
            won += 1;
            assert_eq!(bound, "EADDRINUSE", "published, and bound all the same");
            lab.node.netd_ok(&["unpublish", "9100"])?;
        } else {
            lost += 1;
            assert!(published.stderr.contains("9100"), "{published:?}");
        }
        std::io::Write::write_all(&mut stdin, b"go on")?;
        assert_eq!(line()?, "on");
    }
    println!("published {won} times, refused {lost} times");
    Ok(())
}
