//! `netd monitor`: flows and drops as they happen.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use netd_api::Told;
use netd_tests::lab::process::Running;
use netd_tests::lab::wait::PATIENCE;
use netd_tests::lab::{Lab, Node};
use nix::sys::signal::Signal;

/// A `netd` that goes on, with the lines of its stdout and of its stderr.
pub struct Watch {
    pub running: Running,
    pub out: Receiver<String>,
    pub said: Receiver<String>,
}

fn lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

impl Watch {
    /// Starts it, and waits until it watches.
    pub fn start(node: &Node, args: &[&str]) -> Result<Self> {
        let mut command = node.netd_command(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        let out = lines(running.child().stdout.take().context("no stdout")?);
        let said = lines(running.child().stderr.take().context("no stderr")?);
        let first = said.recv_timeout(PATIENCE * 2).context("it said nothing")?;
        ensure!(first.contains("Ctrl-C ends it"), "{first}");
        Ok(Self { running, out, said })
    }

    /// Lines of JSON until one fits.
    pub fn until(&self, what: &str, fits: impl Fn(&Told) -> bool) -> Result<Told> {
        let mut seen = Vec::new();
        loop {
            let line = self.out.recv_timeout(PATIENCE);
            let line = line.with_context(|| format!("{what} is not told, but {seen:#?}"))?;
            let told: Told = serde_json::from_str(&line).with_context(|| line.clone())?;
            if fits(&told) {
                return Ok(told);
            }
            seen.push(line);
        }
    }

    /// Ends it as Ctrl-C does; gives what it said last.
    pub fn end(mut self) -> Result<String> {
        self.running.signal(Signal::SIGINT)?;
        let status = self.running.wait()?;
        ensure!(status.code() == Some(0), "{status}");
        let mut last = String::new();
        while let Ok(line) = self.said.recv_timeout(PATIENCE) {
            last = line;
        }
        Ok(last)
    }
}

#[test]
fn flows_are_told_from_their_beginning_to_their_end() -> Result<()> {
    let lab = Lab::new("told")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let watch = Watch::start(&lab.node, &["monitor", "-o", "json", "--endpoint", "a"])?;
    for (ip, own) in [(lab.outside.v4(), a.v4()), (lab.outside.v6(), a.v6())] {
        let listener = lab.outside.tcp_listen(ip, 8080)?;
        let near = a.tcp_connect(SocketAddr::new(ip, 8080))?;
        let (far, peer) = listener.accept()?;
        let sport = near.local_addr()?.port();
        let of_ours = |told: &Told| match told {
            Told::Opened(f) | Told::Closed(f) => {
                f.ends.src == Some(own) && f.ends.sport == Some(sport)
            }
            _ => false,
        };
        let told = watch.until("the beginning", of_ours)?;
        let Told::Opened(flow) = told else {
            anyhow::bail!("{told:?}")
        };
        ensure!(flow.kind == "masquerade" && flow.proto == "tcp", "{flow:?}");
        ensure!(flow.endpoint.as_deref() == Some("a"), "{flow:?}");
        ensure!(flow.network.as_deref() == Some("web"), "{flow:?}");
        let nat = flow.nat.context("it is masqueraded")?;
        ensure!(
            nat.src == Some(peer.ip()) && nat.sport == Some(peer.port()),
            "the outside saw {peer}, told is {nat:?}"
        );
        drop((near, far));
        lab.node.netd_ok(&["flow", "flush", "--endpoint", "a"])?;
        let told = watch.until("the end", of_ours)?;
        let Told::Closed(flow) = told else {
            anyhow::bail!("{told:?}")
        };
        let end = flow.closed.context("it says how it ended")?;
        ensure!(end.why == "ended", "{end:?}");
        ensure!(end.packets >= 2 && end.reply_packets >= 1, "{end:?}");
    }
    let last = watch.end()?;
    ensure!(last.contains("2 flows opened, 2 closed"), "{last}");
    Ok(())
}

#[test]
fn drops_are_told_with_their_reasons_to_those_who_ask_for_them() -> Result<()> {
    let lab = Lab::new("dropped")?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &db)?);
    let all = Watch::start(&lab.node, &["monitor", "-o", "json", "--drops"])?;
    let isolated = [
        "monitor",
        "-o",
        "json",
        "--reason",
        "isolated",
        "--network",
        "db",
    ];
    let isolated = Watch::start(&lab.node, &isolated)?;
    for to in [b.v4(), b.v6()] {
        a.ping_fails(to)?;
        let of_ours = |told: &Told| match told {
            Told::Refused(p) => p.ends.dst == Some(to),
            _ => false,
        };
        for watch in [&all, &isolated] {
            let told = watch.until("the drop", of_ours)?;
            let Told::Refused(packet) = told else {
                anyhow::bail!("{told:?}")
            };
            ensure!(packet.reason.as_deref() == Some("isolated"), "{packet:?}");
            ensure!(packet.hook == "ep_out", "{packet:?}");
            ensure!(packet.endpoint.as_deref() == Some("a"), "{packet:?}");
            ensure!(packet.device == a.info.device, "{packet:?}");
        }
    }
    isolated.end()?;
    all.end()?;
    let wrong = lab.node.netd(&["monitor", "--reason", "nonsense"])?;
    ensure!(
        wrong.code == Some(1) && wrong.stderr.contains("nonsense"),
        "{wrong:?}"
    );
    Ok(())
}

#[test]
fn an_end_after_so_many_events_and_lines_for_people() -> Result<()> {
    let lab = Lab::new("counted")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let mut watch = Watch::start(&lab.node, &["monitor", "--flows", "--count", "2"])?;
    for _ in 0..2 {
        a.udp_echo(
            &lab.outside,
            SocketAddr::new(lab.outside.v4(), 9000),
            SocketAddr::new(lab.outside.v4(), 9000),
            100,
        )?;
    }
    let status = watch.running.wait()?;
    ensure!(status.code() == Some(0), "{status}");
    let text: Vec<String> = watch.out.iter().collect();
    ensure!(text.len() == 2, "{text:?}");
    for line in text {
        ensure!(line.contains(" opened   masquerade udp "), "{line}");
        ensure!(line.contains(" of a"), "{line}");
    }
    Ok(())
}
