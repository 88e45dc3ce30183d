//! Files against states: what they change, and what must be refused.

mod floating;
mod pairs;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::Ipv4Net;
use netd_api::{Action, Attach, Manifest, NetworkCreate, PublishOf, PublishSpec};
use netd_common::addr::Mac;

use super::*;
use crate::config::Pools;
use crate::model::desired::tests::empty;
use crate::model::publish;

/// A node on which every target but `nowhere` is there; ids and MACs are counted.
#[derive(Default)]
struct Node {
    next: u64,
    gone: BTreeSet<String>,
    addresses: Vec<IpAddr>,
}

impl Ask for Node {
    fn target(&mut self, target: &str) -> Result<Netns, Refusal> {
        if target == "nowhere" {
            let line = "target \"nowhere\": there is no such namespace".into();
            let fault = Some(Fault::Missing);
            return Err(Refusal { line, fault });
        }
        let ino = name::hash(target);
        Ok(Netns {
            dev: 4,
            ino,
            cookie: ino,
        })
    }

    fn is_free(&mut self, _: &str, device: &str) -> Result<bool, Refusal> {
        Ok(device != "taken0")
    }

    fn is_gone(&self, endpoint: &Endpoint) -> bool {
        self.gone.contains(&endpoint.name)
    }

    fn id(&mut self, _: &Desired) -> Result<String, Refusal> {
        self.next += 1;
        Ok(format!("{:012x}", self.next))
    }

    fn mac(&mut self) -> Result<Mac, Refusal> {
        self.next += 1;
        let [.., a, b] = self.next.to_be_bytes();
        Ok([2, 0, 0, 9, a, b])
    }

    fn addresses(&mut self) -> Result<Vec<IpNet>, Refusal> {
        Ok(vec!["192.0.2.2/24".parse().unwrap()])
    }

    fn publish_addresses(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }

    fn ports(
        &mut self,
        desired: &Desired,
        _: &Endpoint,
        group: &[PublishSpec],
    ) -> Result<Vec<PublishSpec>, Refusal> {
        let with = |spec: &PublishSpec, port: u16| {
            let mut spec = spec.clone();
            if spec.host.host_port == 0 {
                (spec.host.host_port, spec.host.host_end) = (port, port);
            }
            spec
        };
        let free = |spec: &PublishSpec| publish::taken_by(desired, &spec.host).is_none();
        let found = (50_000..60_000).find_map(|port| {
            let group: Vec<_> = group.iter().map(|s| with(s, port)).collect();
            group.iter().all(free).then_some(group)
        });
        Ok(found.unwrap_or_default())
    }
}

/// Works a file out against a state, with every device where it should be.
fn ask(before: &Desired, manifest: &Manifest, node: &mut Node) -> Result<Outcome, Refused> {
    let pools = Pools {
        v4: "10.210.0.0/16".parse::<Ipv4Net>().unwrap(),
        v6: None,
    };
    let context = Context {
        node: &[],
        pools: &pools,
        mtu: 1500,
        mac: [2; 6],
    };
    outcome(before, manifest, &context, node)
}

fn after(before: &Desired, manifest: &Manifest, node: &mut Node) -> Desired {
    ask(before, manifest, node)
        .unwrap_or_else(|e| panic!("{manifest:?}: {e:?}"))
        .after
}

fn manifest(networks: Vec<NetworkCreate>, endpoints: Vec<Attach>) -> Manifest {
    Manifest {
        name: "f".into(),
        networks,
        endpoints,
        prune: true,
        ..Manifest::default()
    }
}

fn network(name: &str, subnets: &[&str], storm: Option<u32>) -> NetworkCreate {
    NetworkCreate {
        name: name.into(),
        subnets: subnets.iter().map(|s| s.parse().unwrap()).collect(),
        storm,
        ..NetworkCreate::default()
    }
}

fn endpoint(name: &str, network: &str, mac: Option<&str>) -> Attach {
    Attach {
        target: format!("ns-{name}"),
        network: network.into(),
        name: Some(name.into()),
        mac: mac.map(str::to_owned),
        ..Attach::default()
    }
}

