//! A network namespace with a node's devices and routes, the data path loaded into it, and the rows a
//! daemon would have written. All of it belongs to the test's thread and goes with it, panic or not.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use netd::datapath::Datapath;
use netd_common::addr::{Addr, Be16};
use netd_common::maps::{
    FdbEntry, FdbKey, Float, HostEntry, HostKind, Port, Publish, PublishKey, Target, Uplink,
    port_flags,
};
use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use super::hosts::{A, B, C, Family, GATEWAY, GATEWAY2, Host, NODE, NODE_TWO, PORT_MAX, PORT_MIN};
use super::pool::{Loaded, Size};
use crate::lab::{process, wait};

/// MTU of the uplink and of the networks.
const MTU: u32 = 1500;

/// Entries of the flow tables where a case does not say.
const FLOW_ENTRIES: u32 = 1024;

/// Veth pairs. The router and everybody behind it are `up1`, which answers nothing.
const DEVICES: &str = "
link set lo up
link add up0 address 02:00:00:00:00:02 mtu 1500 type veth peer name up1 address 02:00:00:00:00:01
link add gwo address 02:00:00:00:01:01 type veth peer name gwi
link add gwo2 address 02:00:00:00:02:01 type veth peer name gwi2
link add epa type veth peer name epa1
link add epb type veth peer name epb1
link add epc type veth peer name epc1
link add wan0 address 02:00:00:00:03:02 type veth peer name wan1
";

/// The devices of the node that speak IPv6; the others stay silent.
const SPEAK_V6: [&str; 4] = ["up0", "gwo", "gwo2", "wan0"];

/// Addresses, routes, neighbours.
const ROUTES: &str = "
link set up1 up
link set up0 up
link set gwi up
link set gwo up
link set gwi2 up
link set gwo2 up
link set epa1 up
link set epa up
link set epb1 up
link set epb up
link set epc1 up
link set epc up
link set wan1 up
link set wan0 up
addr add 192.0.2.2/24 dev up0
addr add 192.0.2.3/24 dev up0
addr add 2001:db8:1::2/64 dev up0 nodad
addr add 2001:db8:1::3/64 dev up0 nodad
addr add 10.1.0.1/24 dev gwo
addr add fd00:1::1/64 dev gwo nodad
addr add 10.2.0.1/24 dev gwo2
addr add fd00:2::1/64 dev gwo2 nodad
addr add 192.0.3.2/24 dev wan0
addr add 2001:db8:3::2/64 dev wan0 nodad
neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev up0 nud permanent
neigh add 2001:db8:1::1 lladdr 02:00:00:00:00:01 dev up0 nud permanent
route add default via 192.0.2.1
route add 198.18.0.0/24 via 192.0.3.1 dev wan0
route add unreachable 198.18.1.0/24
route add default via 2001:db8:1::1 dev up0
route add 2001:db8:1800::/64 via 2001:db8:3::1 dev wan0
route add unreachable 2001:db8:1801::/64
";

/// The namespace, the data path and what it was told.
pub struct World {
    pub(super) loaded: Loaded,
    pub(super) ifindex: RefCell<HashMap<String, u32>>,
}

impl World {
    /// Runs a case in a world of its own.
    pub fn run(case: impl FnOnce(&mut Self) + Send) {
        Self::with_flow_entries(FLOW_ENTRIES, case);
    }

    /// Runs a case once for each family, each time in a world of its own.
    pub fn both(case: impl Fn(&mut Self, Family) + Sync) {
        for family in [Family::V4, Family::V6] {
            println!("family: {family:?}");
            Self::run(|world| case(world, family));
        }
    }

    /// [`World::run`] with a flow table of this size.
    pub fn with_flow_entries(entries: u32, case: impl FnOnce(&mut Self) + Send) {
        Self::with_flow_limit(entries, None, case);
    }

    /// The same with so many flows for an endpoint; `None`: as many as there is room for.
    pub fn with_flow_limit(entries: u32, limit: Option<u32>, case: impl FnOnce(&mut Self) + Send) {
        Self::within(move || {
            let mut world = Self::build(Loaded::take(Size {
                entries,
                limit,
                planted: 0,
            }));
            case(&mut world);
            world.loaded.give();
        });
    }

