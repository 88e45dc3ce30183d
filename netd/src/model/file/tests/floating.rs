//! Floating addresses of files.

use netd_api::FloatingAdd;

use super::*;
use crate::model::Floating;

/// The shop, with floating addresses of its endpoints.
fn floating_shop(all: &[(&str, &str)]) -> Manifest {
    let floating = all.iter().map(|(endpoint, address)| FloatingAdd {
        endpoint: (*endpoint).into(),
        address: address.parse().unwrap(),
        owner: None,
    });
    Manifest {
        floating: floating.collect(),
        ..shop()
    }
}

#[test]
fn a_file_gives_moves_and_takes_floating_addresses() {
    let mut node = Node::default();
    let file = floating_shop(&[("a", "192.0.2.9"), ("a", "192.0.2.8"), ("b", "2001:db8::9")]);
    let d = after(&empty(), &file, &mut node);
    assert_eq!(essence(&d, &file).floating, file.floating, "in their order");
    assert_eq!(ask(&d, &file, &mut node).unwrap().lines, []);

    // One changes hands: its flows end, and nothing else is done.
    let moved = floating_shop(&[("b", "192.0.2.9"), ("a", "192.0.2.8"), ("b", "2001:db8::9")]);
    let step = ask(&d, &moved, &mut node).unwrap();
    assert_eq!(lines(&step), [(Action::Change, "floating 192.0.2.9")]);
    let ended = crate::plan::Ended::of(&step.change, &d);
    let nine = "192.0.2.9".parse().unwrap();
    assert_eq!(ended.floating, BTreeSet::from([nine]));
    assert!(ended.endpoints.is_empty());

    // What leaves the file is told, and goes only when asked to.
    let mut less = floating_shop(&[("a", "192.0.2.8")]);
    less.prune = false;
    let step = ask(&d, &less, &mut node).unwrap();
    assert_eq!(lines(&step), []);
    assert_eq!(step.left, ["floating 192.0.2.9", "floating 2001:db8::9"]);
    less.prune = true;
    let step = ask(&d, &less, &mut node).unwrap();
    assert_eq!(essence(&step.after, &less).floating, less.floating);
    let ended = crate::plan::Ended::of(&step.change, &d);
    assert!(ended.floating.contains(&nine), "{ended:?}");
}

#[test]
fn a_floating_address_that_cannot_be_is_refused_by_its_name() {
    let mut node = Node::default();
    let shop = after(&empty(), &shop(), &mut node);
    for (all, object, why) in [
        (&[("c", "192.0.2.9")][..], "floating 192.0.2.9", "c"),
        (
            &[("a", "192.0.2.2")],
            "floating 192.0.2.2",
            "address of the node",
        ),
        (&[("a", "10.1.0.9")], "floating 10.1.0.9", "subnet"),
        (
            &[("a", "192.0.2.9"), ("b", "192.0.2.9")],
            "floating 192.0.2.9",
            "asked for twice",
        ),
    ] {
        let refused = ask(&shop, &floating_shop(all), &mut node).unwrap_err();
        assert_eq!(refused.problems.len(), 1, "{:?}", refused.problems);
        assert_eq!(refused.problems[0].object, object);
        let error = &refused.problems[0].error;
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn floating_addresses_of_others_are_left_alone_or_taken_over() {
    let mut node = Node::default();
    let mut d = after(&empty(), &floating_shop(&[("a", "192.0.2.9")]), &mut node);
    for f in d.floating.values_mut() {
        f.owner = "cli".into();
    }
    let without = ask(&d, &shop(), &mut node).unwrap();
    assert!(without.lines.is_empty() && without.left.is_empty());
    let same = floating_shop(&[("a", "192.0.2.9")]);
    assert_eq!(ask(&d, &same, &mut node).unwrap().lines, []);
    let mut other = floating_shop(&[("b", "192.0.2.9")]);
    let refused = ask(&d, &other, &mut node).unwrap_err();
    assert!(refused.problems[0].error.contains("belongs to cli"));
    other.force = true;
    let taken = after(&d, &other, &mut node);
    assert_eq!(essence(&taken, &other).floating, other.floating);
}

#[test]
fn floating_addresses_go_with_their_endpoint_and_come_again_with_it() {
    let mut node = Node::default();
    let mut d = after(&empty(), &shop(), &mut node);
    let a = d.endpoint("a", None).unwrap().number;
    let mut float = |address: &str| {
        let number = d.take_number();
        d.apply(&Change {
            put: vec![Object::Floating(Floating {
                number,
                endpoint: a,
                address: address.parse().unwrap(),
                owner: "cli".into(),
            })],
            remove: vec![],
        });
        number
    };
    let (v4, v6) = (float("192.0.2.9"), float("2001:db8::9"));
    assert_eq!(ask(&d, &shop(), &mut node).unwrap().lines, []);

    node.gone.insert("a".into());
    let step = ask(&d, &shop(), &mut node).unwrap();
    for n in [v4, v6] {
        assert!(step.first.remove.contains(&Key::Floating(n)));
        let now = step.after.endpoint("a", None).unwrap().number;
        assert_ne!(now, a);
        assert_eq!(step.after.floating[&n].endpoint, now);
        let put = |o: &Object| matches!(o, Object::Floating(f) if f.number == n);
        assert!(step.change.put.iter().any(put), "it is stored anew");
    }

    // Without an address of the family it cannot.
    let mut moved = shop();
    moved.networks[0] = network("web", &["10.7.0.0/24"], None);
    let refused = ask(&d, &moved, &mut node).unwrap_err();
    assert_eq!(refused.problems.len(), 1, "{:?}", refused.problems);
    assert_eq!(refused.problems[0].object, "floating 2001:db8::9");

    node.gone.clear();
    let mut less = shop();
    less.endpoints.remove(0);
    let step = ask(&d, &less, &mut node).unwrap();
    assert!(step.after.floating.is_empty());
    let told = lines(&step);
    for name in ["floating 192.0.2.9", "floating 2001:db8::9"] {
        assert!(told.contains(&(Action::Remove, name)), "{told:?}");
    }
    assert!(step.change.remove.contains(&Key::Floating(v4)));
}