/// What a state is, whatever the numbers, ids and what was made from them.
fn essence(desired: &Desired, manifest: &Manifest) -> Manifest {
    let mut all = export(desired, Some("file:f"));
    all.prune = manifest.prune;
    for endpoint in &mut all.endpoints {
        let asked = manifest.endpoints.iter().find(|e| e.name == endpoint.name);
        // Left open: then any will do.
        if asked.is_none_or(|e| e.mac.is_none()) {
            endpoint.mac = None;
        }
        if asked.is_none_or(|e| e.ips.is_empty()) {
            endpoint.ips.clear();
        }
    }
    all.networks.sort_by(|a, b| a.name.cmp(&b.name));
    all.endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn lines(outcome: &Outcome) -> Vec<(Action, &str)> {
    let all = outcome.lines.iter();
    all.map(|l| (l.action, l.object.as_str())).collect()
}

fn shop() -> Manifest {
    let mut file = manifest(
        vec![network("web", &["10.1.0.0/24", "fd01::/64"], None)],
        vec![endpoint("a", "web", None), endpoint("b", "web", None)],
    );
    file.endpoints[0].publish = vec!["8080:80".parse().unwrap(), "0:81".parse().unwrap()];
    file
}

#[test]
fn what_leaves_the_file_is_told_and_goes_only_when_asked_to() {
    let mut node = Node::default();
    let d = after(&empty(), &shop(), &mut node);
    let mut less = shop();
    less.prune = false;
    less.endpoints.pop();
    less.endpoints[0].publish.pop();
    let step = ask(&d, &less, &mut node).unwrap();
    assert_eq!(step.change, Change::default());
    let port = d.publishes.values().last().unwrap().spec.host;
    assert_eq!(step.left, ["endpoint b".into(), format!("publish {port}")]);
    less.prune = true;
    let step = ask(&d, &less, &mut node).unwrap();
    let gone = format!("publish {port}");
    assert_eq!(
        lines(&step),
        [
            (Action::Remove, gone.as_str()),
            (Action::Remove, "endpoint b")
        ]
    );
    assert!(step.left.is_empty());
    let nothing = manifest(vec![], vec![]);
    assert!(after(&d, &nothing, &mut node).networks.is_empty());
}

#[test]
fn what_belongs_to_another_is_left_alone_or_refused_by_its_owners_name() {
    let mut node = Node::default();
    let d = after(&empty(), &shop(), &mut node);
    let mut other = shop();
    other.name = "g".into();
    // Any port is one of its own.
    other.endpoints[0].publish.pop();
    let step = ask(&d, &other, &mut node).unwrap();
    assert_eq!(
        step.change,
        Change::default(),
        "equal objects are no quarrel"
    );
    other.networks[0].storm = Some(7);
    other.endpoints[0].macs = Some(netd_api::Macs::Any);
    other.endpoints[1].mac = Some("02:00:00:00:00:99".into());
    let refused = ask(&d, &other, &mut node).unwrap_err();
    let objects: Vec<&str> = refused.problems.iter().map(|p| p.object.as_str()).collect();
    assert_eq!(objects, ["network web", "endpoint a", "endpoint b"]);
    for p in &refused.problems {
        assert!(p.error.contains("file:f") && p.error.contains("--force"));
    }
    assert_eq!(refused.fault, Some(Fault::Conflict));
    other.force = true;
    let step = ask(&d, &other, &mut node).unwrap();
    let owners = |d: &Desired| {
        let of = d.networks.values().map(|n| n.owner.clone());
        let of = of.chain(d.endpoints.values().map(|e| e.owner.clone()));
        of.chain(d.publishes.values().map(|p| p.owner.clone()))
            .collect::<BTreeSet<_>>()
    };
    let mut both = owners(&step.after);
    assert!(both.remove("file:g"));
    assert_eq!(
        both,
        BTreeSet::from(["file:f".to_owned()]),
        "the port it does not name"
    );
    // Nothing of the other's is pruned without its being named.
    let empty_file = Manifest {
        name: "g".into(),
        ..manifest(vec![], vec![])
    };
    assert_eq!(
        ask(&d, &empty_file, &mut node).unwrap().change,
        Change::default()
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let mut file = shop();
    file.networks.push(network("bad", &["10.1.0.0/25"], None));
    file.networks
        .push(network("worse", &["127.0.0.0/24"], None));
    file.endpoints[0].target = "nowhere".into();
    file.endpoints[1].ips = vec!["10.9.0.1".parse().unwrap()];
    file.endpoints.push(endpoint("c", "none", None));
    file.endpoints.push(endpoint("d", "web", None));
    file.endpoints[3].ifname = Some("taken0".into());
    file.publishes.push(PublishOf {
        endpoint: "none".into(),
        spec: "1:1".parse().unwrap(),
    });
    let refused = ask(&empty(), &file, &mut Node::default()).unwrap_err();
    for (object, why) in [
        ("network bad", "overlaps"),
        ("network worse", "loopback"),
        ("endpoint a", "no such namespace"),
        ("endpoint b", "10.9.0.1"),
        ("endpoint c", "no network"),
        ("endpoint d", "taken0"),
    ] {
        let found = |p: &&Problem| p.object == object && p.error.contains(why);
        assert!(
            refused.problems.iter().any(|p| found(&p)),
            "{object}: {refused:#?}"
        );
    }
}

#[test]
fn a_network_that_cannot_change_takes_its_own_endpoints_along_and_nobody_elses() {
    let mut node = Node::default();
    let d = after(&empty(), &shop(), &mut node);
    let mut moved = shop();
    moved.networks[0] = network("web", &["10.7.0.0/24"], None);
    let step = ask(&d, &moved, &mut node).unwrap();
    assert!(
        step.lines.iter().all(|l| l.action == Action::Remake),
        "{:?}",
        step.lines
    );
    assert_eq!(step.lines.len(), 5);
    assert_eq!(
        step.lines[0].why.as_deref(),
        Some("subnets cannot be changed in place")
    );
    assert_eq!(step.first.remove.len(), 5);
    let mut d = d;
    let b = d.endpoints.values_mut().find(|e| e.name == "b").unwrap();
    b.owner = "cli".into();
    moved.endpoints.pop();
    let refused = ask(&d, &moved, &mut node).unwrap_err();
    assert!(
        refused.problems[0]
            .error
            .contains("endpoint b of owner cli")
    );
}

#[test]
fn an_endpoint_that_lost_its_device_or_its_namespace_is_made_anew_as_it_was() {
    let mut node = Node::default();
    let d = after(&empty(), &shop(), &mut node);
    node.gone.insert("a".into());
    let step = ask(&d, &shop(), &mut node).unwrap();
    assert_eq!(step.lines.len(), 3, "{:?}", step.lines);
    assert!(
        step.lines
            .iter()
            .all(|l| l.action == Action::Remake && l.fields.is_empty())
    );
    assert_eq!(step.lines[0].why.as_deref(), Some("its device is gone"));
    assert_eq!(essence(&step.after, &shop()), essence(&d, &shop()));
}

#[test]
fn ranges_of_ports_are_counted_as_they_are_after_the_file() {
    let mut node = Node::default();
    let with = |ranges: [Option<u32>; 5]| {
        let networks = ranges.iter().zip(1..).map(|(range, n)| {
            let mut net = network(&format!("n{n}"), &[&format!("10.{n}.0.0/24")], None);
            let ports = |r: u32| format!("{}-{}", r * 100, r * 100 + 9).parse().unwrap();
            net.masquerade_ports = range.map(ports);
            net
        });
        manifest(networks.collect(), vec![])
    };
    let none = after(&empty(), &with([None; 5]), &mut node);
    let five = with([Some(11), Some(12), Some(13), Some(14), Some(15)]);
    for before in [&none, &empty()] {
        let refused = ask(before, &five, &mut node).unwrap_err();
        assert_eq!(refused.problems.len(), 1, "{:?}", refused.problems);
        assert_eq!(refused.problems[0].object, "network n5");
        assert!(refused.problems[0].error.contains("4 separate ranges"));
    }
    // One goes, another comes: at no place are there five of them.
    let four = with([Some(11), Some(12), Some(13), Some(14), None]);
    let d = after(&none, &four, &mut node);
    after(
        &d,
        &with([None, Some(12), Some(13), Some(14), Some(15)]),
        &mut node,
    );
    after(
        &d,
        &with([Some(15), Some(14), Some(13), Some(12), None]),
        &mut node,
    );
    // Too many because of the daemon's own: what has nothing to do with that may still change.
    let mut d = d;
    d.masquerade.ports = "3000-3009".parse().ok();
    let mut calm = four.clone();
    calm.networks[4].storm = Some(7);
    assert_eq!(after(&d, &calm, &mut node).networks.len(), 5);
    assert!(ask(&d, &five, &mut node).is_err());
}

#[test]
fn endpoints_that_stay_are_noted_as_behind_a_network_that_changes() {
    let mut node = Node::default();
    let d = after(&empty(), &shop(), &mut node);
    let behind = |d: &Desired| {
        let all = d.endpoints.values();
        all.map(|e| (e.behind.routes, e.behind.mtu))
            .collect::<Vec<_>>()
    };
    assert_eq!(behind(&d), [(false, false); 2]);
    let mut other = shop();
    other.networks[0].mtu = Some(1400);
    other.endpoints[1].mac = Some("02:00:00:00:00:99".into());
    let step = ask(&d, &other, &mut node).unwrap();
    assert_eq!(
        behind(&step.after),
        [(false, true), (false, false)],
        "one is made anew"
    );
    let stays = |o: &Object| matches!(o, Object::Endpoint(e) if e.name == "a" && e.behind.mtu);
    assert!(
        step.change.put.iter().any(stays),
        "it is stored with the change"
    );
    let told = lines(&step);
    assert!(
        told.iter().all(|(_, object)| *object != "endpoint a"),
        "{told:?}"
    );
    // A gateway that comes, one that cannot be reached because the network is internal.
    for (internal, wanted) in [(false, (true, false)), (true, (false, false))] {
        let mut none = manifest(
            vec![network("web", &["10.1.0.0/24"], None)],
            vec![endpoint("a", "web", None)],
        );
        none.networks[0].no_gateway = true;
        none.networks[0].internal = internal;
        none.endpoints[0].ips = vec!["10.1.0.9".parse().unwrap()];
        let d = after(&empty(), &none, &mut node);
        none.networks[0].no_gateway = false;
        assert_eq!(behind(&after(&d, &none, &mut node)), [wanted]);
    }
}

#[test]
fn a_port_that_changes_hands_goes_with_its_new_place() {
    let mut node = Node::default();
    let d = after(&empty(), &shop(), &mut node);
    let mut file = shop();
    let spec = file.endpoints[0].publish.remove(0);
    file.endpoints[1].publish.push(spec);
    let step = ask(&d, &file, &mut node).unwrap();
    assert_eq!(lines(&step), [(Action::Remake, "publish 8080/tcp")]);
    let field = &step.lines[0].fields[0];
    assert_eq!(
        (
            field.field.as_str(),
            field.old.as_deref(),
            field.new.as_deref()
        ),
        ("endpoint", Some("a"), Some("b"))
    );
}

#[test]
fn ports_on_configured_addresses_stay_as_they_are() {
    let mut node = Node {
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        ..Node::default()
    };
    let d = after(&empty(), &shop(), &mut node);
    assert_eq!(d.publishes.len(), 4);
    assert_eq!(
        ask(&d, &shop(), &mut node).unwrap().change,
        Change::default()
    );
}

#[test]
fn every_option_of_a_network_is_exported() {
    let asked = NetworkCreate {
        name: "web".into(),
        subnets: vec!["10.1.0.0/24".parse().unwrap(), "fd01::/64".parse().unwrap()],
        gateways: Some(vec![
            "10.1.0.9".parse().unwrap(),
            "fd01::9".parse().unwrap(),
        ]),
        ip_range: Some("10.1.0.128/25".parse().unwrap()),
        masquerade_profile: Some(netd_api::Profile::Strict),
        filtering: Some(netd_api::Filtering::EndpointIndependent),
        masquerade_ports: Some("20000-30000".parse().unwrap()),
        no_isolation: true,
        any_ethertype: true,
        mtu: Some(1400),
        aging_s: Some(7),
        storm: Some(8),
        labels: [("a".into(), "b".into())].into(),
        ..NetworkCreate::default()
    };
    // These three exclude others; there is one kind; the owner is the file.
    let apart = ["internal", "no_masquerade", "no_gateway", "kind", "owner"];
    let json = |n: &NetworkCreate| serde_json::to_value(n).unwrap();
    let (given, default) = (json(&asked), json(&NetworkCreate::default()));
    for (key, value) in given.as_object().unwrap() {
        let tested = apart.contains(&key.as_str()) || default[key] != *value;
        assert!(tested, "{key} is a new option: give it here, too");
    }
    let d = after(
        &empty(),
        &manifest(vec![asked.clone()], vec![]),
        &mut Node::default(),
    );
    assert_eq!(export(&d, None).networks, [asked]);
    for set in [
        |n: &mut NetworkCreate| n.internal = true,
        |n: &mut NetworkCreate| n.no_masquerade = true,
        |n: &mut NetworkCreate| n.no_gateway = true,
    ] {
        let mut asked = network("web", &["10.1.0.0/24"], None);
        set(&mut asked);
        let d = after(
            &empty(),
            &manifest(vec![asked.clone()], vec![]),
            &mut Node::default(),
        );
        let out = &export(&d, None).networks[0];
        let parts = |n: &NetworkCreate| (n.internal, n.no_masquerade, n.no_gateway);
        assert_eq!(parts(out), parts(&asked));
    }
}
