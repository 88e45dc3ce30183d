//! From facts to checks: what each thing means for netd. Pure.

use super::facts::{Daemon, Facts};
use super::managers::Manager;
use super::{Check, Verdict, uplinks};
use crate::datapath::probe::{Each, Tried};

/// All checks, in the order of their layers: kernel, machine, configuration, daemon.
pub fn judge(f: &Facts) -> Vec<Check> {
    let mut all = vec![ok("kernel", &f.kernel)];
    all.push(rights(f));
    all.push(programs(f));
    all.push(each("program types", &f.programs));
    all.push(each("helpers", &f.helpers));
    all.push(each("map types", &f.maps));
    all.push(batch(f));
    all.push(jit(f));
    all.push(tcx(f));
    all.push(device(
        "clsact",
        &f.clsact,
        "CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS",
    ));
    all.push(device("veth", &f.veth, "CONFIG_VETH"));
    all.push(sockets(f));
    all.push(cgroup(f));
    all.push(bpffs(f));
    all.push(btf(f));
    all.push(ipv6(f));
    all.push(forwarding(f));
    all.push(files(f));
    all.push(manager("networkd", &f.networkd, NETWORKD));
    all.push(manager(
        "NetworkManager",
        &f.network_manager,
        NETWORK_MANAGER,
    ));
    uplinks::judge(f, &mut all);
    daemon(f, &mut all);
    all
}

const NETWORKD: &str =
    "write /etc/systemd/network/10-netd.network: [Match] Name=nd*, [Link] Unmanaged=yes";
const NETWORK_MANAGER: &str =
    "write /etc/NetworkManager/conf.d/netd.conf: [keyfile] unmanaged-devices=interface-name:nd*";

fn check(name: &str, result: Verdict, found: impl Into<String>, texts: (&str, &str)) -> Check {
    let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
    Check {
        check: name.into(),
        result,
        found: found.into(),
        cost: text(texts.0),
        remedy: text(texts.1),
    }
}

pub(super) fn ok(name: &str, found: &str) -> Check {
    check(name, Verdict::Ok, found, ("", ""))
}

pub(super) fn note(name: &str, found: impl Into<String>, cost: &str, remedy: &str) -> Check {
    check(name, Verdict::Note, found, (cost, remedy))
}

pub(super) fn missing(name: &str, found: impl Into<String>, cost: &str, remedy: &str) -> Check {
    check(name, Verdict::Missing, found, (cost, remedy))
}

/// Something that could not be tried is no fault of the machine.
pub(super) fn unseen(name: &str, why: &str) -> Check {
    note(name, format!("not seen: {why}"), "", "run this as root")
}

pub(super) const NOTHING_RUNS: &str = "the daemon cannot start";

fn rights(f: &Facts) -> Check {
    match (f.root, f.lacking.is_empty()) {
        (_, true) => ok("privileges", "root's"),
        (false, false) => note(
            "privileges",
            "not root",
            "much cannot be seen",
            "run this as root",
        ),
        (true, false) => missing(
            "privileges",
            format!("root without {}", f.lacking.join(", ")),
            NOTHING_RUNS,
            "give the container or unit these capabilities",
        ),
    }
}

fn programs(f: &Facts) -> Check {
    match &f.load {
        Err(why) => unseen("programs", why),
        Ok(Ok(loaded)) => ok(
            "programs",
            &format!("all {} taken by the verifier", loaded.programs),
        ),
        Ok(Err(why)) => missing(
            "programs",
            why.clone(),
            NOTHING_RUNS,
            "take Linux 6.1 or later; where it is: report this line",
        ),
    }
}

/// Names of what cannot be had.
fn without(all: &Each) -> String {
    let names: Vec<&str> = all.iter().filter(|e| !e.1).map(|e| e.0).collect();
    names.join(", ")
}

fn each(name: &str, tried: &Tried<Each>) -> Check {
    match tried {
        Err(why) => unseen(name, why),
        Ok(all) if all.iter().all(|e| e.1) => ok(name, &format!("all {} there", all.len())),
        Ok(all) => missing(
            name,
            format!("without {}", without(all)),
            NOTHING_RUNS,
            "take Linux 6.1 or later with CONFIG_BPF_SYSCALL, CONFIG_NET and CONFIG_INET",
        ),
    }
}

fn batch(f: &Facts) -> Check {
    match &f.batch {
        Err(why) => unseen("batched map reads", why),
        Ok(true) => ok("batched map reads", "there"),
        Ok(false) => missing(
            "batched map reads",
            "not there",
            "flows would never be collected",
            "take Linux 5.6 or later",
        ),
    }
}

fn jit(f: &Facts) -> Check {
    match &f.load {
        Ok(Ok(loaded)) if loaded.compiled => ok("JIT", "programs are compiled"),
        Ok(Ok(_)) => note(
            "JIT",
            "programs are interpreted",
            "each packet costs many times as much",
            "sysctl net.core.bpf_jit_enable=1, CONFIG_BPF_JIT",
        ),
        Ok(Err(_)) => note("JIT", "not seen: no program was taken", "", ""),
        Err(why) => unseen("JIT", why),
    }
}

fn tcx(f: &Facts) -> Check {
    match &f.tcx {
        Err(why) => unseen("TCX", why),
        Ok(true) => ok("TCX", "there"),
        Ok(false) => note(
            "TCX",
            "not there: clsact is used",
            "other tools can remove the hooks of uplinks",
            "take Linux 6.6 or later",
        ),
    }
}

