//! A change in words: what it made, changed and removed, object by object.

use std::collections::{BTreeMap, BTreeSet};

use netd_api::{EventKind, Owner, PublishSpec, object};
use serde_json::Value;

use super::{Change, Desired, Key, Object};

/// Fields of records that are the daemon's own notes: no change of the object.
const NOTES: [&str; 2] = ["made", "behind"];

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What.
    pub kind: EventKind,
    /// Its name, as plans call it.
    pub object: String,
    /// Who it belongs to.
    pub owner: Owner,
    /// In words.
    pub text: String,
}

/// What a change did. `after`: the state with it; `back`: what takes it back, which has everything as it was.
pub fn told(after: &Desired, change: &Change, back: &Change) -> Vec<Told> {
    let before: BTreeMap<Key, &Object> = back.put.iter().map(|o| (o.key(), o)).collect();
    let names = Names {
        after,
        before: &before,
    };
    let removed = change.remove.iter().filter_map(|k| before.get(k).copied());
    let removed: Vec<&Object> = removed.collect();
    let made = |o: &&Object| !before.contains_key(&o.key());
    let made: BTreeMap<String, &Object> = change
        .put
        .iter()
        .filter(made)
        .map(|o| (name(o), o))
        .collect();
    let gone: BTreeSet<String> = removed.iter().map(|o| name(o)).collect();
    let mut all = Vec::new();
    for old in &removed {
        if !made.contains_key(&name(old)) {
            all.push(names.told(EventKind::Removed, old, ""));
        }
    }
    for new in &change.put {
        if let Some(old) = before.get(&new.key()) {
            let different = different(old, new);
            if !different.is_empty() {
                all.push(names.told(EventKind::Changed, new, &format!(": {different}")));
            }
        } else if gone.contains(&name(new)) {
            all.push(names.told(EventKind::Remade, new, &names.details(new)));
        } else {
            all.push(names.told(EventKind::Created, new, &names.details(new)));
        }
    }
    all
}

fn name(object: &Object) -> String {
    match object {
        Object::Network(n) => object::network(&n.name),
        Object::Endpoint(e) => object::endpoint(&e.name),
        Object::Publish(p) => object::publish(&p.spec),
        Object::Floating(f) => object::floating(f.address),
    }
}

fn owner(object: &Object) -> &Owner {
    match object {
        Object::Network(n) => &n.owner,
        Object::Endpoint(e) => &e.owner,
        Object::Publish(p) => &p.owner,
        Object::Floating(f) => &f.owner,
    }
}

/// Who is called how, before or after.
struct Names<'a> {
    after: &'a Desired,
    before: &'a BTreeMap<Key, &'a Object>,
}

impl Names<'_> {
    fn told(&self, kind: EventKind, object: &Object, more: &str) -> Told {
        let called = match object {
            Object::Publish(p) => format!("publish {}", p.spec),
            Object::Network(_) | Object::Endpoint(_) | Object::Floating(_) => name(object),
        };
        let owner = owner(object).clone();
        let owned = if owner == "cli" {
            String::new()
        } else {
            format!(", owned by {owner}")
        };
        let kind_name = match kind {
            EventKind::Remade => "made anew",
            other => other.name(),
        };
        let of = self.of(object);
        Told {
            kind,
            object: name(object),
            owner,
            text: format!("{called}{of} {kind_name}{more}{owned}"),
        }
    }

    fn of(&self, object: &Object) -> String {
        let endpoint = |n: u32| format!(" of endpoint {}", self.endpoint(n));
        match object {
            Object::Network(_) => String::new(),
            Object::Endpoint(e) => format!(" ({})", e.id),
            Object::Publish(p) => endpoint(p.endpoint),
            Object::Floating(f) => endpoint(f.endpoint),
        }
    }

    fn endpoint(&self, number: u32) -> String {
        let now = self.after.endpoints.get(&number).map(|e| e.name.clone());
        let once = || match self.before.get(&Key::Endpoint(number)) {
            Some(Object::Endpoint(e)) => Some(e.name.clone()),
            _ => None,
        };
        now.or_else(once).unwrap_or_else(|| "?".into())
    }

    fn network(&self, number: u32) -> String {
        let network = self.after.networks.get(&number);
        network.map_or_else(|| "?".into(), |n| n.name.clone())
    }

    /// What a new object is like.
    fn details(&self, object: &Object) -> String {
        match object {
            Object::Network(n) => format!(": {}", spaced(&n.subnets)),
            Object::Endpoint(e) => format!(
                ": {} in {} on network {}, {}",
                e.ifname,
                e.target,
                self.network(e.network),
                spaced(&e.addresses)
            ),
            Object::Publish(p) => from(&p.spec),
            Object::Floating(_) => String::new(),
        }
    }
}

