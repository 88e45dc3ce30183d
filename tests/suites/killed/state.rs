//! All there is of netd on a node, without what is another each time: numbers, ids, ifindexes, and MACs that
//! nobody asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{MapData, MapType};
use netd_api::{Endpoint, Status};
use netd_tests::lab::Lab;
use netd_tests::lab::netns::Ns;
use serde_json::Value;

/// Every kind of thing, and what there is of it.
pub type State = BTreeMap<String, Vec<String>>;

/// `BPF_MAP_GET_NEXT_KEY` of bpf(2).
const GET_NEXT_KEY: libc::c_long = 4;

/// Binds UDP ports on this node's any-address and says which can be bound.
const BIND: &str = "
import socket, sys
for port in sys.argv[1:]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.bind(('0.0.0.0', int(port)))
            print(port, 'free')
        except OSError as e:
            print(port, e.errno)
";

/// What there is on a lab's node and in these namespaces, and which of these UDP ports are taken.
pub fn of(lab: &Lab, spaces: &[Ns], ports: &[&str]) -> Result<State> {
    let node = &lab.node;
    let mut state = State::new();
    let status: Status = node.netd_json(&["status"])?;
    state.insert("problems".into(), status.problems);
    state.insert("objects".into(), lines(&node.netd_ok(&["export"])?));
    inside(&mut state, "node", |args| node.ok("ip", args))?;
    // By which it is in multicast groups.
    let proxies = node.ok("ip", &["-6", "neigh", "show", "proxy"])?;
    state.insert("proxies".into(), lines(&proxies));
    for space in spaces {
        inside(&mut state, space.name(), |args| {
            let output = space.command("ip").args(args).output()?;
            ensure!(output.status.success(), "ip {args:?}: {output:?}");
            Ok(String::from_utf8(output.stdout)?)
        })?;
    }
    let mut pins = Vec::new();
    below(&node.bpf_dir(), &node.bpf_dir(), &mut pins)?;
    let mut rows = Vec::new();
    // A row of METER comes with the first frame of a switch port that is flooded.
    let told = |pin: &&String| pin.contains("/maps/") && !pin.ends_with("/METER");
    for pin in pins.iter().filter(told) {
        let count = rows_of(&node.bpf_dir().join(pin)).with_context(|| pin.clone())?;
        rows.extend(count.map(|n| format!("{pin}: {n}")));
    }
    state.insert("pins".into(), pins);
    state.insert("rows".into(), rows);
    state.insert("values".into(), crate::rows::values(lab)?);
    let mut args = vec!["-c", BIND];
    args.extend(ports);
    state.insert("ports".into(), lines(&node.ok("python3", &args)?));
    let endpoints: Vec<Endpoint> = node.netd_json(&["endpoint", "ls"])?;
    for text in state.values_mut().flatten() {
        for endpoint in &endpoints {
            *text = text.replace(&endpoint.id, &format!("({})", endpoint.name));
        }
    }
    for list in state.values_mut() {
        list.sort();
    }
    Ok(state)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Devices, addresses and routes of a namespace.
fn inside(state: &mut State, name: &str, ip: impl Fn(&[&str]) -> Result<String>) -> Result<()> {
    let all: Vec<Value> = serde_json::from_str(&ip(&["-j", "addr", "show"])?)?;
    let mut devices = Vec::new();
    for device in &all {
        let get = |key: &str| device.get(key).map_or_else(String::new, Value::to_string);
        let device_name = get("ifname");
        devices.push(format!(
            "{device_name} mtu {} alias {} {}",
            get("mtu"),
            get("ifalias"),
            get("flags")
        ));
        let addresses = device.get("addr_info").and_then(Value::as_array);
        for address in addresses.into_iter().flatten() {
            let get = |key: &str| address.get(key).map_or_else(String::new, Value::to_string);
            // Made from the MAC.
            if get("scope") != "\"link\"" {
                devices.push(format!(
                    "{device_name} has {}/{}",
                    get("local"),
                    get("prefixlen")
                ));
            }
        }
    }
    state.insert(format!("{name}: devices"), devices);
    let mut routes = Vec::new();
    for family in ["-4", "-6"] {
        let text = ip(&[family, "route", "show", "table", "all"])?;
        let wanted = text.lines().filter(|l| !l.contains("fe80:"));
        routes.extend(wanted.map(|l| l.trim().to_owned()));
    }
    state.insert(format!("{name}: routes"), routes);
    Ok(())
}

/// The paths of everything pinned, with one name for both kinds of hooks: endpoints move from one to the
/// other when the daemon has time.
fn below(root: &Path, dir: &Path, all: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let mut name = path.strip_prefix(root)?.display().to_string();
        if dir.ends_with("stages") {
            // They are numbered, one for each load of the programs; there is one at a time.
            name = name.trim_end_matches(char::is_numeric).to_owned();
        }
        all.push(name.trim_end_matches("_filter").to_owned());
        if entry.file_type()?.is_dir() {
            below(root, &path, all)?;
        }
    }
    Ok(())
}

/// `bpf_attr` of the `BPF_MAP_*_ELEM` commands.
#[repr(C)]
struct Element {
    map: u32,
    _pad: u32,
    key: u64,
    next: u64,
    flags: u64,
}

/// How many rows a map has; none: it is an array, whose rows are always there.
fn rows_of(pin: &Path) -> Result<Option<usize>> {
    let map = MapData::from_pin(pin)?;
    let info = map.info()?;
    if !matches!(
        info.map_type()?,
        MapType::Hash | MapType::LruHash | MapType::LpmTrie
    ) {
        return Ok(None);
    }
    let size = usize::try_from(info.key_size())?;
    let mut key = vec![0u8; size];
    let mut next = vec![0u8; size];
    let mut count = 0;
    loop {
        let mut attr = Element {
            map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
            _pad: 0,
            key: if count == 0 { 0 } else { key.as_ptr() as u64 },
            next: next.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: `attr` is a `bpf_attr` of the size given; its pointers are to buffers of a key's size.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                GET_NEXT_KEY,
                &raw mut attr,
                size_of::<Element>(),
            )
        };
        if rc != 0 {
            let e = std::io::Error::last_os_error();
            ensure!(e.raw_os_error() == Some(libc::ENOENT), "{e}");
            return Ok(Some(count));
        }
        std::mem::swap(&mut key, &mut next);
        count += 1;
    }
}

/// The lines that are in one state and not in the other.
pub fn difference(a: &State, b: &State) -> String {
    let mut text = String::new();
    let none = Vec::new();
    for kind in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
        let (of_a, of_b) = (a.get(kind).unwrap_or(&none), b.get(kind).unwrap_or(&none));
        for (sign, list, other) in [('-', of_a, of_b), ('+', of_b, of_a)] {
            let count = |list: &[String], line: &String| list.iter().filter(|l| *l == line).count();
            let more = |line: &&String| count(list, line) > count(other, line);
            for line in list.iter().filter(more) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "  {sign} {kind}: {line}");
            }
        }
    }
    text
}
