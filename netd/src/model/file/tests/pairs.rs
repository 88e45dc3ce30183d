//! All pairs of small files, and random larger ones.

use netd_api::FloatingAdd;
use proptest::prelude::*;

use super::*;

/// Every file with up to two networks, two endpoints and one published port.
fn all_files() -> Vec<Manifest> {
    let webs = [
        None,
        Some(network("web", &["10.1.0.0/24", "fd01::/64"], None)),
        Some(network("web", &["10.1.0.0/24", "fd01::/64"], Some(0))),
        Some(network("web", &["10.2.0.0/24", "fd02::/64"], None)),
    ];
    let dbs = [None, Some(network("db", &["10.3.0.0/24"], None))];
    let macs = [None, Some("02:00:00:00:00:77")];
    let mut files = Vec::new();
    for web in &webs {
        for db in &dbs {
            let networks: Vec<NetworkCreate> = web.iter().chain(db).cloned().collect();
            let names: Vec<&str> = networks.iter().map(|n| n.name.as_str()).collect();
            let mut first = vec![None];
            let mut second = vec![None];
            for on in &names {
                first.extend(macs.map(|mac| Some(endpoint("a", on, mac))));
                second.push(Some(endpoint("b", on, None)));
            }
            for a in &first {
                for b in &second {
                    let endpoints: Vec<Attach> = a.iter().chain(b).cloned().collect();
                    files.push(manifest(networks.clone(), endpoints.clone()));
                    for which in 0..endpoints.len() {
                        let mut with = endpoints.clone();
                        with[which].publish.push("8080:80".parse().unwrap());
                        files.push(manifest(networks.clone(), with));
                    }
                }
            }
        }
    }
    files
}

#[test]
fn from_every_small_file_to_every_other_in_one_smallest_step_and_back() {
    let files = all_files();
    assert!(files.len() > 80, "{}", files.len());
    let fresh: Vec<Desired> = files
        .iter()
        .map(|f| after(&empty(), f, &mut Node::default()))
        .collect();
    for (from, before) in files.iter().zip(&fresh) {
        for (to, wanted) in files.iter().zip(&fresh) {
            let mut node = Node {
                next: 1_000,
                ..Node::default()
            };
            let step = ask(before, to, &mut node).unwrap();
            assert_eq!(
                essence(&step.after, to),
                essence(wanted, to),
                "{from:?} -> {to:?}"
            );
            assert_eq!(step.lines.is_empty(), step.change == Change::default());
            // Carried out it is the state after, taken back it is the one before.
            let mut state = before.clone();
            let back = state.apply(&step.change);
            let objects =
                |d: &Desired| (d.networks.clone(), d.endpoints.clone(), d.publishes.clone());
            assert_eq!(objects(&state), objects(&step.after));
            let again = ask(&step.after, to, &mut node).unwrap();
            assert_eq!(again.change, Change::default(), "a second time: {to:?}");
            assert!(again.lines.is_empty() && again.left.is_empty());
            state.apply(&back);
            assert_eq!(objects(&state), objects(before));
            // What is in both, with the same parts, keeps its record.
            for e in before.endpoints.values() {
                let same = from.networks == to.networks
                    && from.endpoints.iter().any(|r| {
                        r.name.as_ref() == Some(&e.name) && {
                            let bare = |r: &Attach| Attach {
                                publish: vec![],
                                ..r.clone()
                            };
                            to.endpoints.iter().any(|o| bare(o) == bare(r))
                        }
                    });
                assert!(!same || step.after.endpoints.get(&e.number) == Some(e));
            }
        }
    }
}

prop_compose! {
    fn any_network(name: &'static str, second: u8)(
        kind in 0..4u8, internal in any::<bool>(), isolation in any::<bool>(),
        masquerade in any::<bool>(), storm in prop::option::of(0..3u32), mtu in prop::option::of(1400..1402u32),
    ) -> Option<NetworkCreate> {
        let subnet = format!("10.{second}.{}.0/24", kind / 2);
        (kind != 3).then(|| NetworkCreate {
            no_gateway: kind == 2,
            internal, no_isolation: !isolation, no_masquerade: !masquerade, mtu,
            ..network(name, &[&subnet], storm)
        })
    }
}

