//! What is different between two states, for people.

use std::collections::BTreeMap;

use netd_api::{Action, FieldChange, PlanLine, object};
use serde::Serialize;
use serde_json::Value;

use crate::model::name::ShowMac;
use crate::model::{Desired, Endpoint, Floating, Network, Publish};

/// Fields of records that are the daemon's own affair.
const INTERNAL: [&str; 7] = [
    "number",
    "id",
    "gateway_mac",
    "netns",
    "made",
    "behind",
    "endpoint",
];

/// The fields in which two records of a kind differ; the names are the record's own, so that a new
/// option needs nothing here.
pub(super) fn differences<T: Serialize>(old: &T, new: &T) -> Vec<FieldChange> {
    compare(&fields(old), &fields(new))
}

fn fields<T: Serialize>(record: &T) -> BTreeMap<String, String> {
    let Ok(Value::Object(map)) = serde_json::to_value(record) else {
        // Records are structures: they always are objects.
        return BTreeMap::new();
    };
    map.into_iter()
        .filter(|(name, _)| !INTERNAL.contains(&name.as_str()))
        .map(|(name, value)| (name, text(&value)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let given = map.iter().map(|(k, v)| (k, text(v)));
            let given = given.filter(|(_, v)| !v.is_empty());
            let pairs = given.map(|(k, v)| format!("{k}={v}"));
            pairs.collect::<Vec<_>>().join(", ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn compare(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<FieldChange> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| {
        let (old, new) = (old.get(name).cloned(), new.get(name).cloned());
        let field = name.clone();
        (old != new).then_some(FieldChange { field, old, new })
    };
    names.into_iter().filter_map(change).collect()
}

fn endpoint_fields(desired: &Desired, endpoint: &Endpoint) -> BTreeMap<String, String> {
    let mut all = fields(endpoint);
    let network = desired.networks.get(&endpoint.network);
    let name = network.map_or_else(String::new, |n| n.name.clone());
    all.insert("network".into(), name);
    all.insert("mac".into(), ShowMac(endpoint.mac).to_string());
    all
}

fn publish_fields(desired: &Desired, publish: &Publish) -> BTreeMap<String, String> {
    let endpoint = desired.endpoints.get(&publish.endpoint);
    let spec = &publish.spec;
    let mut all = BTreeMap::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            all.insert(name.to_owned(), value);
        }
    };
    add(
        "endpoint",
        endpoint.map_or_else(String::new, |e| e.name.clone()),
    );
    add("spec", spec.to_string());
    let from: Vec<String> = spec.from.iter().map(ToString::to_string).collect();
    add("from", from.join(", "));
    add("owner", publish.owner.clone());
    all
}

/// An object in one of the two states: its fields, and its number there.
struct Side {
    number: u32,
    fields: BTreeMap<String, String>,
}

type Objects = BTreeMap<String, Side>;

fn networks(desired: &Desired) -> Objects {
    let side = |n: &Network| Side {
        number: n.number,
        fields: fields(n),
    };
    let all = desired.networks.values();
    all.map(|n| (object::network(&n.name), side(n))).collect()
}

fn endpoints(desired: &Desired) -> Objects {
    let side = |e: &Endpoint| Side {
        number: e.number,
        fields: endpoint_fields(desired, e),
    };
    let all = desired.endpoints.values();
    all.map(|e| (object::endpoint(&e.name), side(e))).collect()
}

fn publishes(desired: &Desired) -> Objects {
    let side = |p: &Publish| Side {
        number: p.number,
        fields: publish_fields(desired, p),
    };
    let all = desired.publishes.values();
    all.map(|p| (object::publish(&p.spec), side(p))).collect()
}

fn floating(desired: &Desired) -> Objects {
    let side = |f: &Floating| {
        let endpoint = desired.endpoints.get(&f.endpoint);
        let name = endpoint.map_or_else(String::new, |e| e.name.clone());
        let mut fields = fields(f);
        fields.insert("endpoint".into(), name);
        Side {
            number: f.number,
            fields,
        }
    };
    let all = desired.floating.values();
    all.map(|f| (object::floating(f.address), side(f)))
        .collect()
}

/// All lines: what goes outside in, what changes, what comes inside out.
pub(super) fn lines(
    before: &Desired,
    after: &Desired,
    endpoints_anew: &BTreeMap<u32, String>,
    networks_anew: &BTreeMap<u32, String>,
) -> Vec<PlanLine> {
    let none = BTreeMap::new();
    let kinds = [
        (networks(before), networks(after), networks_anew),
        (endpoints(before), endpoints(after), endpoints_anew),
        (publishes(before), publishes(after), &none),
        (floating(before), floating(after), &none),
    ];
    let mut gone = Vec::new();
    let mut changed = Vec::new();
    let mut new = Vec::new();
    for (old, new_side, anew) in &kinds {
        let mut removed: Vec<PlanLine> = old
            .iter()
            .filter(|(name, _)| !new_side.contains_key(*name))
            .map(|(name, side)| line(Action::Remove, name, compare(&side.fields, &none_fields())))
            .collect();
        removed.append(&mut gone);
        gone = removed;
        for (name, side) in new_side {
            let Some(was) = old.get(name) else {
                let fields = compare(&none_fields(), &side.fields);
                new.push(line(Action::Create, name, fields));
                continue;
            };
            let fields = compare(&was.fields, &side.fields);
            if was.number != side.number {
                let mut line = line(Action::Remake, name, fields);
                line.why = anew.get(&was.number).cloned();
                changed.push(line);
            } else if !fields.is_empty() {
                changed.push(line(Action::Change, name, fields));
            }
        }
    }
    gone.append(&mut changed);
    gone.append(&mut new);
    gone
}

const fn none_fields() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn line(action: Action, object: &str, fields: Vec<FieldChange>) -> PlanLine {
    PlanLine {
        action,
        object: object.into(),
        fields,
        why: None,
    }
}
