//! What runs inside the guest: the checks, the init script that runs them, and reading from the
//! serial log how they went.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::{initrd::Programs, kernel::Kernel, modules::Module};

/// Where the kernel modules are in the guest.
pub const MODULES: &str = "/modules";
/// Where the suites are in the guest.
pub const SUITES: &str = "/suites";
/// Begins the names of the checks that are suites.
const SUITE: &str = "suite-";
/// The module of a packet suite whose tests load every program and send no packet.
const LOAD_TESTS: &str = "load::";
/// Begins the lines by which the guest reports.
const MARK: &str = "NETD-VM";

/// One command in the guest that must end with status 0.
pub struct Check {
    name: String,
    command: String,
}

impl Check {
    fn new(name: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            command: command.into(),
        }
    }
}

/// The checks for one kernel: every program through the verifier, and the demo in each attach mode
/// that the kernel has. With `packets` the packets of the packet suites go through it as well: that is for the
/// oldest kernel, since what its helpers and the development machine's do alike, those in between do too, and
/// emulation is slow.
pub fn checks(kernel: &Kernel, programs: &Programs, packets: bool) -> Vec<Check> {
    let which = if packets { "" } else { LOAD_TESTS };
    let mut checks: Vec<Check> = programs
        .suites()
        .map(|suite| {
            Check::new(
                format!("{SUITE}{suite}"),
                format!("{SUITES}/{suite} --show-output {which}"),
            )
        })
        .collect();
    // TCX came with 6.6. Below, `auto` must find out by itself that it is not there.
    let modes: &[&str] = if kernel.at_least(6, 6) {
        &["tcx", "clsact"]
    } else {
        &["auto"]
    };
    checks.extend(modes.iter().map(|mode| {
        Check::new(
            format!("demo-{mode}"),
            format!("netd-lab demo --plain --netd /usr/bin/netd --attach-mode {mode}"),
        )
    }));
    checks
}

/// The init script: mounts, modules, checks, power off.
pub fn init(modules: &[Module], checks: &[Check]) -> String {
    let mut script = String::from(
        "#!/bin/sh\n\
         export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/busybox HOME=/root TERM=linux RUST_BACKTRACE=1 COLUMNS=120\n\
         /bin/busybox mkdir -p /proc /sys /dev /run /tmp /root /busybox /var\n\
         /bin/busybox --install -s /busybox\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mkdir -p /dev/pts /dev/shm\n\
         mount -t devpts devpts /dev/pts\n\
         mount -t tmpfs tmpfs /dev/shm\n\
         mount -t tmpfs tmpfs /run\n\
         mount -t tmpfs tmpfs /tmp\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         ln -s /run /var/run\n",
    );
    for module in modules {
        let name = &module.name;
        let _ = writeln!(
            script,
            "insmod {MODULES}/{name}.ko || echo '{MARK} NOTE cannot load {name}'"
        );
    }
    script.push_str("ip link set lo up\nuname -a\n");
    for Check { name, command } in checks {
        let _ = writeln!(
            script,
            "echo '{MARK} BEGIN {name}'\n{command} </dev/null 2>&1\necho \"{MARK} END {name} $?\""
        );
    }
    let _ = writeln!(script, "echo '{MARK} DONE'\npoweroff -f");
    script
}

/// Fails naming the checks that failed or never ended, after showing what they printed.
pub fn verdict(checks: &[Check], log: &str) -> Result<()> {
    let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
    let mut failed = Vec::new();
    for Check { name, .. } in checks {
        match status(&lines, name) {
            Some("0") if name.starts_with(SUITE) && passed(&lines, name) == 0 => {
                println!("vm: {name}: FAILED (no test passed{})", skips(&lines, name));
                failed.push(name.as_str());
            }
            Some("0") if name.starts_with(SUITE) => {
                let passed = passed(&lines, name);
                println!("vm: {name}: ok, {passed} passed{}", skips(&lines, name));
            }
            Some("0") => println!("vm: {name}: ok"),
            Some(status) => {
                show(&lines, name);
                println!("vm: {name}: FAILED (exit status {status})");
                failed.push(name.as_str());
            }
            None => {
                show(&lines, name);
                println!("vm: {name}: FAILED (did not end)");
                failed.push(name.as_str());
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed checks: {}", failed.join(", "));
    }
    Ok(())
}

/// A mark at the end of a line counts too: a check may leave its last line open.
fn find(lines: &[&str], mark: &str) -> Option<usize> {
    lines.iter().position(|line| line.contains(mark))
}

fn status<'a>(lines: &[&'a str], name: &str) -> Option<&'a str> {
    let end = format!("{MARK} END {name} ");
    lines
        .iter()
        .find_map(|line| line.split_once(&end).map(|(_, status)| status))
}

