//! What netd must leave alone on a node: settings, netfilter, bridges.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::host::Host;

/// A record of what must not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untouched {
    sysctls: BTreeMap<String, String>,
    /// None: no `nft` on this machine.
    ruleset: Option<String>,
}

impl Untouched {
    /// Records the node as it is. `device` is its uplink.
    pub fn record(node: &Host) -> Result<Self> {
        let devices = ["all", "default", "lo", node.device.as_str()];
        let sysctls = node.ns.enter(|| {
            let mut found = BTreeMap::new();
            for family in ["ipv4", "ipv6"] {
                walk(
                    &Path::new("/proc/sys/net").join(family),
                    &devices,
                    &mut found,
                );
            }
            Ok(found)
        })?;
        if !sysctls.contains_key("net/ipv4/ip_forward") {
            bail!("the sysctls of {} cannot be read", node.name);
        }
        Ok(Self {
            sysctls,
            ruleset: ruleset(node),
        })
    }

    /// Number of sysctls recorded.
    pub fn sysctls(&self) -> usize {
        self.sysctls.len()
    }

    /// Fails naming the first sysctl that has another value now.
    pub fn check_sysctls(&self, node: &Host) -> Result<()> {
        let now = Self::record(node)?.sysctls;
        for (name, before) in &self.sysctls {
            match now.get(name) {
                Some(after) if after == before => {}
                after => bail!("{name} of the node was {before:?} and is {after:?} now"),
            }
        }
        Ok(())
    }

    /// Fails if there is a netfilter rule more (or less) than before.
    pub fn check_netfilter(&self, node: &Host) -> Result<()> {
        let now = ruleset(node);
        if now != self.ruleset {
            bail!(
                "the node's netfilter rules were {:?} and are {:?} now",
                self.ruleset.as_deref().unwrap_or("unknown"),
                now.as_deref().unwrap_or("unknown")
            );
        }
        Ok(())
    }

    /// All checks.
    pub fn check(&self, node: &Host) -> Result<()> {
        self.check_sysctls(node)?;
        self.check_netfilter(node)?;
        check_no_bridge(node)
    }
}

/// Fails if the node has a bridge device.
pub fn check_no_bridge(node: &Host) -> Result<()> {
    let bridges = node.ok("ip", &["-o", "link", "show", "type", "bridge"])?;
    if !bridges.trim().is_empty() {
        bail!("the node has a bridge: {}", bridges.trim());
    }
    Ok(())
}

fn ruleset(node: &Host) -> Option<String> {
    node.ok("nft", &["list", "ruleset"]).ok()
}

/// Reads every sysctl below `dir`, of these devices alone.
fn walk(dir: &Path, devices: &[&str], found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            let per_device = dir.ends_with("conf") || dir.ends_with("neigh");
            if !per_device || devices.iter().any(|d| path.ends_with(d)) {
                walk(&path, devices, found);
            }
        } else if let (Ok(value), Ok(name)) =
            (fs::read_to_string(&path), path.strip_prefix("/proc/sys"))
        {
            // Some cannot be read (triggers, secrets): those nobody can compare.
            found.insert(name.display().to_string(), value.trim().to_owned());
        }
    }
}