fn spaced<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

fn from(spec: &PublishSpec) -> String {
    if spec.from.is_empty() {
        String::new()
    } else {
        format!(" for {}", spaced(&spec.from))
    }
}

/// The fields of a record that are not the same: `mtu 1500 -> 1400, storm 0 -> 10`.
fn different(old: &Object, new: &Object) -> String {
    let (Value::Object(old), Value::Object(new)) = (record(old), record(new)) else {
        return String::new();
    };
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let all = keys.into_iter().filter(|k| !NOTES.contains(&k.as_str()));
    let differ = all.filter(|k| old.get(*k) != new.get(*k));
    let show = |v: Option<&Value>| match v {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    };
    let said = differ.map(|k| format!("{k} {} -> {}", show(old.get(k)), show(new.get(k))));
    said.collect::<Vec<_>>().join(", ")
}

/// A record as the store has it.
fn record(object: &Object) -> Value {
    let value = match object {
        Object::Network(n) => serde_json::to_value(n),
        Object::Endpoint(e) => serde_json::to_value(e),
        Object::Publish(p) => serde_json::to_value(p),
        Object::Floating(f) => serde_json::to_value(f),
    };
    // Records are stored as JSON, so they have one.
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Publish;
    use crate::model::desired::tests::{empty, endpoint, network};

    fn shown(after: &mut Desired, change: &Change) -> Vec<(EventKind, String, String)> {
        let back = after.apply(change);
        let all = told(after, change, &back);
        all.into_iter()
            .map(|t| (t.kind, t.object, t.text))
            .collect()
    }

    #[test]
    fn each_object_of_a_change_is_told_once_with_what_became_of_it() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24"]);
        let a = endpoint(&mut d, "a", web, &["10.0.0.2/24"]);
        let id = d.endpoints[&a].id.clone();
        let publish = Publish {
            number: 77,
            endpoint: a,
            spec: "8080:80".parse().unwrap(),
            owner: "file:web".into(),
        };
        let put = Change {
            put: vec![Object::Publish(publish.clone())],
            remove: vec![],
        };
        let text = "publish 8080:80/tcp of endpoint a created, owned by file:web";
        assert_eq!(
            shown(&mut d, &put),
            [(EventKind::Created, "publish 8080/tcp".into(), text.into())]
        );

        // A network that changes, and notes about an endpoint.
        let mut other = d.networks[&web].clone();
        other.mtu = 1400;
        let mut noted = d.endpoints[&a].clone();
        noted.made = !noted.made;
        noted.behind.mtu = true;
        let change = Change {
            put: vec![Object::Network(other), Object::Endpoint(noted)],
            remove: vec![],
        };
        let all = shown(&mut d, &change);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].0, EventKind::Changed);
        assert!(all[0].2.contains("mtu 1500 -> 1400"), "{all:?}");

        // An endpoint made anew keeps its name, its publish goes with it.
        let mut anew = d.endpoints[&a].clone();
        anew.number = 99;
        let change = Change {
            put: vec![Object::Endpoint(anew)],
            remove: vec![Key::Publish(77), Key::Endpoint(a)],
        };
        let all = shown(&mut d, &change);
        let kinds: Vec<_> = all.iter().map(|t| (t.0, t.1.as_str())).collect();
        assert_eq!(
            kinds,
            [
                (EventKind::Removed, "publish 8080/tcp"),
                (EventKind::Remade, "endpoint a")
            ]
        );
        assert_eq!(
            all[0].2,
            "publish 8080:80/tcp of endpoint a removed, owned by file:web"
        );
        let is = format!("endpoint a ({id}) made anew: eth0 in ");
        assert!(all[1].2.starts_with(&is), "{all:?}");
        assert!(all[1].2.contains("on network web, 10.0.0.2/24"), "{all:?}");
        assert_eq!(shown(&mut d, &Change::default()), []);
    }
}
