//! Clients that come in crowds, dawdle, send too much or hang up: the others are served.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use netd_tests::lab::{Lab, Node, wait};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends a request whose connection ends with the answer.
pub fn send(stream: &mut UnixStream, method: &str, path: &str, body: &str) -> Result<()> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: netd\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    Ok(stream.write_all(body.as_bytes())?)
}

/// Reads the whole of an answer.
pub fn receive(stream: &mut UnixStream) -> Result<Answer> {
    let mut bytes = Vec::new();
    stream.set_read_timeout(Some(wait::PATIENCE * 2))?;
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes)?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| text.clone())?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// Asks and hears.
pub fn ask(node: &Node, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut stream = UnixStream::connect(node.socket())?;
    send(&mut stream, method, path, body)?;
    receive(&mut stream)
}

fn is_served(node: &Node) -> Result<()> {
    let answer = ask(node, "GET", "/v1/status", "")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[test]
fn a_thousand_open_connections_keep_nobody_out() -> Result<()> {
    raise_files()?;
    let lab = Lab::new("crowd")?;
    let node = &lab.node;
    // Silent ones, and ones that have begun a head or a body and dawdle.
    let mut open = Vec::new();
    for n in 0..2_500 {
        let mut stream = UnixStream::connect(node.socket())?;
        let begun = match n % 3 {
            0 => "",
            1 => "GET /v1/status HTTP/1.1\r\nhost: ne",
            _ => "POST /v1/networks HTTP/1.1\r\nhost: netd\r\ncontent-length: 20\r\n\r\n{",
        };
        // The oldest make room, and may be gone as soon as they are there.
        let _ = stream.write_all(begun.as_bytes());
        open.push(stream);
        if n % 100 == 0 {
            is_served(node)?;
        }
    }
    is_served(node)?;
    lab.network("web")?;
    // A request that is complete is never given up for newcomers.
    let mut reader = UnixStream::connect(node.socket())?;
    send(&mut reader, "GET", "/v1/events?since=0", "")?;
    reader.set_read_timeout(Some(wait::PATIENCE))?;
    let mut first = [0; 64];
    ensure!(reader.read(&mut first)? > 0, "no beginning");
    for _ in 0..2_200 {
        open.push(UnixStream::connect(node.socket())?);
    }
    is_served(node)?;
    drop(open);
    lab.network("later")?;
    let mut text = String::new();
    while !text.contains("network later created") {
        let mut more = [0; 4096];
        let n = reader.read(&mut more)?;
        ensure!(n > 0, "it was given up: {text}");
        text.push_str(&String::from_utf8_lossy(&more[..n]));
    }
    Ok(())
}

#[test]
fn a_thousand_requests_at_once_are_all_answered() -> Result<()> {
    raise_files()?;
    let lab = Lab::new("at-once")?;
    let mut all = Vec::new();
    for _ in 0..1_000 {
        let mut stream = UnixStream::connect(lab.node.socket())?;
        send(&mut stream, "GET", "/v1/networks", "")?;
        all.push(stream);
    }
    for mut stream in all {
        let answer = receive(&mut stream)?;
        ensure!(answer.status == 200 && answer.body == "[]", "{answer:?}");
    }
    Ok(())
}

#[test]
fn what_is_too_large_is_refused_and_the_daemon_stays_small() -> Result<()> {
    let lab = Lab::new("large")?;
    let node = &lab.node;
    let mut stream = UnixStream::connect(node.socket())?;
    let head = "POST /v1/apply HTTP/1.1\r\nhost: netd\r\ncontent-length: 1000000000000\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let chunk = vec![b' '; 1 << 20];
    let mut sent = 0;
    while sent < 64 && stream.write_all(&chunk).is_ok() {
        sent += 1;
    }
    ensure!(sent < 64, "it takes a body without end");
    // A body that is too large and ends has its answer read.
    let large = " ".repeat((8 << 20) + 1);
    let mut stream = UnixStream::connect(node.socket())?;
    let sending = send(&mut stream, "POST", "/v1/apply", &large);
    if sending.is_ok() {
        let answer = receive(&mut stream)?;
        ensure!(answer.status == 413, "{answer:?}");
        ensure!(answer.body.contains("bytes"), "{answer:?}");
    }
    let long = "n".repeat(100_000);
    let mut stream = UnixStream::connect(node.socket())?;
    let sent = send(&mut stream, "GET", &format!("/v1/networks/{long}"), "");
    if sent.is_ok()
        && let Ok(answer) = receive(&mut stream)
    {
        ensure!((400..500).contains(&answer.status), "{}", answer.head);
    }
    is_served(node)?;
    let rss = node.rss_kib()?;
    ensure!(rss <= 60 * 1024, "the daemon takes {rss} KiB");
    Ok(())
}

#[test]
fn a_client_that_dawdles_is_told_so_in_the_end() -> Result<()> {
    let lab = Lab::new("dawdle")?;
    let mut head = UnixStream::connect(lab.node.socket())?;
    head.write_all(b"GET /v1/status HTTP/1.1\r\nhost:")?;
    let mut body = UnixStream::connect(lab.node.socket())?;
    body.write_all(b"POST /v1/networks HTTP/1.1\r\nhost: netd\r\ncontent-length: 9\r\n\r\n{")?;
    let answer = receive(&mut body)?;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(answer.body.contains("did not come within"), "{answer:?}");
    let mut rest = Vec::new();
    head.set_read_timeout(Some(wait::PATIENCE * 2))?;
    // Closed, with or without an answer.
    head.read_to_end(&mut rest)?;
    is_served(&lab.node)
}

#[test]
fn a_change_that_began_ends_whole_though_its_caller_hangs_up() -> Result<()> {
    let lab = Lab::new("hang-up")?;
    let node = &lab.node;
    for n in 0..50 {
        let mut stream = UnixStream::connect(node.socket())?;
        let body = format!("{{\"name\":\"n{n}\"}}");
        send(&mut stream, "POST", "/v1/networks", &body)?;
    }
    // Those who watch and go, too: the programs that tell are taken off again.
    for _ in 0..5 {
        let mut stream = UnixStream::connect(node.socket())?;
        send(&mut stream, "GET", "/v1/monitor", "")?;
    }
    wait::until("the core to have done what there was", || {
        Ok(is_served(node).is_ok().then_some(()))
    })?;
    let told = super::events::since(node, 0)?;
    let made = told.iter().filter(|e| e.object.starts_with("network "));
    let mut made: Vec<&str> = made.map(|e| &e.object[8..]).collect();
    let networks: Vec<netd_api::Network> = node.netd_json(&["network", "ls"])?;
    let mut there: Vec<&str> = networks.iter().map(|n| &n.name[..]).collect();
    made.sort_unstable();
    there.sort_unstable();
    assert_eq!(made, there, "each is made whole or not at all");
    let devices = node.devices()?;
    let gateways = devices.iter().filter(|d| d.starts_with("nd-")).count();
    assert_eq!(gateways, there.len());
    Ok(())
}

/// The lab needs as many files as connections.
fn raise_files() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(hard >= 8_192, "SKIP: no 8192 open files");
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
