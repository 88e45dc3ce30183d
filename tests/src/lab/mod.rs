//! The lab: a node, an outside host behind its uplink, endpoints on its networks.
//!
//! [`Lab`] owns the life of all of it. When it is dropped it first asserts that netd touched nothing
//! of the node's own (see [`untouched`]), then removes every trace - also after a panic or a signal.

pub mod capture;
mod cgroup;
pub mod cleanup;
pub mod foreign;
pub mod frames;
pub mod guests;
pub mod host;
pub mod names;
pub mod netns;
pub mod node;
pub mod process;
mod rows;
pub mod signals;
pub mod streams;
pub mod topology;
pub mod traffic;
pub mod untouched;
pub mod wait;

use std::ops::Deref;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context as _, Result};
use ipnet::IpNet;

pub use foreign::{Foreign, ForeignHook, Side};
pub use host::{Calling, Host};
pub use node::{AttachMode, DaemonOptions, Node};
pub use traffic::Proto;

use names::LabId;
use netns::Ns;
use untouched::Untouched;

/// A lab that is being described.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    daemon: DaemonOptions,
    start: bool,
    quiet: bool,
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    /// What the scenario is called.
    pub name: String,
    /// The node.
    pub node: Node,
    /// The host behind the node's uplink.
    pub outside: Host,
    id: LabId,
    before: Untouched,
    keep: bool,
    quiet: bool,
}

/// A network of the node.
#[derive(Clone, Debug)]
pub struct Network(pub netd_api::Network);

impl Deref for Network {
    type Target = netd_api::Network;

    fn deref(&self) -> &netd_api::Network {
        &self.0
    }
}

impl Network {
    /// The gateway's address of one family.
    pub fn gateway(&self, v6: bool) -> Result<std::net::IpAddr> {
        let found = self.gateways.iter().find(|g| g.is_ipv6() == v6);
        found
            .copied()
            .with_context(|| format!("network {} has no such gateway", self.name))
    }
}

/// An endpoint: a namespace attached to a network.
#[derive(Clone, Debug)]
pub struct Endpoint {
    host: Host,
    /// What netd says about it.
    pub info: netd_api::Endpoint,
}

impl Deref for Endpoint {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Builder {
    /// How netd hooks its TC programs.
    #[must_use]
    pub fn attach_mode(mut self, mode: AttachMode) -> Self {
        self.daemon.attach_mode = mode;
        self
    }

    /// The netd binary to run.
    #[must_use]
    pub fn netd(mut self, path: PathBuf) -> Self {
        self.daemon.netd = path;
        self
    }

    /// Content of the daemon's configuration file.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.daemon.config);
        self
    }

    /// Runs the daemon with `-v`.
    #[must_use]
    pub fn verbose(mut self) -> Self {
        self.daemon.verbose = true;
        self
    }

    /// Leaves the daemon to be started by the scenario.
    #[must_use]
    pub fn without_daemon(mut self) -> Self {
        self.start = false;
        self
    }

    /// Says nothing about the lab when it is dropped; a test's harness hides it, a program shows it.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Builds the lab.
    pub fn build(mut self) -> Result<Lab> {
        if self.start && self.daemon.netd.as_os_str().is_empty() {
            self.daemon.netd = node::find_netd()?;
        }
        let id = LabId::reserve()?;
        signals::watch(&id)?;
        let built = topology::build(&id, self.daemon).and_then(|(node, outside)| {
            let before = Untouched::record(&node)?;
            if self.start {
                node.start()?;
            }
            Ok(Lab {
                name: self.name,
                node,
                outside,
                id: id.clone(),
                before,
                keep: false,
                quiet: self.quiet,
            })
        });
        if built.is_err() {
            let _ = cleanup::remove(&id);
            signals::forget(&id);
        }
        built
    }
}

impl Lab {
    /// Begins the description of a lab.
    pub fn builder(name: &str) -> Builder {
        let daemon = DaemonOptions {
            netd: node::find_netd().unwrap_or_default(),
            attach_mode: AttachMode::Auto,
            verbose: false,
            config: String::new(),
            args: Vec::new(),
            log: String::new(),
            env: Vec::new(),
        };
        Builder {
            name: name.to_owned(),
            daemon,
            start: true,
            quiet: false,
        }
    }

    /// A lab with everything as usual.
    pub fn new(name: &str) -> Result<Self> {
        Self::builder(name).build()
    }

    /// A lab in one attach mode.
    pub fn in_mode(name: &str, mode: AttachMode) -> Result<Self> {
        Self::builder(name).attach_mode(mode).build()
    }

    /// Its id.
    pub fn id(&self) -> &LabId {
        &self.id
    }

    /// Its directory.
    pub fn dir(&self) -> PathBuf {
        self.id.dir()
    }

    /// Makes a network with default subnets.
    pub fn network(&self, name: &str) -> Result<Network> {
        self.network_with(name, &[])
    }

    /// Makes a network with options of `netd network create`.
    pub fn network_with(&self, name: &str, options: &[&str]) -> Result<Network> {
        let args: Vec<&str> = ["network", "create", name]
            .iter()
            .chain(options)
            .copied()
            .collect();
        self.node.netd_ok(&args)?;
        self.inspect_network(name)
    }

