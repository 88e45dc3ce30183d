//! Whether systemd-networkd or `NetworkManager` would touch netd's devices, as their files say. Reads a
//! directory tree; decides from text alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Names like those netd makes.
const SAMPLES: [&str; 3] = ["nd-web", "nde0a1b2c3d4e5f", "ndi0a1b2c3d4e"];

/// What a manager does with netd's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manager {
    /// It does not run.
    Absent,
    /// It runs and leaves them alone, as this says.
    LeavesAlone(String),
    /// It runs and would touch them, as this says.
    Touches(String),
}

/// systemd-networkd: the first `.network` file that fits a device decides (systemd.network(5)).
pub fn networkd(root: &Path) -> Manager {
    if !root.join("run/systemd/netif/state").exists() {
        return Manager::Absent;
    }
    // A file in /etc hides those of the same name elsewhere.
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for dir in [
        "usr/lib/systemd/network",
        "run/systemd/network",
        "etc/systemd/network",
    ] {
        for entry in fs::read_dir(root.join(dir)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if Path::new(&name).extension().is_some_and(|e| e == "network") {
                files.insert(name, entry.path());
            }
        }
    }
    for (name, path) in files {
        let text = fs::read_to_string(path).unwrap_or_default();
        if fits(&text) {
            return if unmanaged(&text) {
                Manager::LeavesAlone(format!("{name} says Unmanaged"))
            } else {
                Manager::Touches(format!("{name} fits netd's devices"))
            };
        }
    }
    Manager::LeavesAlone("no .network file fits netd's devices".into())
}

/// `NetworkManager`: takes every device that no configuration keeps from it (NetworkManager.conf(5)).
pub fn network_manager(root: &Path) -> Manager {
    if !root.join("run/NetworkManager").exists() {
        return Manager::Absent;
    }
    let mut files = vec![root.join("etc/NetworkManager/NetworkManager.conf")];
    for dir in [
        "usr/lib/NetworkManager/conf.d",
        "run/NetworkManager/conf.d",
        "etc/NetworkManager/conf.d",
    ] {
        let entries = fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
        files.extend(entries.map(|e| e.path()));
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let lines = text.lines().filter_map(|l| l.trim().split_once('='));
        let lists = lines
            .filter(|(key, _)| key.trim().trim_end_matches('+').trim() == "unmanaged-devices")
            .map(|(_, list)| list);
        let specs: Vec<&str> = lists
            .flat_map(|l| l.split([';', ',']))
            .map(str::trim)
            .collect();
        let kept = |name: &&str| {
            let mut globs = specs
                .iter()
                .filter_map(|s| s.strip_prefix("interface-name:"));
            globs.any(|g| glob(g.trim_start_matches('='), name))
        };
        if SAMPLES.iter().all(kept) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            return Manager::LeavesAlone(format!("{name} keeps it from them"));
        }
    }
    Manager::Touches("no unmanaged-devices names nd*".into())
}

/// The values of a key in a section.
fn values<'a>(text: &'a str, section: &str, key: &str) -> Vec<&'a str> {
    let (mut inside, mut found) = (false, Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = name == section;
        } else if inside
            && let Some((k, v)) = line.split_once('=')
            && k.trim() == key
        {
            found.push(v.trim());
        }
    }
    found
}

fn unmanaged(text: &str) -> bool {
    values(text, "Link", "Unmanaged")
        .last()
        .is_some_and(|v| matches!(*v, "yes" | "true" | "1" | "on"))
}

