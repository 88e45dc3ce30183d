//! Kernel modules for the guest. Debian's cloud kernels build almost all networking as modules, and
//! the package has no `modules.dep` (its installation makes that), so the order is worked out here
//! from what each module says about itself.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::kernel::Tree;
use crate::exec;

/// What netd, its lab and the lab's tools use. One that a kernel has built in is not found and not
/// missed; one that is missed makes its test fail in the guest and says so there.
const WANTED: &[&str] = &[
    "veth",
    "tun",
    "bridge",
    "dummy",
    "sch_ingress",
    "cls_bpf",
    "cls_matchall",
    "cls_u32",
    "act_gact",
    "act_bpf",
    "sch_fq_codel",
    "nf_tables",
    "nft_compat",
    "nft_chain_nat",
    "nf_conntrack",
    "nf_nat",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "x_tables",
    "xt_tcpudp",
    "xt_MASQUERADE",
    "xt_nat",
    "xt_addrtype",
    "xt_conntrack",
    "xt_comment",
    "ip_tables",
    "iptable_filter",
    "iptable_nat",
    "ip6_tables",
    "ip6table_filter",
    "af_packet",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "unix_diag",
    "sctp",
];

/// A module ready to be put into the initrd: its name and its uncompressed content.
pub struct Module {
    /// As `insmod` and `lsmod` know it.
    pub name: String,
    /// The ELF file.
    pub content: Vec<u8>,
}

/// The wanted modules of this kernel and all they need, in loading order.
pub fn load_order(tree: &Tree) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(&tree.modules(), &mut files)?;
    let mut contents = BTreeMap::new();
    let order = resolve(WANTED, |name| {
        let Some(path) = files.get(name) else {
            return Ok(None);
        };
        let content = read(path)?;
        let needs = depends(&content);
        contents.insert(name.to_owned(), content);
        Ok(Some(needs))
    })?;
    Ok(order
        .into_iter()
        .filter_map(|name| {
            contents
                .remove(&name)
                .map(|content| Module { name, content })
        })
        .collect())
}

/// Names below `dir` to files. Module names have underscores where file names may have dashes.
fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some((name, "ko" | "ko.xz")) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.split_once('.'))
        {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let mut xz: Command = exec::command("busybox");
        let output = xz
            .args(["xz", "-dc"])
            .arg(path)
            .output()
            .context("cannot start busybox")?;
        if !output.status.success() {
            bail!("cannot unpack {}", path.display());
        }
        return Ok(output.stdout);
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The `depends=` entry of a module's `.modinfo` section: a list of strings with a zero byte after
/// each.
fn depends(content: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = content.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = content[at + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// Depth first: what a module needs comes before it. `needs` says nothing for a module that is not
/// there (it is built in).
fn resolve(
    wanted: &[&str],
    mut needs: impl FnMut(&str) -> Result<Option<Vec<String>>>,
) -> Result<Vec<String>> {
    fn visit(
        name: &str,
        needs: &mut impl FnMut(&str) -> Result<Option<Vec<String>>>,
        seen: &mut HashSet<String>,
        order: &mut Vec<String>,
    ) -> Result<()> {
        // Also ends a cycle, which the kernel's build does not allow anyway.
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        if let Some(first) = needs(name)? {
            for other in &first {
                visit(other, needs, seen, order)?;
            }
            order.push(name.to_owned());
        }
        Ok(())
    }
    let mut seen = HashSet::new();
    let mut order = Vec::new();
    for name in wanted {
        visit(name, &mut needs, &mut seen, &mut order)?;
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(wanted: &[&str], graph: &[(&str, &[&str])]) -> Vec<String> {
        let find = |name: &str| {
            let found = graph.iter().find(|(known, _)| *known == name);
            Ok(found.map(|(_, needs)| needs.iter().map(ToString::to_string).collect()))
        };
        resolve(wanted, find).unwrap()
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let graph: &[(&str, &[&str])] = &[
            ("nat", &["conntrack", "crc"]),
            ("conntrack", &["defrag", "crc"]),
            ("defrag", &[]),
            ("crc", &[]),
        ];
        assert_eq!(
            order(&["nat", "conntrack"], graph),
            ["defrag", "crc", "conntrack", "nat"]
        );
    }

    #[test]
    fn built_in_modules_are_left_out() {
        assert_eq!(
            order(&["packet", "veth"], &[("veth", &["packet"])]),
            ["veth"]
        );
    }

    #[test]
    fn a_cycle_ends() {
        assert_eq!(order(&["a"], &[("a", &["b"]), ("b", &["a"])]), ["b", "a"]);
    }

    #[test]
    fn dependencies_are_read_from_the_modules_own_words() {
        let module = b"\x7fELF..\0license=GPL\0depends=nf-conntrack,x_tables\0retpoline=Y\0";
        assert_eq!(depends(module), ["nf_conntrack", "x_tables"]);
        assert!(depends(b"\x7fELF\0license=GPL\0depends=\0name=veth\0").is_empty());
        assert!(depends(b"").is_empty());
    }
}
