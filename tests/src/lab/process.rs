//! Processes of the lab: run to the end with a deadline, or keep one running until dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::wait::{self, PATIENCE};

/// How a command ended and what it wrote.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// Exit status; None: it was killed by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The output of a command that must have succeeded.
    pub fn success(self) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        let code = self
            .code
            .map_or_else(|| "a signal".to_owned(), |c| c.to_string());
        bail!(
            "`{}` ended with {code}: {}{}",
            self.line,
            self.stderr.trim(),
            self.stdout.trim()
        )
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Result<Output> {
    run_with_input(command, None)
}

/// Runs a command with `input` on its standard input; it must succeed.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    run_with_input(command, Some(input))?.success().map(drop)
}

fn run_with_input(command: &mut Command, input: Option<&str>) -> Result<Output> {
    let line = show(command);
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run `{line}`"))?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        // A child that ends early makes this fail; its exit status tells the story.
        let _ = pipe.write_all(text.as_bytes());
    }
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let mut running = Running {
        child,
        line: line.clone(),
    };
    let read = |r: &Receiver<String>| r.recv_timeout(PATIENCE * 2);
    let (Ok(stdout), Ok(stderr)) = (read(&stdout), read(&stderr)) else {
        running.stop();
        bail!("`{line}` did not end within {} s", PATIENCE.as_secs() * 2);
    };
    let status = running.wait()?;
    Ok(Output {
        line,
        code: status.code(),
        stdout,
        stderr,
    })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receive
}

/// The command line of a command.
pub fn show(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// A process that runs until it ends by itself or this value is dropped; its group dies with it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
}

impl Running {
    /// Starts a command in the background. It must lead a process group (see `Ns::command`).
    pub fn start(command: &mut Command) -> Result<Self> {
        let line = show(command);
        set_child_subreaper(true).context("cannot take over what it forks")?;
        let child = command
            .spawn()
            .with_context(|| format!("cannot run `{line}`"))?;
        Ok(Self { child, line })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipes of the child, if it was started with any.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The exit status if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot wait for `{}`", self.line))
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let what = format!("the end of `{}`", self.line);
        wait::until(&what, || self.ended())
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        nix::sys::signal::kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .with_context(|| format!("cannot send {signal} to `{}`", self.line))
    }

    /// Kills its process group and reaps it.
    pub fn stop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = killpg(
                Pid::from_raw(self.child.id().cast_signed()),
                Signal::SIGKILL,
            );
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.await_group();
        }
    }

    /// Waits until nothing is left of the killed group: what the process has forked, and this one has taken over
    /// (see [`Self::start`]), has its sockets until it is dead, and the next server on the port would be taken
    /// to be there already.
    fn await_group(&self) {
        let group = Pid::from_raw(-self.child.id().cast_signed());
        while waitpid(group, None).is_ok() {}
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a client, gives it one line, and waits for the first line it writes; then ends it.
/// UDP has no end of file: this is how one answer is awaited without a time-out passing.
pub fn ask(command: &mut Command, question: &str, patience: Duration) -> Result<String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = Running::start(command)?;
    let line = running.line.clone();
    let mut stdin = running.child.stdin.take().context("no standard input")?;
    let stdout = running.child.stdout.take().context("no standard output")?;
    let stderr = collect(running.child.stderr.take());
    // Kept open until the answer is there: an end of file would make the client hang up.
    let _ = writeln!(stdin, "{question}");
    let _ = stdin.flush();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut answer = String::new();
        let _ = BufReader::new(stdout).read_line(&mut answer);
        let _ = send.send(answer);
    });
    let answer = receive.recv_timeout(patience).unwrap_or_default();
    running.stop();
    if answer.trim().is_empty() {
        let why = stderr
            .recv_timeout(Duration::from_secs(1))
            .unwrap_or_default();
        let why = why.trim();
        return Err(anyhow!(
            "`{line}` got no answer{}{why}",
            if why.is_empty() { "" } else { ": " }
        ));
    }
    Ok(answer.trim().to_owned())
}
