//! From rows that are there and rows that are wanted to steps, in an order that never points a
//! packet at something that is not there: what goes, goes outside in; what comes, comes inside out.

use std::collections::{BTreeMap, BTreeSet};

use netd_common::maps::Publish;

use super::rows::Rows;
use super::{Actual, Ended, FromId, PublishId, Scope, Step, in_scope};

/// Rows of one map that are to be removed.
fn gone<K: Ord + Copy, V>(
    have: &BTreeMap<K, V>,
    want: &BTreeMap<K, V>,
    mine: impl Fn(&V) -> bool,
) -> Vec<K> {
    let rows = have
        .iter()
        .filter(|(k, v)| mine(v) && !want.contains_key(k));
    rows.map(|(k, _)| *k).collect()
}

/// Rows of one map that are new or differ.
fn changed<K: Ord + Copy, V: PartialEq + Clone>(
    have: &BTreeMap<K, V>,
    want: &BTreeMap<K, V>,
) -> Vec<(K, V)> {
    let rows = want.iter().filter(|(k, v)| have.get(k) != Some(v));
    rows.map(|(k, v)| (*k, v.clone())).collect()
}

/// Rows of `PUBLISH` in a scope.
fn published(actual: &Actual, scope: Scope) -> impl Iterator<Item = (&PublishId, &Publish)> {
    let (first, last) = match scope {
        Scope::All | Scope::Network(_) => (0, u32::MAX),
        Scope::Endpoint { endpoint, .. } => (endpoint, endpoint),
    };
    let all = (first, [0; 16], 0, 0)..=(last, [u8::MAX; 16], u16::MAX, u8::MAX);
    actual
        .published
        .range(all)
        .filter(move |(_, v)| in_scope(scope, v.network))
}

/// Rows of `FROM` that are to be removed.
fn sources_gone(actual: &Actual, want: &Rows, scope: Scope) -> Vec<FromId> {
    let unwanted = gone(&actual.from, &want.from, |network| {
        in_scope(scope, *network)
    });
    match scope {
        Scope::Endpoint { .. } if !unwanted.is_empty() => {
            let mine: BTreeSet<u32> = published(actual, scope).map(|(_, v)| v.number).collect();
            unwanted
                .into_iter()
                .filter(|k| mine.contains(&k.0))
                .collect()
        }
        Scope::All | Scope::Network(_) | Scope::Endpoint { .. } => unwanted,
    }
}

/// Appends the steps that turn the rows of `scope` into `want`.
pub fn rows(actual: &Actual, want: &Rows, scope: Scope, steps: &mut Vec<Step>) {
    let mine = |network: u32| in_scope(scope, network);
    // All that goes before anything that comes: a port may pass from one endpoint to another.
    let published = published(actual, scope).filter(|(k, _)| !want.published.contains_key(k));
    steps.extend(published.map(|(k, _)| Step::Publish(*k, None)));
    steps.extend(
        sources_gone(actual, want, scope)
            .into_iter()
            .map(|k| Step::From(k, None)),
    );
    // A group before its address's row and after it: which groups are netd's, the rows tell after a crash.
    let groups = gone(&actual.groups, &want.groups, |network| mine(*network));
    steps.extend(groups.into_iter().map(|k| Step::Group(k, None)));
    let floats = gone(&actual.floats, &want.floats, |v| mine(v.network));
    steps.extend(floats.into_iter().map(|k| Step::Float(k, None)));
    let hosts = gone(&actual.hosts, &want.hosts, |v| mine(v.network));
    steps.extend(hosts.into_iter().map(|k| Step::Host(k, None)));
    for key in actual
        .fdb
        .keys()
        .filter(|k| mine(k.0) && !want.fdb.contains_key(k))
    {
        steps.push(Step::Fdb(*key, None));
    }
    segments_and_ports(actual, want, scope, steps);
    // Behind the rows: no flow of theirs begins any more.
    let ended = ended(actual, want, scope);
    if !ended.is_empty() {
        steps.push(Step::EndFlows(ended));
    }
    let fdb = changed(&actual.fdb, &want.fdb);
    steps.extend(fdb.into_iter().map(|(k, v)| Step::Fdb(k, Some(v))));
    let hosts = changed(&actual.hosts, &want.hosts);
    steps.extend(hosts.into_iter().map(|(k, v)| Step::Host(k, Some(v))));
    let floats = changed(&actual.floats, &want.floats);
    steps.extend(floats.into_iter().map(|(k, v)| Step::Float(k, Some(v))));
    let groups = changed(&actual.groups, &want.groups);
    steps.extend(groups.into_iter().map(|(k, v)| Step::Group(k, Some(v))));
    let from = changed(&actual.from, &want.from);
    steps.extend(from.into_iter().map(|(k, v)| Step::From(k, Some(v))));
    let published = changed(&actual.published, &want.published);
    steps.extend(
        published
            .into_iter()
            .map(|(k, v)| Step::Publish(k, Some(v))),
    );
}

