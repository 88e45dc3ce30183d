//! The netd program itself, against a server that plays the daemon: what it asks, what it prints where,
//! and how it exits. Needs no root.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;

/// A daemon that gives one answer to everything and remembers what it was asked.
struct Daemon {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
    _dir: TempDir,
}

impl Daemon {
    fn answering(status: StatusCode, body: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("netd.sock");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (body, seen) = (body.to_owned(), asked.clone());
        let app =
            Router::new().fallback(move |method: Method, uri: Uri, asked: Bytes| async move {
                let asked = String::from_utf8_lossy(&asked);
                seen.lock()
                    .unwrap()
                    .push(format!("{method} {uri} {asked}").trim().to_owned());
                (status, body)
            });
        let listener = runtime
            .block_on(async { UnixListener::bind(&socket) })
            .unwrap();
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            socket,
            asked,
            _runtime: runtime,
            _dir: dir,
        }
    }

    fn netd(&self, args: &[&str]) -> Output {
        netd()
            .env("NETD_SOCKET", &self.socket)
            .args(args)
            .output()
            .unwrap()
    }

    fn asked(&self) -> String {
        self.asked.lock().unwrap().pop().expect("a request arrived")
    }
}

fn netd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netd"));
    command.env_remove("NETD_SOCKET").stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Failed with this status, said so in one line, and printed nothing that looks like an answer.
fn assert_refused(output: &Output, status: i32, words: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert_eq!(stdout(output), "");
    assert!(
        said.starts_with("netd: ") && said.lines().count() == 1,
        "not one line: {said}"
    );
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

fn endpoint() -> Value {
    json!({
        "id": "0a1b2c3d4e5f", "number": 1, "name": "api", "network": "web", "target": "box",
        "ifname": "eth0", "device": "nde0a1b2c3d4e5f", "ifindex": 7, "mac": "02:00:00:00:00:07",
        "macs": 1, "addresses": ["10.210.0.2/24", "fd00::2/64"], "gateways": ["10.210.0.1", "fd00::1"],
        "state": "bound", "published": [], "labels": {}, "owner": "cli"
    })
}

#[test]
fn json_output_is_the_api_s_own() {
    let answer = json!([endpoint()]);
    let daemon = Daemon::answering(StatusCode::OK, &answer.to_string());
    let output = daemon.netd(&["endpoint", "ls", "-o", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        serde_json::from_str::<Value>(stdout(&output)).unwrap(),
        answer
    );
    assert_eq!(daemon.asked(), "GET /v1/endpoints");
}

#[test]
fn lists_are_arrays_when_empty_too() {
    let daemon = Daemon::answering(StatusCode::OK, "[]");
    for verb in [
        &["network", "ls"][..],
        &["endpoint", "ls"],
        &["published"],
        &["flow", "ls"],
        &["mapping", "ls"],
        &["fdb", "ls"],
        &["stats"],
    ] {
        let output = daemon.netd(&[verb, &["-o", "json"]].concat());
        assert_eq!(stdout(&output), "[]\n", "{verb:?}: {}", stderr(&output));
    }
}

#[test]
fn attach_asks_for_what_was_said_and_prints_the_name() {
    let daemon = Daemon::answering(StatusCode::OK, &endpoint().to_string());
    let output = daemon.netd(&[
        "attach",
        "box",
        "--network",
        "web",
        "--name",
        "api",
        "--ip",
        "10.210.0.2",
        "--ip",
        "fd00::2",
        "--mac",
        "02:00:00:00:00:07",
        "--macs",
        "any",
        "--ifname",
        "eth0",
        "--publish",
        "8080:80",
    ]);
    assert_eq!(
        (stdout(&output), output.status.code()),
        ("api\n", Some(0)),
        "{}",
        stderr(&output)
    );
    let asked = daemon.asked();
    let body = asked.strip_prefix("POST /v1/endpoints ").unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        json!({
            "target": "box", "network": "web", "name": "api", "ips": ["10.210.0.2", "fd00::2"],
            "mac": "02:00:00:00:00:07", "macs": "any", "ifname": "eth0", "labels": {}, "owner": "cli",
            "publish": [{
                "host_ip": null, "host_port": 8080, "host_end": 8080, "proto": "tcp",
                "port": 80, "end": 80, "from": []
            }]
        })
    );
}

#[test]
fn publish_prints_each_mapping_with_the_port_that_was_found() {
    let published = json!([{
        "endpoint": "api", "network": "web", "host_ip": null, "host_port": 49152,
        "host_end": 49152, "proto": "tcp", "port": 80, "end": 80
    }]);
    let daemon = Daemon::answering(StatusCode::OK, &published.to_string());
    let output = daemon.netd(&["publish", "api", "0:80"]);
    assert_eq!(stdout(&output), "49152:80/tcp\n", "{}", stderr(&output));
}

#[test]
fn what_answers_nothing_prints_nothing() {
    let daemon = Daemon::answering(StatusCode::NO_CONTENT, "");
    for (verb, asks) in [
        (&["network", "rm", "web"][..], "DELETE /v1/networks/web"),
        (
            &["detach", "/run/netns/box", "--network", "web"],
            "DELETE /v1/endpoints/%2Frun%2Fnetns%2Fbox?network=web",
        ),
    ] {
        let output = daemon.netd(verb);
        assert_eq!(
            (stdout(&output), stderr(&output), output.status.code()),
            ("", "", Some(0))
        );
        assert_eq!(daemon.asked(), asks);
    }
}

#[test]
fn a_refusal_of_the_daemon_is_shown_as_it_is_and_exits_with_1() {
    let daemon = Daemon::answering(
        StatusCode::CONFLICT,
        r#"{"error":"network \"web\" has 2 endpoints: detach them"}"#,
    );
    let output = daemon.netd(&["network", "rm", "web"]);
    assert_refused(&output, 1, &[]);
    assert_eq!(
        stderr(&output),
        "netd: network \"web\" has 2 endpoints: detach them\n"
    );
}

#[test]
fn without_a_daemon_one_line_names_socket_and_command() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let output = netd()
        .args(["network", "ls", "--socket"])
        .arg(&socket)
        .output()
        .unwrap();
    assert_refused(&output, 1, &[socket.to_str().unwrap(), "`netd daemon`"]);
}