    /// [`World::run`] with programs nobody has used, for a case that does more with them than run them.
    pub fn fresh(case: impl FnOnce(&mut Self) + Send) {
        let size = Size {
            entries: FLOW_ENTRIES,
            limit: None,
            planted: 0,
        };
        Self::within(move || case(&mut Self::build(Loaded::load(size))));
    }

    /// [`World::fresh`] with a small flow table, and programs that make mistakes: [`netd_common::planted`].
    pub fn with_mistakes(planted: u32, case: impl FnOnce(&mut Self) + Send) {
        let size = Size {
            entries: FLOW_ENTRIES / 16,
            limit: None,
            planted,
        };
        Self::within(move || case(&mut Self::build(Loaded::load(size))));
    }

    fn within(case: impl FnOnce() + Send) {
        apart(|| {
            devices();
            case();
        });
    }

    /// Goes on with newly loaded programs, over what those before have pinned.
    pub fn reload(&mut self) {
        self.loaded.reload();
    }

    fn build(loaded: Loaded) -> Self {
        let mut world = Self {
            loaded,
            ifindex: RefCell::default(),
        };
        world.rows();
        world
    }

    /// Writes what a daemon writes for two networks and an uplink.
    fn rows(&mut self) {
        for (gateway, endpoints) in [(&GATEWAY, &[A, B][..]), (&GATEWAY2, &[C][..])] {
            let outer = self.index(gateway.peer);
            let mut segment = vec![Target {
                device: outer,
                kind: HostKind::Gateway.code(),
            }];
            for endpoint in endpoints {
                segment.push(Target {
                    device: self.index(endpoint.device),
                    kind: HostKind::Endpoint.code(),
                });
            }
            for (slot, target) in (0..).zip(&segment) {
                let slot = (gateway.network, slot);
                let set = self.loaded.datapath.slot_set(slot, target);
                set.expect("a switch port");
            }
            for who in endpoints.iter().chain([gateway]) {
                self.row(who, gateway);
            }
        }
        self.uplink(|_| {});
        let mut local = BTreeMap::new();
        for (host, device) in [
            (&NODE, NODE.device),
            (&NODE_TWO, NODE.device),
            (&GATEWAY, GATEWAY.peer),
            (&GATEWAY2, GATEWAY2.peer),
        ] {
            for family in [Family::V4, Family::V6] {
                local.insert(host.ip(family), self.index(device));
            }
        }
        self.loaded
            .datapath
            .locals_set(&local)
            .expect("node addresses");
        self.loaded
            .datapath
            .node_addresses_set(NODE.v4.octets(), NODE.v6.octets())
            .expect("node addresses");
    }

    fn row(&mut self, who: &Host, gateway: &Host) {
        let is_gateway = who.endpoint == 0;
        let outer = self.index(gateway.peer);
        let port = Port {
            network: who.network,
            endpoint: who.endpoint,
            flags: port_flags::MASQUERADE | if is_gateway { port_flags::GATEWAY } else { 0 },
            mtu: MTU,
            outer,
            inner: self.index(gateway.device),
            v4: who.v4.octets(),
            v6: who.v6.octets(),
            mac: who.mac,
            gateway_mac: gateway.mac,
            gateway_v4: gateway.v4.octets(),
            gateway_v6: gateway.v6.octets(),
            macs: 0,
            aging: 300,
            storm: 2_000,
            bits4: 24,
            bits6: 64,
            masq_min: 0,
            masq_max: 0,
            pad: [0; 2],
            float4: [0; 4],
            float6: [0; 16],
        };
        let kind = if is_gateway {
            HostKind::Gateway
        } else {
            HostKind::Endpoint
        };
        let device = if is_gateway {
            outer
        } else {
            self.index(who.device)
        };
        let host = HostEntry {
            network: who.network,
            endpoint: who.endpoint,
            device,
            kind: kind.code(),
            mac: who.mac,
            gateway_mac: gateway.mac,
            flags: port.flags,
        };
        let fdb = FdbEntry {
            device,
            kind: kind.code(),
            endpoint: who.endpoint,
        };
        self.loaded
            .datapath
            .port_set(self.index(who.device), &port)
            .expect("port");
        for family in [Family::V4, Family::V6] {
            self.loaded
                .datapath
                .host_set(who.ip(family), &host)
                .expect("address");
        }
        self.loaded
            .datapath
            .fdb_set(FdbKey::new(who.network, who.mac), &fdb)
            .expect("forwarding entry");
    }

