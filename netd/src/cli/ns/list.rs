//! `netd ns ls`: the named namespaces and the node's own, with endpoints and veths.

use std::fs::read_dir;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use netd_api::Endpoint;
use serde::Serialize;

use super::mounts::is_namespace;
use super::name::DIRECTORY;
use super::veths::{NODE, Spaces, Veth};
use crate::cli::output::{list, table};
use crate::cli::{Context, wait};

/// What identifies a namespace: device and inode.
pub type Identity = (u64, u64);

/// A namespace.
#[derive(Debug, Serialize)]
struct Line {
    /// None: the node's own, where it has no name.
    name: Option<String>,
    /// Whether it is the one this program runs in.
    node: bool,
    /// None: a stale file, no namespace.
    inode: Option<u64>,
    /// Names of the endpoints there; none: no daemon answers.
    endpoints: Option<Vec<String>>,
    /// Its veths; none: it cannot be looked into.
    veths: Option<Vec<Veth>>,
    #[serde(skip)]
    identity: Option<Identity>,
}

/// Prints the namespaces with the endpoints a daemon has there, and all veths.
pub fn run(ctx: &Context) -> anyhow::Result<()> {
    let here = identity(Path::new("/proc/thread-self/ns/net"));
    let mut lines = with_node(named(Path::new(DIRECTORY))?, here);
    // Names are listed without a daemon too; then it is not known what is attached.
    let endpoints = wait(async { Ok(ctx.client.endpoints().await?) }).ok();
    if let Some(endpoints) = &endpoints {
        place(&mut lines, endpoints, |target| {
            identity(&target_path(target))
        });
    }
    if let Some(here) = here {
        let paths: Vec<_> = lines
            .iter()
            .filter_map(|l| Some((l.identity?, l.name.clone()?)))
            .map(|(id, name)| (id, Path::new(DIRECTORY).join(&name), name))
            .collect();
        let named = paths
            .iter()
            .map(|(id, path, name)| (*id, name.as_str(), path.as_path()));
        if let Some(mut spaces) = Spaces::read(here, named, &endpoints.unwrap_or_default()) {
            for line in &mut lines {
                line.veths = line.identity.and_then(|id| spaces.veths(id));
            }
        }
    }
    ctx.out.show(&lines, |all| show(all))
}

/// Marks the node's own namespace, or puts it first where it has no name.
fn with_node(mut lines: Vec<Line>, here: Option<Identity>) -> Vec<Line> {
    for line in &mut lines {
        line.node = here.is_some() && line.identity == here;
    }
    if lines.iter().all(|l| !l.node) {
        lines.insert(
            0,
            Line {
                name: None,
                node: true,
                inode: here.map(|(_, inode)| inode),
                endpoints: None,
                veths: None,
                identity: here,
            },
        );
    }
    lines
}