fn device(name: &str, tried: &Tried<()>, option: &str) -> Check {
    match tried {
        Ok(()) => ok(name, "there"),
        Err(why) if why.contains("cannot make a network namespace") => unseen(name, why),
        Err(why) => missing(
            name,
            why.clone(),
            NOTHING_RUNS,
            &format!("load the module, or take a kernel with {option}"),
        ),
    }
}

const NODES_OWN: &str =
    "the node's own processes do not reach published ports by the node's addresses";

fn sockets(f: &Facts) -> Check {
    let name = "socket hooks";
    let tried = match &f.sockets {
        Err(why) => return unseen(name, why),
        Ok(tried) => tried,
    };
    let refused = match &f.load {
        Ok(Ok(loaded)) => loaded.sockets.clone(),
        _ => None,
    };
    if tried.iter().all(|e| e.1) && refused.is_none() {
        return ok(
            name,
            "can be had, for mapped addresses too; sockets bound to 127.0.0.1 or ::1 first are refused",
        );
    }
    let found = refused.unwrap_or_else(|| format!("without {}", without(tried)));
    let remedy = "take Linux 5.18 or later with CONFIG_CGROUP_BPF";
    note(name, found, NODES_OWN, remedy)
}

fn cgroup(f: &Facts) -> Check {
    let name = "cgroup2";
    match &f.cgroup {
        Some((path, true)) => ok(name, &path.display().to_string()),
        // The daemon takes it for a mistake.
        Some((path, false)) if f.cgroup_asked => missing(
            name,
            format!("{} is no cgroup2", path.display()),
            NOTHING_RUNS,
            "give --cgroup a directory of the cgroup2 file system",
        ),
        Some((path, false)) => note(
            name,
            format!("{} is no cgroup2", path.display()),
            NODES_OWN,
            "give --cgroup a directory of the cgroup2 file system",
        ),
        None => note(
            name,
            "not mounted",
            NODES_OWN,
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or give --cgroup",
        ),
    }
}

fn bpffs(f: &Facts) -> Check {
    match &f.bpffs {
        Some(path) => ok("bpffs", &path.display().to_string()),
        // The daemon mounts it.
        None => ok(
            "bpffs",
            &format!(
                "not mounted for {}: the daemon does it",
                f.bpf_dir.display()
            ),
        ),
    }
}

fn btf(f: &Facts) -> Check {
    if f.btf {
        ok("BTF", "/sys/kernel/btf/vmlinux")
    } else {
        note(
            "BTF",
            "not there",
            "tools like bpftool show maps as bytes; netd needs none",
            "take a kernel with CONFIG_DEBUG_INFO_BTF",
        )
    }
}

fn ipv6(f: &Facts) -> Check {
    if f.ipv6 {
        ok("IPv6", "there")
    } else {
        note(
            "IPv6",
            "not there or switched off",
            "no IPv6 between node and networks, nor to the outside",
            "sysctl net.ipv6.conf.all.disable_ipv6=0; boot without ipv6.disable=1",
        )
    }
}

fn forwarding(f: &Facts) -> Check {
    let word = |on: bool| if on { "on" } else { "off" };
    let (v4, v6) = f.forwarding;
    ok(
        "forwarding",
        &format!("IPv4 {}, IPv6 {}: netd needs neither", word(v4), word(v6)),
    )
}

fn files(f: &Facts) -> Check {
    if f.files >= 1_024 {
        ok("open files", &f.files.to_string())
    } else {
        note(
            "open files",
            f.files.to_string(),
            "the daemon may run out of descriptors",
            "raise RLIMIT_NOFILE (LimitNOFILE= of the unit) to 1024 or more",
        )
    }
}

fn manager(name: &str, found: &Manager, remedy: &str) -> Check {
    match found {
        Manager::Absent => ok(name, "does not run"),
        Manager::LeavesAlone(why) => ok(name, &format!("leaves nd* alone: {why}")),
        Manager::Touches(why) => note(
            name,
            format!("would touch nd*: {why}"),
            "it may take addresses and routes of gateways away",
            remedy,
        ),
    }
}

fn daemon(f: &Facts, all: &mut Vec<Check>) {
    let Daemon { status, .. } = match &f.daemon {
        Err(why) => {
            all.push(note(
                "daemon",
                why.clone(),
                "no change is made, no flow expires",
                "netd daemon",
            ));
            return;
        }
        Ok(daemon) => daemon,
    };
    let own = env!("CARGO_PKG_VERSION");
    all.push(if status.version == own {
        ok(
            "daemon",
            &format!(
                "{} (pid {}), hooks by {}, {} networks, {} endpoints",
                status.version, status.pid, status.attach_mode, status.networks, status.endpoints
            ),
        )
    } else {
        note(
            "daemon",
            format!("{}, this is {own}", status.version),
            "they may not understand each other",
            "start the daemon again: traffic goes on meanwhile",
        )
    });
    if let Some(cgroup) = &status.cgroup {
        all.push(ok("sockets of the node", &format!("hooked on {cgroup}")));
    }
    for u in status.uplinks.iter().filter(|u| u.xdp == "off") {
        all.push(note(
            &format!("XDP of {}", u.device),
            "off",
            "the deny list has no effect, malformed frames reach the stack",
            "run the daemon without --xdp off",
        ));
    }
    for problem in &status.problems {
        all.push(note("problem", problem.clone(), "", "see `netd status`"));
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
