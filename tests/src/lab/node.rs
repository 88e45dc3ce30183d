//! A node: a namespace that runs the real `netd daemon`, with directories and a cgroup of its own.

use std::fs::{self, File, OpenOptions};
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use super::host::Host;
use super::names::LabId;
use super::process::{self, Output, Running};
use super::wait;

/// How netd hooks its TC programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// TCX where the kernel has it, else clsact.
    Auto,
    /// TCX links.
    Tcx,
    /// clsact filters.
    Clsact,
}

impl AttachMode {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Everything `netd daemon` is told on a node.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The netd binary.
    pub netd: PathBuf,
    /// How to hook TC programs.
    pub attach_mode: AttachMode,
    /// `-v`.
    pub verbose: bool,
    /// Content of the configuration file; empty: none is given.
    pub config: String,
    /// More arguments of `netd daemon`.
    pub args: Vec<String>,
    /// What it logs (`NETD_LOG`); empty: the default.
    pub log: String,
    /// More environment variables.
    pub env: Vec<(String, String)>,
}

/// A simulated node.
#[derive(Debug)]
pub struct Node {
    host: Host,
    dir: PathBuf,
    instance: String,
    options: Mutex<DaemonOptions>,
    daemon: Mutex<Option<Running>>,
}

impl Deref for Node {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// A node whose namespace and addresses are there; the daemon is started by [`Node::start`].
    pub fn new(host: Host, id: &LabId, options: DaemonOptions) -> Self {
        let dir = id.dir();
        let instance = format!("lab-{id}");
        Self {
            host,
            dir,
            instance,
            options: Mutex::new(options),
            daemon: Mutex::new(None),
        }
    }

