//! `netd ns ls`.

use std::fs::read_dir;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use netd_api::Endpoint;
use serde::Serialize;

use super::mounts::is_namespace;
use super::name::DIRECTORY;
use crate::cli::output::{list, table};
use crate::cli::{Context, wait};

/// What identifies a namespace: device and inode.
type Identity = (u64, u64);

/// A named namespace.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// None: a stale file, no namespace.
    inode: Option<u64>,
    /// Names of the endpoints there; none: no daemon answers.
    endpoints: Option<Vec<String>>,
    #[serde(skip)]
    identity: Option<Identity>,
}

/// Prints the named namespaces with the endpoints a daemon has there.
pub fn run(ctx: &Context) -> anyhow::Result<()> {
    let mut lines = named(Path::new(DIRECTORY))?;
    // Names are listed without a daemon too; then it is not known what is attached.
    if let Ok(endpoints) = wait(async { Ok(ctx.client.endpoints().await?) }) {
        place(&mut lines, &endpoints, |target| {
            identity(&target_path(target))
        });
    }
    ctx.out.show(&lines, |all| show(all))
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
            name: entry.file_name().to_string_lossy().into_owned(),
            inode: identity.map(|(_, inode)| inode),
            endpoints: None,
            identity,
        });
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(lines)
}

/// The file of an endpoint's target.
fn target_path(target: &str) -> PathBuf {
    match target.strip_prefix("pid:") {
        Some(pid) => format!("/proc/{pid}/ns/net").into(),
        // An absolute path replaces the directory.
        None => Path::new(DIRECTORY).join(target),
    }
}

fn identity(path: &Path) -> Option<Identity> {
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

fn show(lines: &[Line]) -> String {
    table(
        &["NAME", "INODE", "ENDPOINTS"],
        &[1],
        lines.iter().map(|l| {
            vec![
                l.name.clone(),
                l.inode.map_or_else(|| "stale".into(), |i| i.to_string()),
                l.endpoints.as_ref().map_or_else(|| "?".into(), list),
            ]
        }),
    )
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
        assert_eq!(lines[0].name, "a");
        assert_eq!(lines[0].identity, identity(Path::new("/proc/self/ns/net")));
        assert!(lines[0].inode.is_some());
        assert_eq!((lines[1].name.as_str(), lines[1].inode), ("b", None));
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
            name: name.into(),
            inode,
            endpoints: None,
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
}
