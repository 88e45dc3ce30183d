//! Looking at the machine: values, no opinions. What cannot be looked at says why.

use std::fs;
use std::path::{Path, PathBuf};

use netd_api::Status;
use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use super::managers::{self, Manager};
use crate::config::Settings;
use crate::datapath::probe::{self, Each, Loaded, Tried};
use crate::net::events::is_made_name;
use crate::net::{self, Netlink, hooked, link, route, scratch, sysctl, xdp_features};

/// Capabilities the daemon uses, by their numbers (linux/capability.h).
const CAPABILITIES: [(&str, u32); 3] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_BPF", 39),
];
/// The routing table default routes are looked for in.
const MAIN: u32 = 254;
/// Priority of netd's own clsact filters.
const OURS: u16 = crate::datapath::FILTER_PRIORITY;

/// A device that leads outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub there: bool,
    /// L3 MTU in bytes.
    pub mtu: u32,
    /// Has an IPv4 address that leads anywhere.
    pub v4: bool,
    /// Has an IPv6 address that leads anywhere.
    pub v6: bool,
    /// A veth: native XDP would take its other end's offloads.
    pub veth: bool,
    /// Its driver can run XDP itself; none: the kernel does not tell.
    pub native: Option<bool>,
    /// `rp_filter` that counts: the larger of its own and `all`.
    pub rp_filter: i64,
    /// TC programs of others.
    pub foreign_tc: Vec<String>,
    /// XDP programs of others.
    pub foreign_xdp: Vec<String>,
    /// Why programs could not be looked at.
    pub hidden: Option<String>,
}

/// What a network of a running daemon needs of the uplinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its MTU.
    pub mtu: u32,
    /// It has an outside.
    pub outside: bool,
}

/// A running daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Daemon {
    /// What it says about itself.
    pub status: Status,
    /// Its networks.
    pub networks: Vec<Network>,
}

/// All of it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Facts {
    /// Kernel release and machine.
    pub kernel: String,
    /// Runs as root.
    pub root: bool,
    /// Capabilities that are not in force.
    pub lacking: Vec<&'static str>,
    /// netd's own programs on this kernel.
    pub load: Tried<Result<Loaded, String>>,
    /// Program types.
    pub programs: Tried<Each>,
    /// Helpers.
    pub helpers: Tried<Each>,
    /// Map types.
    pub maps: Tried<Each>,
    /// Batched reads of maps.
    pub batch: Tried<bool>,
    /// TCX links.
    pub tcx: Tried<bool>,
    /// Hooks on sockets.
    pub sockets: Tried<Each>,
    /// A veth pair in a namespace of its own.
    pub veth: Tried<()>,
    /// A clsact qdisc there.
    pub clsact: Tried<()>,
    /// The kernel's type information.
    pub btf: bool,
    /// The bpffs the pins would be on, if it is mounted.
    pub bpffs: Option<PathBuf>,
    /// The pin directory.
    pub bpf_dir: PathBuf,
    /// The cgroup the socket hooks would sit on, and whether it is one of cgroup2; none: cgroup2 is not
    /// mounted.
    pub cgroup: Option<(PathBuf, bool)>,
    /// Whether that cgroup was asked for.
    pub cgroup_asked: bool,
    /// The kernel has IPv6, and it is not switched off for all devices.
    pub ipv6: bool,
    /// Forwarding of IPv4 and IPv6.
    pub forwarding: (bool, bool),
    /// Open files the daemon may have.
    pub files: u64,
    /// Uplinks.
    pub uplinks: Tried<Vec<Uplink>>,
    /// systemd-networkd.
    pub networkd: Manager,
    /// `NetworkManager`.
    pub network_manager: Manager,
    /// The daemon; none: none answers, as this says.
    pub daemon: Result<Daemon, String>,
}

/// Looks at everything a daemon with these settings would meet.
pub fn gather(settings: &Settings, daemon: Result<Daemon, String>) -> Facts {
    let (veth, clsact) = try_devices();
    let lacking = lacking();
    let root = nix::unistd::geteuid().is_root();
    let bpf = |name: &'static str| lacking.contains(&name);
    // Without the right to try, a refusal says nothing about the kernel.
    let barred = bpf("CAP_BPF") || bpf("CAP_NET_ADMIN");
    let trying = || {
        if barred {
            Err(format!("it takes {}", lacking.join(", ")))
        } else {
            Ok(())
        }
    };
    Facts {
        kernel: kernel(),
        root,
        load: trying().and_then(|()| probe::load()),
        programs: trying().and_then(|()| probe::program_types()),
        helpers: trying().and_then(|()| probe::helpers()),
        maps: trying().and_then(|()| probe::map_types()),
        batch: trying().and_then(|()| probe::batch()),
        tcx: trying().and_then(|()| probe::tcx()),
        sockets: trying().and_then(|()| probe::socket_hooks()),
        veth,
        clsact,
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        bpffs: bpffs(&settings.bpf_dir),
        bpf_dir: settings.bpf_dir.clone(),
        cgroup: cgroup(settings.cgroup.as_deref()),
        cgroup_asked: settings.cgroup.is_some(),
        ipv6: ipv6(),
        forwarding: (on("ipv4/ip_forward"), on("ipv6/conf/all/forwarding")),
        files: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
            .map_or(0, |(_, hard)| hard),
        uplinks: uplinks(settings, daemon.as_ref().ok(), barred).map_err(|e| e.to_string()),
        networkd: managers::networkd(Path::new("/")),
        network_manager: managers::network_manager(Path::new("/")),
        daemon,
        lacking,
    }
}