/// Whether a `.network` file fits one of netd's devices.
fn fits(text: &str) -> bool {
    let words = |key: &str| -> Vec<&str> {
        values(text, "Match", key)
            .into_iter()
            .flat_map(str::split_whitespace)
            .collect()
    };
    let (names, kinds, types) = (words("Name"), words("Kind"), words("Type"));
    let drivers = words("Driver");
    let mac = words("MACAddress").len() + words("PermanentMACAddress").len() + words("Path").len();
    if mac > 0 {
        return false;
    }
    let one_of =
        |list: &[&str], wanted: &str| list.is_empty() || list.iter().any(|g| glob(g, wanted));
    let named = |device: &str| match names.first().and_then(|n| n.strip_prefix('!')) {
        Some(first) => {
            let rest = names.iter().skip(1).copied();
            !std::iter::once(first).chain(rest).any(|g| glob(g, device))
        }
        None => one_of(&names, device),
    };
    let says_something =
        !(names.is_empty() && kinds.is_empty() && types.is_empty() && drivers.is_empty());
    says_something
        && one_of(&kinds, "veth")
        && one_of(&types, "ether")
        && one_of(&drivers, "veth")
        && SAMPLES.iter().any(|d| named(d))
}

/// Shell globs with `*` and `?`.
fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| glob(rest, &text[at..]))
        }
        (Some('?'), Some(t)) => glob(&pattern[1..], &text[t.len_utf8()..]),
        (Some(p), Some(t)) if p == t => glob(&pattern[p.len_utf8()..], &text[t.len_utf8()..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    const RUNS: (&str, &str) = ("run/systemd/netif/state", "");

    #[test]
    fn globs_fit_as_in_a_shell() {
        for (pattern, text, fits) in [
            ("nd*", "nd-web", true),
            ("*", "nd-web", true),
            ("en*", "nd-web", false),
            ("nd?web", "nd-web", true),
            ("nd", "nd-web", false),
            ("n*b", "nd-web", true),
            ("", "", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_network_file_that_fits_decides() {
        let net = |name: &str, text: &'static str| (format!("etc/systemd/network/{name}"), text);
        for (file, touches) in [
            ("[Match]\nName=*\n[Network]\nDHCP=yes\n", true),
            ("[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n", false),
            ("[Match]\nName=!en*\n", true),
            ("[Match]\nName=!nd*\n", false),
            ("[Match]\nKind=veth\n", true),
            ("[Match]\nType=ether\n", true),
            ("[Match]\nType=wlan\n", false),
            ("[Match]\nDriver=veth\nName=ve-*\n", false),
            ("[Match]\nMACAddress=02:00:00:00:00:01\nType=ether\n", false),
            ("[Match]\nName=nd*\n[Link]\nUnmanaged=yes\n", false),
        ] {
            let (path, _) = net("50-x.network", "");
            let dir = tree(&[RUNS, (&path, file)]);
            let found = networkd(dir.path());
            assert_eq!(
                matches!(found, Manager::Touches(_)),
                touches,
                "{file}: {found:?}"
            );
            assert_eq!(networkd(tree(&[(&path, file)]).path()), Manager::Absent);
        }
        let keep = (
            "etc/systemd/network/10-netd.network",
            "[Match]\nName=nd*\n[Link]\nUnmanaged=yes\n",
        );
        let all = (
            "usr/lib/systemd/network/80-all.network",
            "[Match]\nName=*\n",
        );
        let found = networkd(tree(&[RUNS, keep, all]).path());
        assert!(matches!(found, Manager::LeavesAlone(why) if why.contains("10-netd")));
    }

    #[test]
    fn network_manager_is_kept_away_by_a_list() {
        let runs = ("run/NetworkManager/x", "");
        let conf = "etc/NetworkManager/conf.d/netd.conf";
        let keep = "[keyfile]\nunmanaged-devices=interface-name:docker0;interface-name:nd*\n";
        let found = network_manager(tree(&[runs, (conf, keep)]).path());
        assert!(matches!(found, Manager::LeavesAlone(_)), "{found:?}");
        for other in ["", "[keyfile]\nunmanaged-devices=interface-name:nd-*\n"] {
            let found = network_manager(tree(&[runs, (conf, other)]).path());
            assert!(matches!(found, Manager::Touches(_)), "{found:?}");
        }
        assert_eq!(network_manager(tree(&[]).path()), Manager::Absent);
    }
}