prop_compose! {
    fn any_endpoint(name: &'static str)(
        on in 0..4usize, ip in prop::option::of(2..5u8), mac in any::<bool>(), any_macs in any::<bool>(),
        ifname in any::<bool>(), port in prop::option::of(80..83u16), spec in 0..3u8,
    ) -> Option<Attach> {
        let network = ["web", "db", "seg"].get(on)?;
        let mut e = endpoint(name, network, mac.then_some("02:00:00:00:00:77"));
        // An address of the subnet the network may have.
        e.ips = ip.map(|ip| format!("10.{}.0.{ip}", on + 1).parse().unwrap()).into_iter().collect();
        e.macs = any_macs.then_some(netd_api::Macs::Any);
        e.ifname = ifname.then(|| "net0".to_owned());
        e.publish = match (spec, port) {
            (0, Some(p)) => vec![format!("{p}:80").parse().unwrap()],
            (1, _) => vec!["0:80".parse().unwrap()],
            _ => vec![],
        };
        Some(e)
    }
}

prop_compose! {
    fn any_file()(
        web in any_network("web", 1), db in any_network("db", 2), seg in any_network("seg", 3),
        a in any_endpoint("a"), b in any_endpoint("b"), c in any_endpoint("c"),
        prune in any::<bool>(), force in any::<bool>(), name in 0..2usize,
        floating in prop::collection::btree_map(8..11u8, 0..3usize, 0..2),
    ) -> Manifest {
        Manifest {
            name: ["f", "g"][name].into(),
            networks: [web, db, seg].into_iter().flatten().collect(),
            endpoints: [a, b, c].into_iter().flatten().collect(),
            publishes: vec![],
            floating: floating
                .into_iter()
                .map(|(host, endpoint)| FloatingAdd {
                    address: [192, 0, 2, host].into(),
                    endpoint: ["a", "b", "c"][endpoint].into(),
                    owner: None,
                })
                .collect(),
            prune,
            force,
        }
    }
}

proptest! {
    #[test]
    fn whatever_files_ask_for(files in prop::collection::vec(any_file(), 1..6)) {
        let mut d = empty();
        let mut node = Node::default();
        for file in files {
            // A refusal changes nothing; the state is a value.
            let Ok(step) = ask(&d, &file, &mut node) else { continue };
            let again = ask(&step.after, &file, &mut node);
            prop_assert_eq!(again.map(|o| o.change), Ok(Change::default()), "{:?}", &file);
            let mine = format!("file:{}", file.name);
            if !file.force {
                for e in d.endpoints.values().filter(|e| e.owner != mine) {
                    // Only the gateways of its network may have changed.
                    let now = step.after.endpoints.get(&e.number);
                    prop_assert_eq!(now.map(|n| (&n.mac, &n.addresses, &n.owner)), Some((&e.mac, &e.addresses, &e.owner)));
                }
                for p in d.publishes.values().filter(|p| p.owner != mine) {
                    let there = step.after.publishes.values().any(|q| q.spec == p.spec && q.owner == p.owner);
                    let stays = step.after.endpoints.contains_key(&p.endpoint);
                    prop_assert!(there || !stays, "{:?}", p);
                }
            }
            let mut state = d.clone();
            let back = state.apply(&step.change);
            prop_assert_eq!(&state.endpoints, &step.after.endpoints);
            state.apply(&back);
            prop_assert_eq!((&state.networks, &state.endpoints, &state.publishes), (&d.networks, &d.endpoints, &d.publishes));
            prop_assert_eq!(&state.floating, &d.floating);
            d = step.after;
            for owner in [None, Some(mine.as_str())] {
                let mut all = export(&d, owner);
                all.name = file.name.clone();
                let same = ask(&d, &all, &mut node);
                prop_assert_eq!(same.map(|o| o.change), Ok(Change::default()), "{:?}", &all);
            }
        }
    }
}