fn kernel() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "?".into(),
        |u| format!("{} {}", u.release().display(), u.machine().display()),
    )
}

/// `CapEff` of `/proc/self/status`, a number in hexadecimal.
fn lacking() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let has = line
        .and_then(|l| u64::from_str_radix(l.trim(), 16).ok())
        .unwrap_or_default();
    let missing = |(_, bit): &&(&str, u32)| has & (1 << bit) == 0;
    CAPABILITIES
        .iter()
        .filter(missing)
        .map(|(name, _)| *name)
        .collect()
}

fn try_devices() -> (Tried<()>, Tried<()>) {
    let tried = scratch::run(|| {
        let veth = scratch::veth().map_err(|e| e.to_string());
        let clsact = probe::clsact("lo");
        (veth, clsact)
    });
    tried.unwrap_or_else(|e| (Err(e.to_string()), Err(e.to_string())))
}

fn bpffs(dir: &Path) -> Option<PathBuf> {
    let there = dir.ancestors().find(|d| d.exists())?;
    let fs = statfs(there).ok()?;
    (fs.filesystem_type() == BPF_FS_MAGIC).then(|| there.to_owned())
}

fn cgroup(asked: Option<&Path>) -> Option<(PathBuf, bool)> {
    let mounted = || {
        let table = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
        // ... MOUNTPOINT OPTIONS - TYPE SOURCE ... (proc_pid_mountinfo(5))
        table.lines().find_map(|l| {
            let (before, after) = l.split_once(" - ")?;
            let point = before.split(' ').nth(4)?;
            after.starts_with("cgroup2 ").then(|| PathBuf::from(point))
        })
    };
    let path = asked.map(Path::to_owned).or_else(mounted)?;
    let is = statfs(&path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
    Some((path, is))
}

fn on(name: &str) -> bool {
    fs::read_to_string(format!("/proc/sys/net/{name}")).is_ok_and(|v| v.trim() != "0")
}

fn ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").is_dir() && !on("ipv6/conf/all/disable_ipv6")
}

/// Those of the daemon, those asked for, else the devices of the default routes.
fn uplinks(settings: &Settings, daemon: Option<&Daemon>, barred: bool) -> net::Result<Vec<Uplink>> {
    let mut netlink = Netlink::open()?;
    let links = link::all(&mut netlink)?;
    let addresses = route::addresses(&mut netlink)?;
    let mut names: Vec<String> = match daemon {
        Some(d) => d.status.uplinks.iter().map(|u| u.device.clone()).collect(),
        None => settings.uplinks.clone(),
    };
    if names.is_empty() {
        let routes = route::routes(&mut netlink)?;
        let defaults = routes
            .iter()
            .filter(|r| r.to.prefix_len() == 0 && r.table == MAIN);
        let devices: Vec<u32> = defaults.flat_map(|r| r.devices.iter().copied()).collect();
        let usable = links
            .iter()
            .filter(|l| devices.contains(&l.ifindex) && !l.loopback && !is_made_name(&l.name));
        names = usable.map(|l| l.name.clone()).collect();
    }
    let mut found = Vec::new();
    for name in names {
        let Some(link) = links.iter().find(|l| l.name == name) else {
            found.push(Uplink {
                name,
                ..Uplink::default()
            });
            continue;
        };
        let has = |v4: bool| {
            let mut own = addresses.iter().filter(|a| a.ifindex == link.ifindex);
            own.any(|a| a.usable && a.net.addr().is_ipv4() == v4)
        };
        let filter = |device: &str| sysctl::get("ipv4", device, "rp_filter").unwrap_or(0);
        let mut uplink = Uplink {
            there: true,
            mtu: link.mtu,
            v4: has(true),
            v6: has(false),
            veth: link.veth,
            native: xdp_features::native(link.ifindex),
            rp_filter: filter("all").max(filter(&name)),
            name,
            ..Uplink::default()
        };
        if barred {
            uplink.hidden = Some("it takes root".into());
        } else if let Err(why) = hooks(&mut netlink, link.ifindex, &mut uplink) {
            uplink.hidden = Some(why);
        }
        found.push(uplink);
    }
    Ok(found)
}

fn hooks(netlink: &mut Netlink, ifindex: u32, uplink: &mut Uplink) -> Tried<()> {
    let said = |e: net::NetError| e.to_string();
    if probe::tcx()? {
        uplink.foreign_tc = probe::foreign_tcx(&uplink.name)?;
    }
    let filters = hooked::filters(netlink, ifindex).map_err(said)?;
    let foreign = filters.iter().filter(|f| f.priority != OURS);
    uplink.foreign_tc.extend(
        foreign.map(|f| format!("{} filter of priority {} on {}", f.kind, f.priority, f.side)),
    );
    let ids = hooked::xdp(netlink, ifindex).map_err(said)?;
    uplink.foreign_xdp = ids.into_iter().filter_map(probe::foreign_program).collect();
    Ok(())
}