fn segments_and_ports(actual: &Actual, want: &Rows, scope: Scope, steps: &mut Vec<Step>) {
    let ports = gone(&actual.ports, &want.ports, |v| in_scope(scope, v.network));
    steps.extend(ports.into_iter().map(|k| Step::Port(k, None)));
    steps.extend(slots(actual, want, scope));
    let ports = changed(&actual.ports, &want.ports);
    steps.extend(ports.into_iter().map(|(k, v)| Step::Port(k, Some(v))));
}

/// A flood goes through the slots until one is missing. So new ones come from below, those too many go from
/// above, and between that the others move towards where there is room: a switch port that stays is in some
/// slot at any moment.
fn slots(actual: &Actual, want: &Rows, scope: Scope) -> Vec<Step> {
    let (have, want) = (&actual.segments, &want.segments);
    let mut gone: Vec<(u32, u32)> = have.keys().copied().collect();
    gone.retain(|slot| in_scope(scope, slot.0) && !want.contains_key(slot));
    let changed = changed(have, want).into_iter();
    let (mut moved, mut steps) = (Vec::new(), Vec::new());
    for (slot, target) in changed {
        let step = Step::Slot(slot, Some(target));
        if have.contains_key(&slot) {
            moved.push(step);
        } else {
            steps.push(step);
        }
    }
    if !steps.is_empty() {
        moved.reverse();
    }
    steps.append(&mut moved);
    steps.extend(gone.into_iter().rev().map(|slot| Step::Slot(slot, None)));
    steps
}

/// Endpoints and publishes of `scope` that had rows and have none any more. What could not be ended before
/// belongs to everything: a change of one object is not to fail by that of another.
fn ended(actual: &Actual, want: &Rows, scope: Scope) -> Ended {
    fn missing(have: impl Iterator<Item = u32>, want: impl Iterator<Item = u32>) -> BTreeSet<u32> {
        let want: BTreeSet<u32> = want.collect();
        have.filter(|n| !want.contains(n)).collect()
    }
    let ports = actual.ports.values();
    // Number 0 is a gateway: it has no flows of its own.
    let endpoints = ports
        .filter(|p| in_scope(scope, p.network) && p.endpoint != 0)
        .map(|p| p.endpoint);
    let publishes = published(actual, scope).map(|(_, p)| p.number);
    let floats = actual.floats.iter();
    let lost = floats.filter(|(ip, v)| {
        let now = want.floats.get(*ip).map(|w| w.endpoint);
        in_scope(scope, v.network) && now != Some(v.endpoint)
    });
    let mut ended = Ended {
        floating: lost.map(|(ip, _)| *ip).collect(),
        endpoints: missing(endpoints, want.ports.values().map(|p| p.endpoint)),
        publishes: missing(publishes, want.published.values().map(|p| p.number)),
    };
    if scope == Scope::All {
        ended.extend(actual.ending.clone());
    }
    ended
}