/// What the check printed.
fn section<'a, 'b>(lines: &'b [&'a str], name: &str) -> &'b [&'a str] {
    let begin = find(lines, &format!("{MARK} BEGIN {name}")).unwrap_or(lines.len());
    let end = find(lines, &format!("{MARK} END {name} ")).unwrap_or(lines.len());
    lines.get(begin..end).unwrap_or_default()
}

fn show(lines: &[&str], name: &str) {
    for line in section(lines, name) {
        println!("    {line}");
    }
}

/// How many tests of a suite ran and held.
fn passed(lines: &[&str], name: &str) -> usize {
    let lines = section(lines, name);
    let ok = lines
        .iter()
        .filter(|line| line.starts_with("test ") && line.ends_with(" ... ok"));
    ok.count().saturating_sub(skipped(lines).count())
}

/// What the tests of a suite print that could not run under this kernel.
fn skipped<'a>(lines: &[&'a str]) -> impl Iterator<Item = &'a str> {
    lines
        .iter()
        .filter_map(|line| line.strip_prefix("SKIP:"))
        .map(str::trim)
}

fn skips(lines: &[&str], name: &str) -> String {
    let reasons: Vec<&str> = skipped(section(lines, name)).collect();
    match reasons.len() {
        0 => String::new(),
        n => format!(", {n} skipped: {}", reasons.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "boot\r\nNETD-VM BEGIN demo-auto\r\nfine\r\nNETD-VM END demo-auto 0\r\n\
                       NETD-VM BEGIN suite-packet\r\nverifier said noNETD-VM END suite-packet 101\r\nNETD-VM DONE\r\n";

    fn check(name: &str) -> Check {
        Check::new(name, "true")
    }

    #[test]
    fn a_check_passes_by_its_status_alone() {
        verdict(&[check("demo-auto")], LOG).unwrap();
        let error = verdict(&[check("demo-auto"), check("suite-packet")], LOG).unwrap_err();
        assert_eq!(error.to_string(), "failed checks: suite-packet");
    }

    #[test]
    fn a_check_that_never_ended_fails() {
        let cut = LOG.split("NETD-VM END suite-packet").next().unwrap();
        assert!(verdict(&[check("suite-packet")], cut).is_err());
        assert!(verdict(&[check("demo-auto")], "kernel panic").is_err());
    }

    #[test]
    fn a_status_that_only_begins_with_zero_is_no_pass() {
        assert!(verdict(&[check("a")], "NETD-VM BEGIN a\nNETD-VM END a 0x\n").is_err());
    }

    #[test]
    fn a_suite_passes_only_by_tests_that_ran() {
        let log = "NETD-VM BEGIN suite-a\ntest x ... ok\nSKIP: no TCX\nNETD-VM END suite-a 0\n";
        assert!(verdict(&[check("suite-a")], log).is_err());
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(skips(&lines, "suite-a"), ", 1 skipped: no TCX");
        verdict(&[check("suite-a")], &log.replace("SKIP: no TCX\n", "")).unwrap();
        let empty = log.replace("test x ... ok\nSKIP: no TCX\n", "");
        assert!(verdict(&[check("suite-a")], &empty).is_err());
    }

    #[test]
    fn the_script_loads_modules_in_order_before_the_checks() {
        let module = |name: &str| Module {
            name: name.to_owned(),
            content: Vec::new(),
        };
        let script = init(&[module("crc"), module("nat")], &[check("a")]);
        let at = |what: &str| script.find(what).unwrap();
        assert!(at("insmod /modules/crc.ko") < at("insmod /modules/nat.ko"));
        assert!(at("insmod /modules/nat.ko") < at("BEGIN a"));
        assert!(at("END a") < at("poweroff"));
    }
}
