//! The desired state in memory, and the changes that turn one state into the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::masquerade;
use super::overlap::Outside;
use super::records::{Endpoint, Floating, Meta, Network, Publish};

/// Addresses remembered as just released, per network; older ones count as never used.
const REMEMBERED: usize = 1_024;

/// An object of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A network.
    Network(Network),
    /// An endpoint.
    Endpoint(Endpoint),
    /// A publish.
    Publish(Publish),
    /// A floating IP.
    Floating(Floating),
}

/// Where an object is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Number of a network.
    Network(u32),
    /// Number of an endpoint.
    Endpoint(u32),
    /// Number of a publish.
    Publish(u32),
    /// Number of a floating IP.
    Floating(u32),
}

impl Object {
    /// Its key.
    pub fn key(&self) -> Key {
        match self {
            Self::Network(o) => Key::Network(o.number),
            Self::Endpoint(o) => Key::Endpoint(o.number),
            Self::Publish(o) => Key::Publish(o.number),
            Self::Floating(o) => Key::Floating(o.number),
        }
    }
}

/// A change of the desired state, stored and taken over as a whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Objects that are new or replaced.
    pub put: Vec<Object>,
    /// Objects that go.
    pub remove: Vec<Key>,
}

/// All that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// What is known once.
    pub meta: Meta,
    /// The daemon's options of masquerade, for networks that do not say. Not stored.
    pub masquerade: masquerade::Options,
    /// The addresses of the uplinks. Not stored.
    pub outside: Vec<Outside>,
    /// Networks by number.
    pub networks: BTreeMap<u32, Network>,
    /// Endpoints by number.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// Publishes by number.
    pub publishes: BTreeMap<u32, Publish>,
    /// Floating IPs by number.
    pub floating: BTreeMap<u32, Floating>,
    /// Numbers of publishes by endpoint: there may be ten thousand of them.
    published: BTreeMap<u32, BTreeSet<u32>>,
    /// Addresses released a short while ago, oldest first, by network: used again last. Not stored.
    pub released: BTreeMap<u32, VecDeque<IpAddr>>,
}

impl Desired {
    /// Nothing asked for yet.
    pub fn new(meta: Meta) -> Self {
        Self {
            meta,
            masquerade: masquerade::Options::default(),
            outside: Vec::new(),
            networks: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            publishes: BTreeMap::new(),
            floating: BTreeMap::new(),
            published: BTreeMap::new(),
            released: BTreeMap::new(),
        }
    }

    /// A number that was never given out.
    pub fn take_number(&mut self) -> u32 {
        loop {
            let n = self.meta.next_number;
            self.meta.next_number = n.wrapping_add(1);
            let used = self.networks.contains_key(&n)
                || self.endpoints.contains_key(&n)
                || self.publishes.contains_key(&n)
                || self.floating.contains_key(&n);
            if n != 0 && !used {
                return n;
            }
        }
    }

    /// Takes a change over and returns the change that takes it back.
    pub fn apply(&mut self, change: &Change) -> Change {
        let mut back = Change::default();
        for key in &change.remove {
            if let Some(old) = self.take(*key) {
                if let Object::Endpoint(ep) = &old {
                    self.release(ep);
                }
                back.put.push(old);
            }
        }
        for object in &change.put {
            let key = object.key();
            match self.take(key) {
                Some(old) => back.put.push(old),
                None => back.remove.push(key),
            }
            match object.clone() {
                Object::Network(o) => drop(self.networks.insert(o.number, o)),
                Object::Endpoint(o) => {
                    self.claim(&o);
                    self.endpoints.insert(o.number, o);
                }
                Object::Publish(o) => self.keep(o),
                Object::Floating(o) => drop(self.floating.insert(o.number, o)),
            }
        }
        back
    }

    /// Takes over a publish from the store or a change.
    pub fn keep(&mut self, publish: Publish) {
        let of = self.published.entry(publish.endpoint).or_default();
        of.insert(publish.number);
        self.publishes.insert(publish.number, publish);
    }

    fn take(&mut self, key: Key) -> Option<Object> {
        match key {
            Key::Network(n) => {
                self.released.remove(&n);
                self.networks.remove(&n).map(Object::Network)
            }
            Key::Endpoint(n) => self.endpoints.remove(&n).map(Object::Endpoint),
            Key::Publish(n) => {
                let publish = self.publishes.remove(&n)?;
                if let Some(of) = self.published.get_mut(&publish.endpoint) {
                    of.remove(&n);
                    if of.is_empty() {
                        self.published.remove(&publish.endpoint);
                    }
                }
                Some(Object::Publish(publish))
            }
            Key::Floating(n) => self.floating.remove(&n).map(Object::Floating),
        }
    }

    fn release(&mut self, ep: &Endpoint) {
        let list = self.released.entry(ep.network).or_default();
        list.extend(ep.addresses.iter().map(ipnet::IpNet::addr));
        while list.len() > REMEMBERED {
            list.pop_front();
        }
    }

    fn claim(&mut self, ep: &Endpoint) {
        if let Some(list) = self.released.get_mut(&ep.network) {
            list.retain(|ip| !ep.addresses.iter().any(|a| a.addr() == *ip));
        }
    }

    /// The endpoints of a network.
    pub fn endpoints_of(&self, network: u32) -> impl Iterator<Item = &Endpoint> {
        self.endpoints
            .values()
            .filter(move |e| e.network == network)
    }