fn named(dir: &Path) -> anyhow::Result<Vec<Line>> {
    let entries = match read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut lines = Vec::new();
    for entry in entries {
        let entry = entry?;
        let identity = identity(&entry.path());
        lines.push(Line {
            name: Some(entry.file_name().to_string_lossy().into_owned()),
            node: false,
            inode: identity.map(|(_, inode)| inode),
            endpoints: None,
            veths: None,
            identity,
        });
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(lines)
}

/// The file of an endpoint's target.
pub fn target_path(target: &str) -> PathBuf {
    match target.strip_prefix("pid:") {
        Some(pid) => format!("/proc/{pid}/ns/net").into(),
        // An absolute path replaces the directory.
        None => Path::new(DIRECTORY).join(target),
    }
}

/// What identifies the namespace of a file; none: it is none.
pub fn identity(path: &Path) -> Option<Identity> {
    let meta = path.metadata().ok()?;
    is_namespace(path).then_some((meta.dev(), meta.ino()))
}

/// Tells each namespace its endpoints, whichever way their targets name it.
fn place(lines: &mut [Line], endpoints: &[Endpoint], resolve: impl Fn(&str) -> Option<Identity>) {
    let placed: Vec<_> = endpoints
        .iter()
        .map(|e| (resolve(&e.target), &e.name))
        .collect();
    for line in lines {
        let here = placed
            .iter()
            .filter(|(at, _)| at.is_some() && *at == line.identity);
        line.endpoints = Some(here.map(|(_, name)| (*name).clone()).collect());
    }
}

/// A line for each veth, so that `grep` finds a device with both its ends.
fn show(lines: &[Line]) -> String {
    let rows = lines.iter().flat_map(|l| {
        let first = [
            l.name.clone().unwrap_or_else(|| NODE.into()),
            l.inode.map_or_else(|| "stale".into(), |i| i.to_string()),
            l.endpoints.as_ref().map_or_else(|| "?".into(), list),
        ];
        let veths: Vec<[String; 3]> = match &l.veths {
            None => vec![["?".into(), "?".into(), "?".into()]],
            Some(none) if none.is_empty() => vec![["-".into(), "-".into(), "-".into()]],
            Some(veths) => veths.iter().map(columns).collect(),
        };
        veths
            .into_iter()
            .map(move |veth| first.iter().cloned().chain(veth).collect())
    });
    table(
        &["NAME", "INODE", "ENDPOINTS", "VETH", "PEER", "PEER IN"],
        &[1],
        rows,
    )
}

fn columns(veth: &Veth) -> [String; 3] {
    let peer = &veth.peer;
    [
        veth.name.clone(),
        peer.name
            .clone()
            .unwrap_or_else(|| format!("if{}", peer.ifindex)),
        peer.namespace.clone().unwrap_or_else(|| "?".into()),
    ]
}

#[cfg(test)]
mod tests {
    use netd_api::{EndpointState, Labels};

    use super::*;

    #[test]
    fn a_file_that_is_no_namespace_is_listed_as_stale() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create(dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", dir.path().join("a")).unwrap();
        let lines = named(dir.path()).unwrap();
        assert_eq!(lines[0].name.as_deref(), Some("a"));
        assert_eq!(lines[0].identity, identity(Path::new("/proc/self/ns/net")));
        assert!(lines[0].inode.is_some());
        assert_eq!(
            (lines[1].name.as_deref(), lines[1].inode),
            (Some("b"), None)
        );
        assert!(show(&lines).contains("stale"));
        assert!(named(&dir.path().join("missing")).unwrap().is_empty());
    }

    fn endpoint(name: &str, target: &str) -> Endpoint {
        Endpoint {
            id: "0a1b2c3d4e5f".into(),
            number: 1,
            name: name.into(),
            network: "web".into(),
            target: target.into(),
            ifname: "eth0".into(),
            device: "nde".into(),
            ifindex: 7,
            macs: netd_api::Macs::default(),
            mac: "02:00:00:00:00:07".into(),
            addresses: Vec::new(),
            gateways: Vec::new(),
            state: EndpointState::Bound,
            published: Vec::new(),
            labels: Labels::default(),
            owner: "cli".into(),
        }
    }

    #[test]
    fn endpoints_are_found_by_the_namespace_whichever_way_they_name_it() {
        let line = |name: &str, inode| Line {
            name: Some(name.into()),
            node: false,
            inode,
            endpoints: None,
            veths: None,
            identity: inode.map(|i| (4, i)),
        };
        let mut lines = [
            line("box", Some(1)),
            line("empty", Some(2)),
            line("stale", None),
        ];
        let endpoints = [
            endpoint("a", "box"),
            endpoint("b", "pid:7"),
            endpoint("c", "gone"),
        ];
        place(&mut lines, &endpoints, |target| {
            (target != "gone").then_some((4, 1))
        });
        let names: Vec<_> = lines.iter().map(|l| l.endpoints.clone().unwrap()).collect();
        assert_eq!(
            names,
            [vec!["a".to_owned(), "b".to_owned()], vec![], vec![]]
        );
    }

    #[test]
    fn targets_name_files() {
        assert_eq!(target_path("box"), Path::new("/run/netns/box"));
        assert_eq!(target_path("/tmp/x"), Path::new("/tmp/x"));
        assert_eq!(target_path("pid:7"), Path::new("/proc/7/ns/net"));
    }

    #[test]
    fn the_node_is_listed_once_with_or_without_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let here = identity(Path::new("/proc/self/ns/net"));
        let none = with_node(named(dir.path()).unwrap(), here);
        assert_eq!((none.len(), none[0].name.as_deref()), (1, None));
        assert!(none[0].node && none[0].inode.is_some());
        std::os::unix::fs::symlink("/proc/self/ns/net", dir.path().join("me")).unwrap();
        let lines = with_node(named(dir.path()).unwrap(), here);
        assert_eq!((lines.len(), lines[0].name.as_deref()), (1, Some("me")));
        assert!(lines[0].node);
    }

    #[test]
    fn each_veth_is_a_line_with_its_peer() {
        let veth = |name: &str, peer: Option<&str>, at: Option<&str>| Veth {
            name: name.into(),
            ifindex: 3,
            peer: super::super::veths::Peer {
                name: peer.map(Into::into),
                ifindex: 9,
                namespace: at.map(Into::into),
            },
        };
        let line = Line {
            name: Some("box".into()),
            node: false,
            inode: Some(7),
            endpoints: Some(vec!["a".into()]),
            veths: Some(vec![
                veth("eth0", Some("nde1"), Some(NODE)),
                veth("x", None, None),
            ]),
            identity: Some((4, 7)),
        };
        let text = show(&[line]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .skip(1)
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["box", "7", "a", "eth0", "nde1", "(node)"]);
        assert_eq!(lines[1], ["box", "7", "a", "x", "if9", "?"]);
    }
}
