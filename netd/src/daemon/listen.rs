//! When the programs tell, and who listens. With the first listener the programs that tell are hooked, with
//! the last one's end those that do not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use netd_api::{CaptureOf, MonitorFilter, Told};
use netd_common::maps::MAX_SNAPLEN;
use netd_common::reason::DropReason;
use tokio::sync::Mutex;

use super::core::{Core, Handle};
use super::error::{Result, ServiceError};
use crate::datapath::{Load, Loaded};
use crate::model::Fault;
use crate::observe::hub::{Ask, Hub, Listening};
use crate::observe::names::{Device, Names};
use crate::observe::reader::Reader;

/// Who listens.
#[derive(Default)]
pub struct Watchers {
    hub: Arc<Hub>,
    reader: Option<Reader>,
    /// What listeners capture, by their numbers.
    captures: BTreeMap<u64, (Target, u32)>,
}

/// What is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// What an endpoint sends and is sent, by its number.
    Endpoint(u32),
    /// The same of all of a network, and of its gateway.
    Network(u32),
    /// An uplink by its name.
    Uplink(String),
}

/// What somebody wants to listen to.
pub enum Wish {
    /// Flows and drops.
    Monitor(Ask),
    /// Packets, so many bytes of each.
    Capture(Target, u32),
}

/// A listener; when it is dropped, it goes.
pub struct Listener {
    listening: Listening,
    handle: Handle,
}

impl Listener {
    /// The next line; `None`: the daemon stops.
    pub async fn next(&mut self) -> Option<Told> {
        self.listening.next().await
    }

    /// The next line if there is one at once.
    pub fn ready(&mut self) -> Option<Told> {
        self.listening.ready()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let id = self.listening.id;
        self.handle.post(move |core| core.leave(id));
    }
}

/// One load of the programs at a time: held until it is over, whether somebody still waits for it or not.
static LOADING: Mutex<()> = Mutex::const_new(());

/// Listens to flows and drops.
pub async fn monitor(handle: &Handle, filter: MonitorFilter) -> Result<Listener> {
    let wish = handle.call(move |core| core.monitor_wish(&filter)).await?;
    listen(handle, wish).await
}

/// Listens to packets.
pub async fn capture(handle: &Handle, of: CaptureOf) -> Result<Listener> {
    let wish = handle.call(move |core| core.capture_wish(&of)).await?;
    listen(handle, wish).await
}

async fn listen(handle: &Handle, wish: Wish) -> Result<Listener> {
    let one = LOADING.lock().await;
    let (loaded, _one) = match handle.call(|core| core.load_watching()).await? {
        None => (None, one),
        Some(load) => {
            let loaded = tokio::task::spawn_blocking(move || (load.load(), one)).await;
            let (loaded, one) = loaded.map_err(|e| ServiceError::node(format!("loading: {e}")))?;
            let loaded = loaded.map_err(|e| ServiceError::node(e.to_string()))?;
            (Some(loaded), one)
        }
    };
    // Whoever asks may be gone when the core comes to it: then the answer leaves as any listener does.
    let own = handle.clone();
    let listener = move |core: &mut Core| {
        Ok(Listener {
            listening: core.listen(loaded, wish)?,
            handle: own,
        })
    };
    handle.call(listener).await
}

impl Core {
    fn monitor_wish(&self, filter: &MonitorFilter) -> Result<Wish> {
        let network = filter.network.as_deref();
        let reason = filter.reason.as_deref().map(|name| {
            let found = DropReason::ALL.iter().find(|r| r.name() == name);
            found.copied().ok_or_else(|| {
                ServiceError::bad(format!(
                    "there is no drop reason {name}; docs/drops.md lists them"
                ))
            })
        });
        let endpoint = filter.endpoint.as_deref();
        Ok(Wish::Monitor(Ask::Monitor {
            endpoint: endpoint
                .map(|e| self.desired.endpoint(e, network))
                .transpose()?
                .map(|e| e.number),
            network: network
                .map(|n| self.desired.network(n))
                .transpose()?
                .map(|n| n.number),
            drops: filter.drops,
            flows: filter.flows,
            reason: reason.transpose()?,
        }))
    }

    fn capture_wish(&self, of: &CaptureOf) -> Result<Wish> {
        let target = of.target.as_str();
        let found = match self.desired.endpoint(target, None) {
            Ok(endpoint) => Target::Endpoint(endpoint.number),
            Err(no_endpoint) => {
                if let Ok(network) = self.desired.network(target) {
                    Target::Network(network.number)
                } else if self.uplinks.values().any(|u| u.name == target) {
                    Target::Uplink(target.to_owned())
                } else if no_endpoint.fault() == Fault::Missing {
                    return Err(ServiceError::missing(format!(
                        "there is no endpoint, network or uplink {target}; `netd endpoint ls`, \
                         `netd network ls` and `netd status` list them"
                    )));
                } else {
                    return Err(no_endpoint.into());
                }
            }
        };
        if of.snaplen == 0 {
            return Err(ServiceError::bad(format!(
                "snaplen is 1 to {MAX_SNAPLEN} bytes"
            )));
        }
        Ok(Wish::Capture(found, of.snaplen.min(MAX_SNAPLEN as u32)))
    }

    /// The programs that tell, to be loaded; `None`: they are hooked.
    fn load_watching(&self) -> Result<Option<Load>> {
        if self.node.datapath.is_watched() {
            return Ok(None);
        }
        let load = self.node.datapath.watch_load();
        load.map(Some)
            .map_err(|e| ServiceError::node(e.to_string()))
    }

