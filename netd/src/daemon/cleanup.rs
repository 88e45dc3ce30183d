//! `netd cleanup`: removes every trace of an instance, daemon running or not.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lock::{self, Holder};
use super::{bpffs, ignore_missing};
use crate::config::{DaemonOptions, Settings};
use crate::datapath::Datapath;
use crate::model::floating;
use crate::net::{Netlink, link, neighbour, qdisc};
use crate::plan::Alias;
use crate::store::Store;

/// How long a daemon may take to stop.
const STOP: Duration = Duration::from_secs(20);

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Process id of the daemon that was stopped.
    pub stopped: Option<i32>,
    /// Names of the endpoints that were there.
    pub endpoints: Vec<String>,
    /// Devices deleted.
    pub devices: Vec<String>,
    /// Files and directories removed.
    pub paths: Vec<String>,
}

/// Removes every trace of the instance the options name. Refused while endpoints exist, without
/// `force`.
pub fn run(options: &DaemonOptions, force: bool) -> Result<Report> {
    if !nix::unistd::geteuid().is_root() {
        bail!("cleanup needs root; run it with sudo");
    }
    let settings = options.settings()?;
    // A thread of its own: it may have to enter the namespace of the daemon.
    let work = move || clean(&settings, force);
    let thread = std::thread::Builder::new()
        .name("cleanup".into())
        .spawn(work)?;
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("cleanup ended unexpectedly"),
    }
}

fn clean(settings: &Settings, force: bool) -> Result<Report> {
    let mut report = Report::default();
    let running = lock::running(&settings.run_dir);
    report.endpoints = match &running {
        Some(holder) => ask_endpoints(&settings.run_dir, holder)
            .or_else(|e| if force { Ok(vec![]) } else { Err(e) })?,
        None => stored_endpoints(settings, force)?,
    };
    if !force && !report.endpoints.is_empty() {
        bail!(
            "instance {} has endpoints ({}); detach them, or clean up with --force",
            settings.instance,
            report.endpoints.join(", ")
        );
    }
    if let Some(holder) = running {
        enter(holder.pid)?;
        stop(&holder)?;
        report.stopped = Some(holder.pid);
    }
    // From here on everything is tried, whatever fails before: the more is gone the better.
    let mut failed = Vec::new();
    let mut attempt = |result: Result<()>| failed.extend(result.err().map(|e| format!("{e:#}")));
    let clsact = Datapath::clsact_made(&settings.bpf_dir);
    attempt(leave_groups(settings));
    attempt(Datapath::wipe(&settings.bpf_dir).map_err(Into::into));
    attempt(remove_clsact(&clsact));
    attempt(delete_devices(&settings.instance, &mut report));
    attempt(remove_files(settings, &mut report));
    lock::sweep();
    if failed.is_empty() {
        Ok(report)
    } else {
        bail!("{}", failed.join("; "))
    }
}

/// Enters the network namespace of the daemon: its devices and hooks are there.
fn enter(pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/net");
    let file = fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {path}"))
}

fn ask_endpoints(run_dir: &Path, holder: &Holder) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let client = netd_api::Client::new(run_dir.join(crate::api::SOCKET));
    let endpoints = runtime.block_on(client.endpoints()).with_context(|| {
        format!(
            "the daemon (pid {}) does not answer; stop it, or clean up with --force",
            holder.pid
        )
    })?;
    Ok(endpoints.into_iter().map(|e| e.name).collect())
}

fn stored_endpoints(settings: &Settings, force: bool) -> Result<Vec<String>> {
    if !Store::exists(&settings.state_dir) {
        return Ok(vec![]);
    }
    let nothing = ipnet::Ipv6Net::default();
    match Store::open(&settings.state_dir, &settings.instance, nothing) {
        Ok((_, desired)) => Ok(desired.endpoints.values().map(|e| e.name.clone()).collect()),
        Err(_) if force => Ok(vec![]),
        Err(e) => Err(e).context("cannot see whether there are endpoints; clean up with --force"),
    }
}

fn stop(holder: &Holder) -> Result<()> {
    let pid = Pid::from_raw(holder.pid);
    kill(pid, Signal::SIGTERM).with_context(|| format!("cannot stop the daemon, pid {pid}"))?;
    let deadline = Instant::now() + STOP;
    while lock::running(&holder.run_dir).is_some() {
        if Instant::now() > deadline {
            bail!("the daemon (pid {pid}) does not stop; kill it and clean up again");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Leaves the multicast groups of the floating addresses that are stored; those of a store that cannot be read
/// are not known to be this instance's.
fn leave_groups(settings: &Settings) -> Result<()> {
    if !Store::exists(&settings.state_dir) {
        return Ok(());
    }
    let nothing = ipnet::Ipv6Net::default();
    let Ok((_, desired)) = Store::open(&settings.state_dir, &settings.instance, nothing) else {
        return Ok(());
    };
    let mut netlink = Netlink::open()?;
    let joined = neighbour::joined(&mut netlink)?.into_iter();
    let ours = joined.filter(|(_, ip)| floating::find(&desired, (*ip).into()).is_some());
    let requests = ours
        .map(|(ifindex, ip)| neighbour::leave(ifindex, ip))
        .collect();
    Ok(netlink.batch(requests)?)
}

fn remove_clsact(devices: &[String]) -> Result<()> {
    let mut netlink = Netlink::open()?;
    for device in devices {
        if let Some(ifindex) = link::ifindex(device) {
            qdisc::remove_empty_clsact(&mut netlink, device, ifindex)?;
        }
    }
    Ok(())
}

fn delete_devices(instance: &str, report: &mut Report) -> Result<()> {
    let mut netlink = Netlink::open()?;
    let own = |l: &link::Link| {
        l.alias
            .as_deref()
            .is_some_and(|a| Alias::parse(a, instance).is_some())
    };
    for l in link::all(&mut netlink)?.into_iter().filter(own) {
        // The second end of a pair is gone with the first: that is fine.
        netlink.batch(vec![link::delete(&l.name, l.ifindex)])?;
        report.devices.push(l.name);
    }
    Ok(())
}

fn remove_files(settings: &Settings, report: &mut Report) -> Result<()> {
    let mut remove = |path: &Path, done: std::io::Result<()>| -> Result<()> {
        match done {
            Ok(()) => report.paths.push(path.display().to_string()),
            Err(e) => {
                ignore_missing(e).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    };
    for name in Store::files() {
        let path = settings.state_dir.join(name);
        remove(&path, fs::remove_file(&path))?;
    }
    for name in [crate::api::SOCKET, crate::api::SOCKET_NEW] {
        let path = settings.run_dir.join(name);
        remove(&path, fs::remove_file(&path))?;
    }
    if settings.bpf_dir.exists() {
        bpffs::remove(&settings.bpf_dir)?;
        remove(&settings.bpf_dir, Ok(()))?;
    }
    for dir in [&settings.state_dir, &settings.run_dir] {
        match fs::remove_dir(dir) {
            // Somebody else's files are none of netd's.
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            done => remove(dir, done)?,
        }
    }
    Ok(())
}
