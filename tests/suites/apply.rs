//! `netd apply`, `plan`, `delete` and `export` on a real node: what a file asks for is there, what it does
//! not touch goes on, what fails is taken back.

#[path = "apply/failed.rs"]
mod failed;
#[path = "apply/files.rs"]
mod files;
#[path = "apply/refused.rs"]
mod refused;
#[path = "apply/traffic.rs"]
mod traffic;

use std::path::PathBuf;

use anyhow::Result;
use netd_api::{Endpoint, Plan};
use netd_tests::lab::{Host, Lab, netns::Ns};

/// A lab and the namespaces a file may name.
struct Scene {
    lab: Lab,
    spaces: Vec<Ns>,
}

impl Scene {
    fn new(name: &str, spaces: &[&str]) -> Result<Self> {
        let lab = Lab::new(name)?;
        let spaces = spaces.iter().map(|n| lab.namespace(n));
        let spaces = spaces.collect::<Result<_>>()?;
        Ok(Self { lab, spaces })
    }

    /// Writes a file in which `@name` is the namespace of that name.
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        for space in &self.spaces {
            let short = space.name().rsplit('-').next().unwrap_or_default();
            text = text.replace(&format!("@{short}\""), &format!("{}\"", space.name()));
        }
        let path: PathBuf = self.lab.dir().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn apply(&self, file: &str) -> Result<Plan> {
        self.lab.node.netd_json(&["apply", "-f", file, "--prune"])
    }

    /// An endpoint as a host.
    fn host(&self, name: &str) -> Result<Host> {
        let info: Endpoint = self.lab.node.netd_json(&["endpoint", "inspect", name])?;
        let addresses: Vec<_> = info.addresses.iter().map(ipnet::IpNet::addr).collect();
        let ns = Ns::open(&info.target)?;
        Ok(Host::new(name, ns, &info.ifname, &addresses))
    }

    /// What is there: all objects as a file, and the node's devices.
    fn state(&self) -> Result<(String, Vec<String>)> {
        let text = self.lab.node.netd_ok(&["export"])?;
        let mut devices = self.lab.node.devices()?;
        devices.sort();
        Ok((text, devices))
    }
}

/// Two endpoints on a network, one with a published port.
const SHOP: &str = r#"
name = "shop"

[network.web]
subnets = ["10.80.0.0/24", "fd80::/64"]

[endpoint.a]
target = "@a"
network = "web"
publish = ["8080:80"]

[endpoint.b]
target = "@b"
network = "web"
"#;