    /// The daemon's API socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("netd.sock")
    }

    /// The daemon's run directory.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The daemon's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The daemon's pin directory.
    pub fn bpf_dir(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The arguments that name this instance's directories, as `daemon` and `cleanup` take them.
    pub fn directories(&self) -> Vec<String> {
        let mut args = vec!["--instance".into(), self.instance.clone()];
        let dirs = [
            ("--state-dir", self.state_dir()),
            ("--run-dir", self.run_dir()),
            ("--bpf-dir", self.bpf_dir()),
        ];
        for (flag, dir) in dirs {
            args.extend([flag.to_owned(), dir.display().to_string()]);
        }
        args
    }

    /// Changes what the next start of the daemon is told.
    pub fn reconfigure(&self, change: impl FnOnce(&mut DaemonOptions)) {
        change(&mut locked(&self.options));
    }

    /// The command line of the daemon.
    pub fn daemon_command(&self) -> Result<std::process::Command> {
        let options = locked(&self.options).clone();
        let mut command = self.host.command(&options.netd);
        if options.verbose {
            command.arg("-v");
        }
        command
            .arg("daemon")
            .args(self.directories())
            .args(["--attach-mode", options.attach_mode.name()]);
        let told = options.args.iter().any(|a| a == "--cgroup");
        if let Some(cgroup) = self.host.cgroup.as_ref().filter(|_| !told) {
            command.arg("--cgroup").arg(cgroup);
        }
        if !options.config.is_empty() {
            let path = self.dir.join("netd.toml");
            fs::write(&path, &options.config)?;
            command.arg("--config").arg(path);
        }
        if !options.log.is_empty() {
            command.env("NETD_LOG", &options.log);
        }
        command.envs(options.env.iter().map(|(k, v)| (k, v)));
        command.args(&options.args).stdin(Stdio::null());
        Ok(command)
    }

    /// Starts the daemon and waits until its API answers.
    pub fn start(&self) -> Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = self.daemon_command()?;
        command.stdout(log.try_clone()?).stderr(log);
        let mut running = Running::start(&mut command)?;
        wait::until("the daemon to answer", || {
            if let Some(status) = running.ended()? {
                bail!(
                    "`{}` ended: {status}\n{}",
                    process::show(&command),
                    self.log()
                );
            }
            Ok(UnixStream::connect(self.socket()).is_ok().then_some(()))
        })
        .with_context(|| format!("the daemon's log:\n{}", self.log()))?;
        *locked(&self.daemon) = Some(running);
        Ok(())
    }

    /// Process id of the daemon.
    pub fn pid(&self) -> Result<u32> {
        locked(&self.daemon)
            .as_ref()
            .map(Running::pid)
            .context("the daemon does not run")
    }

    /// Stops the daemon with a signal and waits for its end.
    pub fn stop(&self, signal: Signal) -> Result<()> {
        let mut running = locked(&self.daemon)
            .take()
            .context("the daemon does not run")?;
        running.signal(signal)?;
        let status = running.wait()?;
        if signal == Signal::SIGTERM && !status.success() {
            bail!("the daemon ended with {status} on SIGTERM\n{}", self.log());
        }
        Ok(())
    }

    /// Waits for the daemon to end by itself (somebody else stopped it).
    pub fn wait_stopped(&self) -> Result<()> {
        let mut running = locked(&self.daemon)
            .take()
            .context("the daemon does not run")?;
        running.wait().map(drop)
    }

    /// Stops the daemon and starts it again.
    pub fn restart(&self, signal: Signal) -> Result<()> {
        self.stop(signal)?;
        self.start()
    }

    /// Gives the daemon up without ending it.
    pub fn release(&self) {
        std::mem::forget(locked(&self.daemon).take());
    }

    /// Where the daemon's log is.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("netd.log")
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits for a line of the log that contains `text`.
    pub fn wait_log(&self, text: &str) -> Result<String> {
        wait::until(&format!("{text:?} in the daemon's log"), || {
            Ok(self
                .log()
                .lines()
                .find(|l| l.contains(text))
                .map(str::to_owned))
        })
    }

    /// Resident memory of the daemon in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// A `netd` command against this node's daemon.
    pub fn netd_command(&self, args: &[&str]) -> std::process::Command {
        let netd = locked(&self.options).netd.clone();
        let mut command = self.host.command(netd);
        command.arg("--socket").arg(self.socket()).args(args);
        command
    }

    /// Runs `netd ARGS` on this node to its end, whatever that is.
    pub fn netd(&self, args: &[&str]) -> Result<Output> {
        process::run(&mut self.netd_command(args))
    }

    /// Runs `netd ARGS`, which must succeed; its standard output.
    pub fn netd_ok(&self, args: &[&str]) -> Result<String> {
        self.netd(args)?.success()
    }

    /// Runs `netd -o json ARGS`, which must succeed.
    pub fn netd_json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let args: Vec<&str> = ["-o", "json"].iter().chain(args).copied().collect();
        let text = self.netd_ok(&args)?;
        serde_json::from_str(&text)
            .with_context(|| format!("`netd {}` printed {text}", args.join(" ")))
    }

    /// Packets with one verdict at one hook (`reason` None: passed).
    pub fn stat(&self, hook: &str, reason: Option<&str>) -> Result<u64> {
        let lines: Vec<netd_api::StatLine> = self.netd_json(&["stats"])?;
        Ok(lines
            .iter()
            .find(|l| l.hook == hook && l.reason.as_deref() == reason)
            .map_or(0, |l| l.packets))
    }

    /// Runs `netd cleanup` for this instance.
    pub fn cleanup(&self, more: &[&str]) -> Result<Output> {
        let netd = locked(&self.options).netd.clone();
        let mut command = self.host.command(netd);
        process::run(command.arg("cleanup").args(self.directories()).args(more))
    }
}

/// The netd binary: `NETD_BIN`, else `release/netd` of the target directory this program is in, else
/// the one beside this program.
pub fn find_netd() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NETD_BIN") {
        return existing(PathBuf::from(path));
    }
    let me = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = me.with_file_name("netd");
    let built = me.ancestors().map(|dir| dir.join("release/netd"));
    for candidate in built.chain(std::iter::once(beside)) {
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/netd"))
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    File::open(&path).with_context(|| {
        format!(
            "there is no netd at {}: `cargo xtask build` makes it",
            path.display()
        )
    })?;
    Ok(path)
}