#[test]
fn wrong_usage_is_one_line_and_exits_with_2() {
    for (args, words) in [
        (&["attach", "box"][..], &["--network"][..]),
        (
            &["attach", "./box", "--network", "web"],
            &["NAME", "/path", "pid:N"],
        ),
        (&["detach", "a/b"], &["NAME", "/path", "pid:N"]),
        (
            &["network", "create", "web", "--subnet", "10.0.0.0/33"],
            &["--subnet", "10.0.0.0/33"],
        ),
        (
            &[
                "network",
                "create",
                "web",
                "--gateway",
                "none",
                "--gateway",
                "10.0.0.1",
            ],
            &["--gateway none"],
        ),
        (&["publish", "api", "80"], &["HOSTPORT"]),
        (&["publish", "api"], &["SPEC"]),
        (&["netwrok", "ls"], &["network"]),
        (&["ns", "add", "../x"], &["../x"]),
        (&["ns", "adopt", "x", "12"], &["pid:N"]),
        (&["run", "true"], &["--"]),
    ] {
        assert_refused(&netd().args(args).output().unwrap(), 2, words);
    }
}

#[test]
fn unknown_namespaces_and_processes_are_refused_by_name() {
    let missing = "netd-test-no-such-namespace";
    assert_refused(
        &netd().args(["ns", "del", missing]).output().unwrap(),
        1,
        &[missing],
    );
    assert_refused(
        &netd()
            .args(["ns", "exec", missing, "true"])
            .output()
            .unwrap(),
        1,
        &[missing],
    );
    let output = netd()
        .args(["ns", "adopt", missing, "pid:4294967295"])
        .output()
        .unwrap();
    assert_refused(&output, 1, &["pid:4294967295", missing]);
}

#[test]
fn verbose_tells_the_requests_on_stderr_and_leaves_stdout_alone() {
    let daemon = Daemon::answering(StatusCode::OK, "[]");
    let output = daemon.netd(&["-v", "network", "ls", "-o", "json"]);
    assert_eq!(stdout(&output), "[]\n");
    assert_eq!(stderr(&output), "netd: GET /v1/networks -> 200 OK\n");
}

#[test]
fn a_reader_that_goes_away_ends_it_silently() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = netd()
        .args(["completions", "bash"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(13), "killed by SIGPIPE");
    assert_eq!(stderr(&output), "");
}

#[test]
fn help_and_version_are_answers() {
    for args in [
        &["--help"][..],
        &["network", "create", "--help"],
        &["--version"],
        &["help", "run"],
    ] {
        let output = netd().args(args).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty());
    }
    assert_eq!(netd().output().unwrap().status.code(), Some(2));
}