    /// The data path.
    pub const fn datapath(&mut self) -> &mut Datapath {
        &mut self.loaded.datapath
    }

    /// Index of a device.
    pub fn index(&self, device: &str) -> u32 {
        let mut known = self.ifindex.borrow_mut();
        *known
            .entry(device.to_owned())
            .or_insert_with(|| if_nametoindex(device).expect("a device of the world"))
    }

    /// Changes the row of an endpoint's device, or of a gateway's inner end.
    pub fn port(&mut self, who: &Host, change: impl FnOnce(&mut Port)) {
        let index = self.index(who.device);
        let rows = self.loaded.datapath.ports().expect("rows");
        let (_, mut port) = rows
            .into_iter()
            .find(|(i, _)| *i == index)
            .expect("its row");
        change(&mut port);
        self.loaded.datapath.port_set(index, &port).expect("port");
        // The network's options are in the rows of the addresses as well.
        for (address, mut host) in self.loaded.datapath.hosts().expect("rows") {
            if (host.network, host.endpoint) == (who.network, who.endpoint) {
                host.flags = port.flags;
                self.loaded
                    .datapath
                    .host_set(address, &host)
                    .expect("address");
            }
        }
    }

    /// Gives an endpoint one more address.
    pub fn second_address(&mut self, who: &Host, address: IpAddr) {
        let rows = self.loaded.datapath.hosts().expect("rows");
        let first = rows.iter().find(|(a, _)| *a == IpAddr::V4(who.v4));
        let (_, entry) = *first.expect("its row");
        self.loaded
            .datapath
            .host_set(address, &entry)
            .expect("address");
    }

    /// Writes the row of the uplink, changed from the usual.
    pub fn uplink(&mut self, change: impl FnOnce(&mut Uplink)) {
        let mut uplink = Uplink {
            v4: NODE.v4.octets(),
            v6: NODE.v6.octets(),
            port_min: Be16::new(PORT_MIN),
            port_max: Be16::new(PORT_MAX),
            mtu: MTU,
        };
        change(&mut uplink);
        let index = self.index(NODE.device);
        self.loaded
            .datapath
            .uplink_set(index, &uplink)
            .expect("uplink");
    }

