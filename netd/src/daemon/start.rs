//! Starting: what is there is adopted, what is half-made is finished or removed.

use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use ipnet::Ipv6Net;
use netd_api::By;

use super::bpffs;
use super::core::Core;
use super::events::Events;
use super::sockets;
use super::trace::Kept;
use crate::apply::Node;
use crate::config::{AttachChoice, Settings};
use crate::datapath::{AttachMode, Datapath, Options};
use crate::model::Change;
use crate::net::events::is_made_name;
use crate::net::link::{self, Link};
use crate::net::reaper::Reaper;
use crate::net::{Netlink, netns, ports};
use crate::plan::{Actual, Alias, Device, Scope};
use crate::store::Store;

impl Core {
    /// Opens store and data path, and makes the node what the store says.
    pub(super) fn open(settings: Settings, events: Arc<Events>) -> anyhow::Result<Self> {
        let cgroup = sockets::cgroup(settings.cgroup.as_deref())?;
        bpffs::prepare(&settings.bpf_dir)?;
        let (store, mut desired) =
            Store::open(&settings.state_dir, &settings.instance, random_ula()?)?;
        desired.masquerade = settings.masquerade;
        let netlink = Netlink::open()?;
        for uplink in &settings.uplinks {
            link::must_ifindex(uplink).context("uplink")?;
        }
        let mut datapath = open_datapath(&settings)?;
        datapath.deny_set(&settings.deny)?;
        let collecting = super::collect::spawn(datapath.collector()?)?;
        let node = Node {
            instance: settings.instance.clone(),
            netlink,
            datapath,
            reaper: Reaper::start()?,
        };
        let mut core = Self {
            settings,
            desired,
            actual: Actual::default(),
            node,
            store,
            uplinks: std::collections::BTreeMap::new(),
            problems: std::collections::BTreeMap::new(),
            told_problems: std::collections::BTreeSet::new(),
            events,
            by: By::Netd,
            leaving: Vec::new(),
            settled: false,
            former_dropped: false,
            standing: std::collections::BTreeSet::new(),
            cgroup,
            started: std::time::Instant::now(),
            watchers: super::listen::Watchers::default(),
            traced: Kept::default(),
            _collecting: collecting,
        };
        core.actual = core.observe_node()?;
        core.standing = core.node.datapath.stood_on()?;
        core.drop_half_made()?;
        core.refresh_uplinks();
        core.refresh_silent();
        core.hook_sockets();
        core.settled = true;
        core.settle_onward(Scope::All);
        if core.problems.contains_key("state") {
            // What was to be made anew may have met the devices of before, which are gone now.
            core.node.reaper.wait();
            core.settle_onward(Scope::All);
        }
        core.note_lost();
        core.give_up_unfinished();
        core.drop_former_programs(true);
        core.refresh_locals();
        core.end_orphaned_flows();
        core.catch_up();
        core.note_all_made();
        tracing::info!(
            networks = core.desired.networks.len(),
            endpoints = core.desired.endpoints.len(),
            published = core.desired.publishes.len(),
            uplinks = core.uplinks.len(),
            "everything is in place"
        );
        core.tell_problems();
        Ok(core)
    }

    /// The devices of this instance among all devices.
    pub(super) fn own_devices(&self, links: &[Link]) -> Vec<(String, Device)> {
        let own = links.iter().filter_map(|l| {
            let alias = Alias::parse(l.alias.as_deref()?, &self.settings.instance)?;
            // A gateway's settings are not looked at one by one: it is brought into order.
            let configured = matches!(alias, Alias::Endpoint(_));
            Some((
                l.name.clone(),
                Device {
                    ifindex: l.ifindex,
                    alias,
                    configured,
                },
            ))
        });
        own.collect()
    }

    fn observe_node(&mut self) -> anyhow::Result<Actual> {
        let links = link::all(&mut self.node.netlink)?;
        let dp = &self.node.datapath;
        let mut actual = Actual {
            devices: self.own_devices(&links).into_iter().collect(),
            ports: dp.ports()?.into_iter().collect(),
            hosts: dp.hosts()?.into_iter().collect(),
            from: dp.from()?.into_iter().collect(),
            floats: dp.floats()?.into_iter().collect(),
            segments: dp.slots()?.into_iter().collect(),
            ..Actual::default()
        };
        actual.groups = self.observe_groups(&actual)?;
        let dp = &self.node.datapath;
        let fdb = dp.fdb()?.into_iter();
        actual.fdb = fdb.map(|(k, v)| ((k.network, k.mac), v)).collect();
        let published = dp.published()?.into_iter();
        actual.published = published
            .map(|(k, v)| ((v.endpoint, k.addr, k.port.get(), k.proto), v))
            .collect();
        // Devices that stay are hooked again: that replaces their programs. What is left are pins
        // of devices that are gone or nobody asks for.
        let networks = self
            .desired
            .networks
            .values()
            .map(crate::model::Network::inner);
        let endpoints = self
            .desired
            .endpoints
            .values()
            .map(crate::model::Endpoint::device);
        let wanted: std::collections::BTreeSet<String> = networks.chain(endpoints).collect();
        let stays = |d: &String| wanted.contains(d) && actual.devices.contains_key(d);
        let stale = |d: &String| is_made_name(d) && !stays(d);
        actual.hooked = dp.hooked()?.into_iter().filter(stale).collect();
        Ok(actual)
    }

    /// An endpoint without device whose attach never came to its end was never answered for. What a file
    /// asks for is stored as a whole before it is made: that is finished instead.
    fn drop_half_made(&mut self) -> anyhow::Result<()> {
        let gone = |e: &&crate::model::Endpoint| {
            let file = e.owner.starts_with(crate::model::file::OWNER);
            !e.made && !file && !self.actual.devices.contains_key(&e.device())
        };
        let half: Vec<u32> = self
            .desired
            .endpoints
            .values()
            .filter(gone)
            .map(|e| e.number)
            .collect();
        if half.is_empty() {
            return Ok(());
        }
        let remove = half.into_iter().flat_map(|n| self.desired.all_of(n));
        let remove = remove.collect();
        tracing::info!("attaches that were cut off are taken back");
        let change = Change {
            put: vec![],
            remove,
        };
        self.store
            .commit(change.clone(), self.desired.meta.next_number)
            .wait()?;
        let back = self.desired.apply(&change);
        self.tell_change(&change, &back);
        Ok(())
    }
}

fn open_datapath(settings: &Settings) -> anyhow::Result<Datapath> {
    let attach_mode = match settings.attach_mode {
        AttachChoice::Auto => None,
        AttachChoice::Tcx => Some(AttachMode::Tcx),
        AttachChoice::Clsact => Some(AttachMode::Clsact),
    };
    let options = Options {
        bpf_dir: Path::new(&settings.bpf_dir).to_owned(),
        attach_mode,
        netns_cookie: netns::cookie()?,
        verbose: settings.verbose,
        flow_entries: settings.flow_entries,
        flows_per_endpoint: settings.flows_per_endpoint,
        timeouts: settings.flow_timeouts,
        planted: 0,
    };
    Datapath::open(&options).map_err(|e| {
        if Datapath::is_hooked(&options.bpf_dir) {
            anyhow::anyhow!("{e}; the programs that are hooked stay, and traffic goes on")
        } else {
            e.into()
        }
    })
}

/// A random unique local /48 (RFC 4193 section 3.2).
fn random_ula() -> anyhow::Result<Ipv6Net> {
    let random = ports::random::<5>().context("no random bytes")?;
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&random);
    Ok(Ipv6Net::new(Ipv6Addr::from(bytes), 48)?)
}