    /// A network as it is now.
    pub fn inspect_network(&self, name: &str) -> Result<Network> {
        Ok(Network(self.node.netd_json(&["network", "inspect", name])?))
    }

    /// Makes a namespace of this lab, attached to nothing; its name begins with the lab's id.
    pub fn namespace(&self, name: &str) -> Result<Ns> {
        Ns::create(&self.id.ns(name))
    }

    /// Makes a namespace and attaches it to a network.
    pub fn endpoint(&self, name: &str, network: &Network) -> Result<Endpoint> {
        self.endpoint_with(name, network, &[])
    }

    /// The same with options of `netd attach`.
    pub fn endpoint_with(
        &self,
        name: &str,
        network: &Network,
        options: &[&str],
    ) -> Result<Endpoint> {
        let ns = self.namespace(name)?;
        self.attach(&ns, name, network, options)
    }

    /// Attaches a namespace that is there to a network.
    pub fn attach(
        &self,
        ns: &Ns,
        name: &str,
        network: &Network,
        options: &[&str],
    ) -> Result<Endpoint> {
        let fixed = [
            "attach",
            ns.name(),
            "--network",
            &network.name,
            "--name",
            name,
        ];
        let args: Vec<&str> = fixed.iter().chain(options).copied().collect();
        self.node.netd_ok(&args)?;
        let info: netd_api::Endpoint = self.node.netd_json(&["endpoint", "inspect", name])?;
        let addresses: Vec<_> = info.addresses.iter().map(IpNet::addr).collect();
        let host = Host::new(name, ns.clone(), &info.ifname, &addresses);
        Ok(Endpoint { host, info })
    }

    /// Publishes a port of an endpoint.
    pub fn publish(&self, endpoint: &str, spec: &str) -> Result<Vec<netd_api::Published>> {
        self.node.netd_json(&["publish", endpoint, spec])
    }

    /// Asserts that netd touched no setting, rule or bridge of the node.
    pub fn assert_untouched(&self) -> Result<()> {
        self.before.check(&self.node)
    }

    /// What was recorded before the daemon started.
    pub fn before(&self) -> &Untouched {
        &self.before
    }

    /// Hooks a foreign counting program behind netd's on the uplink.
    pub fn foreign(&self, side: Side, hook: ForeignHook) -> Result<Foreign> {
        Foreign::attach(self, &self.node.device, side, hook)
    }

    /// Switches the offloads of every device of the node and of these hosts.
    pub fn offloads<'a>(
        &'a self,
        hosts: impl IntoIterator<Item = &'a Host>,
        on: bool,
    ) -> Result<()> {
        let state = if on { "on" } else { "off" };
        let all = [&*self.node, &self.outside];
        for host in all.into_iter().chain(hosts) {
            for device in host.devices()? {
                let mut args = vec!["-K", &device];
                for feature in ["tx", "rx", "tso", "gso", "gro"] {
                    args.extend([feature, state]);
                }
                host.ok("ethtool", &args)?;
            }
        }
        Ok(())
    }

    /// Leaves the lab up: `netd-lab clean --all` removes it later.
    pub fn keep(mut self) {
        self.keep = true;
        self.id.mark_kept();
        self.node.release();
        signals::forget(&self.id);
    }
}

/// Runs scenarios once in each attach mode: `NAME;` makes the tests `NAME::tcx` and `NAME::clsact` of
/// `fn NAME(mode: AttachMode) -> anyhow::Result<()>`.
#[macro_export]
macro_rules! both_modes {
    ($($name:ident;)+) => {$(
        mod $name {
            #[test]
            fn tcx() -> anyhow::Result<()> {
                if !$crate::lab::kernel_at_least(6, 6) {
                    println!("SKIP: TCX needs Linux 6.6");
                    return Ok(());
                }
                super::$name($crate::lab::AttachMode::Tcx)
            }

            #[test]
            fn clsact() -> anyhow::Result<()> {
                super::$name($crate::lab::AttachMode::Clsact)
            }
        }
    )+};
}

/// Whether the running kernel is at least this version.
pub fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

impl Lab {
    /// What explains a failure: the daemon's log, and what was dropped and why.
    fn explain(&self) -> String {
        let stats = self.node.netd_ok(&["stats"]).unwrap_or_default();
        let drops: Vec<&str> = stats.lines().filter(|l| l.contains(" drop ")).collect();
        format!(
            "--- lab {} ({}): log of netd ---\n{}--- dropped ---\n{}\n---",
            self.id,
            self.name,
            self.node.log(),
            drops.join("\n")
        )
    }
}

impl Lab {
    /// What the test itself has set on the node is how netd must leave it.
    pub fn settled(&mut self) -> Result<()> {
        self.before = Untouched::record(&self.node)?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // A test that fails by an error has not failed yet: the harness shows this when it has.
        if !self.quiet && self.node.socket().exists() {
            println!("{}", self.explain());
        }
        let verdict = if thread::panicking() {
            Ok(())
        } else {
            self.before.check(&self.node)
        };
        let removed = cleanup::remove(&self.id);
        signals::forget(&self.id);
        if let Err(e) = verdict.and(removed) {
            assert!(thread::panicking(), "lab {}: {e:#}", self.name);
            eprintln!("lab {}: {e:#}", self.id);
        }
    }
}