    /// Makes `wan0` an uplink as well.
    pub fn second_uplink(&mut self) {
        let uplink = Uplink {
            v4: [192, 0, 3, 2],
            v6: Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 2).octets(),
            port_min: Be16::new(PORT_MIN),
            port_max: Be16::new(PORT_MAX),
            mtu: MTU,
        };
        let index = self.index("wan0");
        self.loaded
            .datapath
            .uplink_set(index, &uplink)
            .expect("uplink");
    }

    /// Runs `ip` commands (without the word `ip`), one on a line.
    pub fn ip(&self, lines: &str) {
        ip(lines);
    }

    /// Publishes `port` of the node (`on`: one address; `None`: all of a family) as `to_port` of an
    /// endpoint of network 1; the publish's number is `port`.
    pub fn publish(
        &mut self,
        on: Option<&Host>,
        family: Family,
        proto: u8,
        port: u16,
        endpoint: &Host,
        to_port: u16,
    ) {
        let node = match (on, family) {
            (Some(host), _) => host.ip(family),
            (None, Family::V4) => Ipv4Addr::UNSPECIFIED.into(),
            (None, Family::V6) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let addr = |ip| match ip {
            IpAddr::V4(a) => a.octets().to_16(),
            IpAddr::V6(a) => a.octets(),
        };
        let key = PublishKey {
            addr: addr(node),
            port: Be16::new(port),
            proto,
            pad: 0,
        };
        let value = Publish {
            addr: addr(endpoint.ip(family)),
            port: Be16::new(to_port),
            mac: endpoint.mac,
            gateway_mac: GATEWAY.mac,
            limited: 0,
            pad: 0,
            device: self.index(endpoint.device),
            endpoint: endpoint.endpoint,
            network: endpoint.network,
            number: u32::from(port),
        };
        self.loaded
            .datapath
            .publish_set(key, &value)
            .expect("publish");
    }

    /// Gives an address to an endpoint: packets to it, and what the endpoint sends.
    pub fn float(&mut self, address: &Host, family: Family, endpoint: &Host) {
        let wide = |ip| match ip {
            IpAddr::V4(a) => a.octets().to_16(),
            IpAddr::V6(a) => a.octets(),
        };
        let gateway = if endpoint.network == GATEWAY2.network {
            GATEWAY2
        } else {
            GATEWAY
        };
        let float = Float {
            addr: wide(endpoint.ip(family)),
            mac: endpoint.mac,
            gateway_mac: gateway.mac,
            device: self.index(endpoint.device),
            endpoint: endpoint.endpoint,
            network: endpoint.network,
            uplink: self.index(NODE.device),
            uplink_mac: NODE.mac,
            pad: [0; 2],
        };
        let ip = address.ip(family);
        self.loaded.datapath.float_set(ip, &float).expect("float");
        self.port(endpoint, |port| match ip {
            IpAddr::V4(a) => port.float4 = a.octets(),
            IpAddr::V6(a) => port.float6 = a.octets(),
        });
    }

    /// Lets these sources alone come to the ports published by this number.
    pub fn limit(&mut self, number: u16, sources: &[&str]) {
        let publish = u32::from(number);
        for net in sources {
            let net = net.parse().expect("a prefix");
            self.loaded
                .datapath
                .from_set((publish, net), 1)
                .expect("source");
        }
        for (key, mut value) in self.loaded.datapath.published().expect("rows") {
            if value.number == publish {
                value.limited = 1;
                self.loaded
                    .datapath
                    .publish_set(key, &value)
                    .expect("publish");
            }
        }
    }

    /// The pin of a map.
    pub(super) fn pin(&self, map: &str) -> PathBuf {
        let generations = fs::read_dir(&self.loaded.bpf).expect("the pin directory");
        generations
            .map(|entry| entry.expect("a generation").path().join("maps").join(map))
            .find(|pin| pin.exists())
            .expect("the map is pinned")
    }
}

/// Runs a case in namespaces of its own, without any device but a loopback one: no test sees another's, and
/// they vanish with its thread.
pub(super) fn apart(case: impl FnOnce() + Send) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("own namespaces");
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none).expect("private mounts");
        case();
    };
    if let Err(panic) = thread::scope(|scope| scope.spawn(run).join()) {
        panic::resume_unwind(panic);
    }
}

/// The node's devices, addresses and routes.
fn devices() {
    silent();
    ip(DEVICES);
    for device in SPEAK_V6 {
        sysctl(&format!("ipv6/conf/{device}/disable_ipv6"), "0");
    }
    ip(ROUTES);
    // The kernel makes an address local a moment after it was given.
    wait::until("the node's addresses to be local", || {
        let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route")?;
        let is_local = |host: &Host| {
            let row = format!("{:032x} 80 ", u128::from(host.v6));
            routes.lines().any(|line| line.starts_with(&row))
        };
        let all = [NODE, NODE_TWO, GATEWAY, GATEWAY2].iter().all(is_local);
        Ok(all.then_some(()))
    })
    .expect("addresses");
    for inner in ["gwi", "gwi2"] {
        for family in ["ipv4", "ipv6"] {
            sysctl(&format!("{family}/conf/{inner}/forwarding"), "1");
        }
    }
}

/// Devices that are made say nothing by themselves, and speak IPv6 only if told to.
pub(super) fn silent() {
    sysctl("ipv6/conf/default/accept_dad", "0");
    sysctl("ipv6/conf/default/router_solicitations", "0");
    sysctl("ipv6/conf/default/addr_gen_mode", "1");
    sysctl("ipv6/conf/default/disable_ipv6", "1");
}

pub(super) fn ip(lines: &str) {
    process::feed(Command::new("ip").args(["-batch", "-"]), lines).expect("ip takes it");
}

pub(super) fn sysctl(name: &str, value: &str) {
    fs::write(Path::new("/proc/sys/net").join(name), value)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
}