    /// The publishes of an endpoint.
    pub fn publishes_of(&self, endpoint: u32) -> impl Iterator<Item = &Publish> {
        let numbers = self.published.get(&endpoint).into_iter().flatten();
        numbers.filter_map(|n| self.publishes.get(n))
    }

    /// The floating IPs of an endpoint, in the order they were added.
    pub fn floating_of(&self, endpoint: u32) -> impl Iterator<Item = &Floating> {
        let all = self.floating.values();
        all.filter(move |f| f.endpoint == endpoint)
    }

    /// What goes with an endpoint: its publishes, its floating IPs and itself.
    pub fn all_of(&self, endpoint: u32) -> Vec<Key> {
        let publishes = self.publishes_of(endpoint).map(|p| Key::Publish(p.number));
        let floating = self.floating_of(endpoint).map(|f| Key::Floating(f.number));
        publishes
            .chain(floating)
            .chain([Key::Endpoint(endpoint)])
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::records::{Behind, Netns, SCHEMA};

    pub(crate) fn empty() -> Desired {
        Desired::new(Meta {
            schema: SCHEMA,
            instance: "test".into(),
            ula: "fd12:3456:789a::/48".parse().unwrap(),
            next_number: 1,
        })
    }

    pub(crate) fn network(desired: &mut Desired, name: &str, subnets: &[&str]) -> u32 {
        let number = desired.take_number();
        let subnets: Vec<ipnet::IpNet> = subnets.iter().map(|s| s.parse().unwrap()).collect();
        let gateways = subnets
            .iter()
            .filter_map(|s| s.hosts().find(|ip| *ip != s.network()))
            .collect();
        let record = Network {
            number,
            name: name.into(),
            kind: netd_api::NetworkKind::Bridge,
            subnets,
            gateways,
            ip_range: None,
            internal: false,
            masquerade: true,
            options: masquerade::Options::default(),
            isolation: true,
            any_ethertype: false,
            mtu: 1500,
            aging: 300,
            storm: 2000,
            gateway_mac: [2, 0, 0, 0, 1, number as u8],
            labels: netd_api::Labels::new(),
            owner: "cli".into(),
        };
        desired.apply(&Change {
            put: vec![Object::Network(record)],
            remove: vec![],
        });
        number
    }

    pub(crate) fn endpoint(
        desired: &mut Desired,
        name: &str,
        network: u32,
        addresses: &[&str],
    ) -> u32 {
        let number = desired.take_number();
        let record = Endpoint {
            number,
            id: format!("{number:012x}"),
            name: name.into(),
            network,
            target: name.into(),
            netns: Netns {
                dev: 4,
                ino: number.into(),
                cookie: number.into(),
            },
            ifname: "eth0".into(),
            mac: [2, 0, 0, 0, 2, number as u8],
            macs: netd_api::Macs::default(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            gateways: vec![],
            made: true,
            behind: Behind::default(),
            labels: netd_api::Labels::new(),
            owner: "cli".into(),
        };
        desired.apply(&Change {
            put: vec![Object::Endpoint(record)],
            remove: vec![],
        });
        number
    }

    #[test]
    fn a_change_taken_back_leaves_nothing() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24"]);
        let a = endpoint(&mut d, "a", web, &["10.0.0.2/24"]);
        let before = (d.networks.clone(), d.endpoints.clone());
        let mut renamed = d.endpoints[&a].clone();
        renamed.name = "b".into();
        let change = Change {
            put: vec![Object::Endpoint(renamed)],
            remove: vec![Key::Network(web)],
        };
        let back = d.apply(&change);
        assert_eq!(d.endpoints[&a].name, "b");
        assert!(d.networks.is_empty());
        d.apply(&back);
        assert_eq!((d.networks.clone(), d.endpoints.clone()), before);
    }

    #[test]
    fn publishes_are_found_by_their_endpoint_and_only_while_they_are_there() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24"]);
        let (a, b) = (
            endpoint(&mut d, "a", web, &["10.0.0.2/24"]),
            endpoint(&mut d, "b", web, &["10.0.0.3/24"]),
        );
        let before = d.clone();
        let put = |number, endpoint, spec: &str| {
            Object::Publish(Publish {
                number,
                endpoint,
                spec: spec.parse().unwrap(),
                owner: "cli".into(),
            })
        };
        let change = |put, remove| Change { put, remove };
        let back = d.apply(&change(
            vec![put(8, a, "1:1"), put(9, b, "2:2"), put(10, a, "3:3")],
            vec![],
        ));
        let of = |d: &Desired, e| d.publishes_of(e).map(|p| p.number).collect::<Vec<_>>();
        assert_eq!((of(&d, a), of(&d, b)), (vec![8, 10], vec![9]));
        // One that changes hands, and one that goes.
        d.apply(&change(vec![put(8, b, "1:1")], vec![Key::Publish(10)]));
        assert_eq!((of(&d, a), of(&d, b)), (vec![], vec![8, 9]));
        d.apply(&back);
        assert_eq!(
            (d.publishes, d.published),
            (before.publishes, before.published)
        );
    }

    #[test]
    fn numbers_are_never_zero_and_never_given_twice() {
        let mut d = empty();
        d.meta.next_number = u32::MAX - 1;
        let mut other = d.clone();
        let n = network(&mut other, "x", &[]);
        d.networks.insert(2, other.networks[&n].clone());
        let taken: Vec<u32> = (0..4).map(|_| d.take_number()).collect();
        assert_eq!(taken, [u32::MAX - 1, u32::MAX, 1, 3]);
    }
}
