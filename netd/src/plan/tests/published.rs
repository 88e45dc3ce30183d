//! Published ports.

use super::*;

#[test]
fn who_may_come_is_known_before_a_port_is_open_and_until_it_is_closed() {
    let (mut a, mut next) = (Actual::default(), 1);
    let mut d = empty();
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24", "fd00::2/64"]);
    let open = publish(&mut d, one, "80:80");
    let closed = publish(&mut d, one, "8000-8009:80-89");
    let from = ["192.0.2.7/24", "2001:db8::/32"].map(|n| n.parse().unwrap());
    d.publishes.get_mut(&closed).unwrap().spec.from = from.to_vec();
    settle(&d, &mut a, &mut next, Scope::All);
    let keys: Vec<FromId> = a.from.keys().copied().collect();
    assert_eq!(keys, from.map(|n: IpNet| (closed, n.trunc())));
    let limited = a.published.values().filter(|p| p.limited == 1);
    assert_eq!(limited.count(), 20);
    assert!(
        a.published
            .values()
            .all(|p| (p.number == open) == (p.limited == 0))
    );
    let remove = vec![Key::Publish(closed)];
    d.apply(&Change {
        put: vec![],
        remove,
    });
    settle(&d, &mut a, &mut next, Scope::All);
    assert!(a.from.is_empty() && a.published.len() == 2);
}

#[test]
fn what_happens_to_one_endpoint_is_no_news_to_the_publishes_of_others() {
    let (mut a, mut next) = (Actual::default(), 1);
    let mut d = empty();
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let many = fresh_endpoint(&mut d, "many", web, &["10.0.0.2/24", "fd00::2/64"]);
    let range = publish(&mut d, many, "10000-19999:10000-19999");
    d.publishes.get_mut(&range).unwrap().spec.from = vec!["192.0.2.0/24".parse().unwrap()];
    settle(&d, &mut a, &mut next, Scope::All);
    assert_eq!(a.published.len(), 20_000);
    // An attach with a port of its own, whose plans hold nothing of the range.
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.3/24"]);
    publish(&mut d, one, "80:80");
    let scope = Scope::Endpoint {
        network: web,
        endpoint: one,
    };
    let rows = |steps: &[Step]| {
        let row = |s: &&Step| matches!(s, Step::Publish(..) | Step::From(..));
        steps.iter().filter(row).count()
    };
    for _ in 0..2 {
        let steps = plan(&d, &a, scope);
        assert!(rows(&steps) <= 1, "{}", rows(&steps));
        for step in &steps {
            perform(&mut a, &mut next, step);
        }
    }
    assert_eq!(a.published.len(), 20_001);
    assert!(plan(&d, &a, Scope::All).is_empty(), "nothing was left out");
    // A detach takes its own port alone.
    let mut remove: Vec<Key> = d
        .publishes_of(one)
        .map(|p| Key::Publish(p.number))
        .collect();
    remove.push(Key::Endpoint(one));
    d.apply(&Change {
        put: vec![],
        remove,
    });
    assert_eq!(rows(&plan(&d, &a, scope)), 1);
    settle(&d, &mut a, &mut next, scope);
    assert_eq!((a.published.len(), a.from.len()), (20_000, 1));
    assert!(plan(&d, &a, Scope::All).is_empty());
}

#[test]
fn a_port_that_changes_hands_is_taken_before_it_is_given() {
    let (mut a, mut next) = (Actual::default(), 1);
    let mut d = empty();
    let web = network(&mut d, "web", &["10.0.0.0/24"]);
    let two =
        [2, 3].map(|i| fresh_endpoint(&mut d, &format!("e{i}"), web, &[&format!("10.0.0.{i}/24")]));
    let mut number = publish(&mut d, two[1], "80:80");
    settle(&d, &mut a, &mut next, Scope::All);
    for to in two {
        let remove = vec![Key::Publish(number)];
        d.apply(&Change {
            put: vec![],
            remove,
        });
        number = publish(&mut d, to, "80:80");
        let steps = plan(&d, &a, Scope::All);
        let of = |some| {
            let found = |s: &Step| matches!(s, Step::Publish(_, v) if v.is_some() == some);
            steps.iter().position(found)
        };
        assert!(of(false).unwrap() < of(true).unwrap(), "{steps:?}");
        settle(&d, &mut a, &mut next, Scope::All);
        assert_eq!(
            a.published.values().map(|p| p.endpoint).collect::<Vec<_>>(),
            [to]
        );
    }
}

#[test]
fn taking_a_publish_back_ends_its_flows_and_no_other() {
    let (mut d, mut a, mut next) = (empty(), Actual::default(), 10);
    let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
    let db = network(&mut d, "db", &["10.0.1.0/24"]);
    let one = fresh_endpoint(&mut d, "one", web, &["10.0.0.2/24", "fd00::2/64"]);
    let two = fresh_endpoint(&mut d, "two", db, &["10.0.1.2/24"]);
    let range = publish(&mut d, one, "8000-8009:80-89");
    let same_port = publish(&mut d, one, "9000:80");
    publish(&mut d, two, "9001:80");
    settle(&d, &mut a, &mut next, Scope::All);
    let ended = |steps: &[Step]| -> Vec<Ended> {
        let of = |step: &Step| match step {
            Step::EndFlows(ended) => Some(ended.clone()),
            _ => None,
        };
        steps.iter().filter_map(of).collect()
    };
    let remove = vec![Key::Publish(range)];
    d.apply(&Change {
        put: vec![],
        remove,
    });
    let publishes = BTreeSet::from([range]);
    let wanted = Ended {
        publishes,
        ..Ended::default()
    };
    let steps = plan(&d, &a, Scope::Network(web));
    assert_eq!(ended(&steps), [wanted]);
    let rows = |s: &Step| matches!(s, Step::Publish(_, None));
    let last_row = steps.iter().rposition(rows);
    let flows = steps.iter().position(|s| matches!(s, Step::EndFlows(_)));
    assert!(last_row < flows, "no new flow begins behind it: {steps:?}");
    settle(&d, &mut a, &mut next, Scope::Network(web));
    // The same ports again are another publish: the rows change hands, and the old one's flows end.
    d.apply(&Change {
        put: vec![],
        remove: vec![Key::Publish(same_port)],
    });
    publish(&mut d, one, "9000:80");
    let steps = plan(&d, &a, Scope::Network(web));
    let publishes = BTreeSet::from([same_port]);
    let wanted = Ended {
        publishes,
        ..Ended::default()
    };
    assert_eq!(ended(&steps), [wanted]);
}
