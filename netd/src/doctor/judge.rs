//! From facts to checks: what each thing means for netd. Pure.

use super::facts::{Daemon, Facts, Uplink};
use super::managers::Manager;
use super::{Check, Verdict};
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
    uplinks(f, &mut all);
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

fn ok(name: &str, found: &str) -> Check {
    check(name, Verdict::Ok, found, ("", ""))
}

fn note(name: &str, found: impl Into<String>, cost: &str, remedy: &str) -> Check {
    check(name, Verdict::Note, found, (cost, remedy))
}

fn missing(name: &str, found: impl Into<String>, cost: &str, remedy: &str) -> Check {
    check(name, Verdict::Missing, found, (cost, remedy))
}

/// Something that could not be tried is no fault of the machine.
fn unseen(name: &str, why: &str) -> Check {
    note(name, format!("not seen: {why}"), "", "run this as root")
}

const NOTHING_RUNS: &str = "the daemon cannot start";

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
    match &f.sockets {
        Err(why) => unseen(name, why),
        Ok(all) if all.iter().all(|e| e.1) => ok(
            name,
            "can be had: connect, sendmsg, recvmsg, getpeername, bind",
        ),
        Ok(all) => note(
            name,
            format!("without {}", without(all)),
            NODES_OWN,
            "take Linux 5.18 or later with CONFIG_CGROUP_BPF",
        ),
    }
}

fn cgroup(f: &Facts) -> Check {
    let name = "cgroup2";
    match &f.cgroup {
        Some((path, true)) => ok(name, &path.display().to_string()),
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

fn uplinks(f: &Facts, all: &mut Vec<Check>) {
    let found = match &f.uplinks {
        Err(why) => return all.push(unseen("uplinks", why)),
        Ok(found) => found,
    };
    if found.is_empty() {
        all.push(note(
            "uplinks",
            "none: the node has no default route",
            "networks have no outside",
            "add a default route, or give --uplink",
        ));
    }
    for u in found {
        uplink(u, found.len(), all);
    }
    mtus(f, found, all);
}

fn uplink(u: &Uplink, count: usize, all: &mut Vec<Check>) {
    let name = format!("uplink {}", u.name);
    if !u.there {
        return all.push(missing(
            &name,
            "there is no such device",
            NOTHING_RUNS,
            "name another one with --uplink, or make it first",
        ));
    }
    let lacks = match (u.v4, u.v6) {
        (true, true) => None,
        (true, false) => Some("IPv6"),
        (false, true) => Some("IPv4"),
        (false, false) => Some("IPv4 or IPv6"),
    };
    all.push(match lacks {
        None => ok(&name, &format!("IPv4 and IPv6, MTU {}", u.mtu)),
        Some(family) => note(
            &name,
            format!("no {family} address, MTU {}", u.mtu),
            &format!("no {family} from networks to the outside"),
            "give it an address of the family, where that is wanted",
        ),
    });
    if let Some(why) = &u.hidden {
        all.push(unseen(&format!("hooks of {}", u.name), why));
        return;
    }
    let hooks = format!("hooks of {}", u.name);
    if u.foreign_xdp.is_empty() && u.foreign_tc.is_empty() {
        all.push(ok(&hooks, "no programs of others"));
    }
    if !u.foreign_tc.is_empty() {
        all.push(note(
            &hooks,
            format!("foreign: {}", u.foreign_tc.join(", ")),
            "they see what netd leaves to the node, after netd; by clsact the lower priority is first",
            "nothing, as long as they do not end the chain before netd",
        ));
    }
    if !u.foreign_xdp.is_empty() {
        all.push(note(
            &format!("XDP of {}", u.name),
            format!("foreign: {}", u.foreign_xdp.join(", ")),
            "netd's cannot be hooked: the deny list has no effect, and the uplink may be refused",
            "take it off, or run the daemon with --xdp off",
        ));
    } else if u.veth {
        all.push(ok(
            &format!("XDP of {}", u.name),
            "generic: native on a veth takes its other end's offloads",
        ));
    }
    let filter = format!("rp_filter of {}", u.name);
    all.push(match u.rp_filter {
        0 => ok(&filter, "off"),
        2 => ok(&filter, "loose"),
        _ if count < 2 => ok(&filter, "strict"),
        _ => note(
            &filter,
            "strict, and there are several uplinks",
            "what comes in by another uplink than its answer leaves by is dropped by the kernel",
            &format!("sysctl net.ipv4.conf.{}.rp_filter=2", u.name),
        ),
    });
}

fn mtus(f: &Facts, uplinks: &[Uplink], all: &mut Vec<Check>) {
    let least = uplinks.iter().filter(|u| u.there).map(|u| u.mtu).min();
    let (Some(least), Ok(daemon)) = (least, &f.daemon) else {
        return;
    };
    for n in daemon
        .networks
        .iter()
        .filter(|n| n.outside && n.mtu > least)
    {
        all.push(note(
            &format!("MTU of network {}", n.name),
            format!("{}, an uplink has {least}", n.mtu),
            "larger packets to the outside are dropped",
            &format!("make the network with --mtu {least}"),
        ));
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