    fn listen(&mut self, loaded: Option<Loaded>, wish: Wish) -> Result<Listening> {
        if self.watchers.reader.is_none() {
            // An attempt that failed may have left some hooks with programs that nobody reads from.
            self.node.datapath.unwatch()?;
            // The last listener may have gone since somebody asked.
            let loaded = match loaded {
                Some(loaded) => loaded,
                None => self.node.datapath.watch_load().and_then(Load::load)?,
            };
            let events = self.node.datapath.watch_hook(loaded)?;
            let reader = Reader::start(events, Arc::clone(&self.watchers.hub));
            match reader {
                Ok(reader) => self.watchers.reader = Some(reader),
                Err(e) => {
                    self.node.datapath.unwatch()?;
                    return Err(ServiceError::node(format!("{e:#}")));
                }
            }
            tracing::info!("somebody watches: the programs tell");
        }
        let hub = &self.watchers.hub;
        let listening = match wish {
            Wish::Monitor(ask) => hub.listen(ask),
            Wish::Capture(target, snaplen) => {
                let listening = hub.listen(Ask::Capture {
                    devices: BTreeSet::new(),
                    snaplen,
                });
                let id = listening.id;
                self.watchers.captures.insert(id, (target, snaplen));
                listening
            }
        };
        self.refresh_watchers();
        Ok(listening)
    }

    fn leave(&mut self, id: u64) {
        self.watchers.captures.remove(&id);
        if self.watchers.hub.leave(id) {
            self.end_watching();
        } else {
            self.refresh_watchers();
        }
    }

    /// The programs that tell nothing are hooked again. Until they are somebody reads from the others, so that
    /// the next listener hears.
    pub(super) fn end_watching(&mut self) {
        if !self.node.datapath.is_watched() {
            return;
        }
        match self.node.datapath.unwatch() {
            Ok(()) => {
                // Nothing comes any more, so the thread has an end to come to.
                drop(self.watchers.reader.take());
                tracing::info!("nobody watches any more");
            }
            Err(e) => tracing::warn!("{e}; tried again within half a minute"),
        }
    }

    /// Ends a watching that could not be ended when its last listener went.
    pub(super) fn end_watching_of_nobody(&mut self) {
        if self.node.datapath.is_watched() && self.watchers.hub.is_empty() {
            self.end_watching();
        }
    }

    /// Lets listeners know what there is now, and captures follow it.
    pub(super) fn refresh_watchers(&mut self) {
        if !self.node.datapath.is_watched() {
            return;
        }
        let names = self.watched_names();
        let mut all: BTreeMap<u32, u32> = BTreeMap::new();
        for (id, (target, snaplen)) in &self.watchers.captures {
            let devices = devices_of(target, &names);
            for device in &devices {
                let bytes = all.entry(*device).or_default();
                *bytes = (*bytes).max(*snaplen);
            }
            let snaplen = *snaplen;
            self.watchers
                .hub
                .change(*id, Ask::Capture { devices, snaplen });
        }
        self.watchers.hub.update(names);
        if let Err(e) = self.node.datapath.capture(all) {
            tracing::warn!("{e}");
        }
    }

    fn watched_names(&self) -> Names {
        let mut names = Names::default();
        let mut device = |name: String, ifindex: u32, endpoint: u32, network: u32| {
            if ifindex != 0 {
                let of = Device {
                    name,
                    endpoint,
                    network,
                };
                names.devices.insert(ifindex, of);
            }
        };
        for network in self.desired.networks.values() {
            for name in [network.inner(), network.outer()] {
                let ifindex = self.actual.ifindex(&name);
                device(name, ifindex, 0, network.number);
            }
        }
        for endpoint in self.desired.endpoints.values() {
            let name = endpoint.device();
            let ifindex = self.actual.ifindex(&name);
            device(name, ifindex, endpoint.number, endpoint.network);
        }
        for (ifindex, uplink) in &self.uplinks {
            device(uplink.name.clone(), *ifindex, 0, 0);
        }
        for network in self.desired.networks.values() {
            names.networks.insert(network.number, network.name.clone());
        }
        for endpoint in self.desired.endpoints.values() {
            let of = (endpoint.name.clone(), endpoint.network);
            names.endpoints.insert(endpoint.number, of);
            let addresses = endpoint.addresses.iter().map(IpNet::addr);
            names
                .addresses
                .extend(addresses.map(|a| (a, endpoint.number)));
        }
        for publish in self.desired.publishes.values() {
            names.publishes.insert(publish.number, publish.spec.host);
        }
        names
    }
}

fn devices_of(target: &Target, names: &Names) -> BTreeSet<u32> {
    let fits = |device: &Device| match target {
        Target::Endpoint(number) => device.endpoint == *number,
        Target::Network(number) => device.network == *number,
        Target::Uplink(name) => device.name == *name && device.network == 0,
    };
    let devices = names.devices.iter().filter(|(_, device)| fits(device));
    devices.map(|(ifindex, _)| *ifindex).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_of_the_devices_of_its_target() {
        let device = |name: &str, endpoint, network| Device {
            name: name.into(),
            endpoint,
            network,
        };
        let names = Names {
            devices: BTreeMap::from([
                (2, device("up0", 0, 0)),
                (3, device("ndi1", 0, 1)),
                (4, device("nde1", 7, 1)),
                (5, device("nde2", 8, 1)),
                (6, device("nde3", 9, 2)),
            ]),
            ..Names::default()
        };
        let of = |target| devices_of(&target, &names).into_iter().collect::<Vec<_>>();
        assert_eq!(of(Target::Endpoint(8)), [5]);
        assert_eq!(of(Target::Network(1)), [3, 4, 5]);
        assert_eq!(of(Target::Uplink("up0".into())), [2]);
        assert_eq!(of(Target::Uplink("nde1".into())), Vec::<u32>::new());
    }
}
