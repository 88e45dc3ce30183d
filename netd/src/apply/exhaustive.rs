//! Every pair of small states on a simulated node that only does what steps say: the state asked for is
//! reached, then there is nothing to do, and whichever step fails, all before it is taken back.

use std::collections::BTreeSet;

use super::effect::record;
use super::{ApplyError, Executor, Mode, Outcome, settle};
use crate::model::desired::tests::empty;
use crate::model::{Change, Desired, Endpoint, Network, Object, Publish};
use crate::net::NetError;
use crate::plan::tests::perform;
use crate::plan::{Actual, Alias, Scope, Step, plan};

/// The node: what steps have made of it.
#[derive(Clone, Default)]
struct Sim {
    world: Actual,
    next: u32,
    /// Devices that were taken down.
    down: BTreeSet<String>,
    /// Gateways that have lost their IPv6 addresses by that: up again does not bring them back.
    flushed: BTreeSet<String>,
    /// Which step from now on fails.
    fail_at: Option<usize>,
    ran: usize,
}

impl Executor for Sim {
    fn execute(&mut self, step: &Step) -> Result<Outcome, ApplyError> {
        self.ran += 1;
        if self.fail_at == Some(self.ran) {
            return Err(NetError::Decode("made to fail".into()).into());
        }
        match step {
            Step::Down { device, .. } => {
                self.down.insert(device.clone());
                let known = self.world.devices.get(device);
                if known.is_some_and(|d| matches!(d.alias, Alias::Network(_))) {
                    self.flushed.insert(device.clone());
                }
            }
            Step::Up { device } => drop(self.down.remove(device)),
            Step::Delete { device, .. } => {
                self.down.remove(device);
                self.flushed.remove(device);
            }
            Step::MakeGateway(plan) => drop(self.flushed.remove(&plan.outer)),
            _ => {}
        }
        perform(&mut self.world, &mut self.next, step);
        Ok(match step {
            Step::MakeGateway(g) => {
                Outcome::Gateway(self.world.ifindex(&g.outer), self.world.ifindex(&g.inner))
            }
            Step::MakeEndpoint(e) => Outcome::Endpoint(self.world.ifindex(&e.device)),
            _ => Outcome::Done,
        })
    }
}

/// Which networks there are (0: none, 1: with gateway, 2: without), where each endpoint is (0: nowhere,
/// else the network; 3: on the first with another MAC), and whose port is published.
type Shape = ([u8; 2], [u8; 2], u8);

fn shapes() -> Vec<Shape> {
    let mut all = Vec::new();
    for n in 0..9u8 {
        let networks = [n % 3, n / 3];
        let there = |on: u8| match on {
            0 => true,
            2 => networks[1] != 0,
            _ => networks[0] != 0,
        };
        for a in (0..4).filter(|on| there(*on)) {
            for b in (0..3).filter(|on| there(*on)) {
                for published in 0..3 {
                    let on = [0, a, b][usize::from(published)];
                    let leads_out = on != 0 && networks[usize::from(on == 2)] == 1;
                    if published == 0 || leads_out {
                        all.push((networks, [a, b], published));
                    }
                }
            }
        }
    }
    all
}

/// The state of a shape. Numbers belong to what is the same in several shapes.
fn state((networks, endpoints, published): Shape) -> Desired {
    use crate::model::desired::tests::{endpoint, network};
    let mut d = empty();
    let mut put = Vec::new();
    for (i, kind) in networks.into_iter().enumerate().filter(|(_, k)| *k != 0) {
        let mut scratch = empty();
        let name = ["web", "db"][i];
        let subnets = [&["10.0.0.0/24", "fd00::/64"][..], &["10.0.1.0/24"]][i];
        let n = network(&mut scratch, name, subnets);
        let mut record: Network = scratch.networks[&n].clone();
        record.number = i as u32 + 1;
        if kind == 2 {
            record.gateways.clear();
        }
        put.push(Object::Network(record));
    }
    for (i, on) in endpoints.into_iter().enumerate().filter(|(_, on)| *on != 0) {
        let mut scratch = empty();
        let number = 3 + i as u32 * 4 + u32::from(on);
        let network = u32::from(on == 2) + 1;
        let addresses = if on == 2 {
            vec![format!("10.0.1.{}/24", i + 2)]
        } else {
            vec![
                format!("10.0.0.{}/24", i + 2),
                format!("fd00::{}/64", i + 2),
            ]
        };
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let n = endpoint(&mut scratch, ["a", "b"][i], network, &addresses);
        let mut record: Endpoint = scratch.endpoints[&n].clone();
        (record.number, record.made) = (number, false);
        record.id = format!("{number:012x}");
        record.mac = [2, 0, 0, 0, 2, number as u8];
        put.push(Object::Endpoint(record));
        if usize::from(published) == i + 1 {
            put.push(Object::Publish(Publish {
                number: number + 20,
                endpoint: number,
                spec: "8080:80".parse().unwrap(),
                owner: "cli".into(),
            }));
        }
    }
    d.apply(&Change {
        put,
        remove: vec![],
    });
    d
}

fn settled(desired: &Desired) -> (Sim, Actual) {
    let (mut sim, mut actual) = (Sim::default(), Actual::default());
    settle(
        &mut sim,
        desired,
        &mut actual,
        Scope::All,
        Mode::AllOrNothing,
    )
    .unwrap();
    (sim, actual)
}

#[test]
fn from_every_small_state_to_every_other_and_back_from_wherever_a_step_fails() {
    let states: Vec<Desired> = shapes().into_iter().map(state).collect();
    assert!(states.len() > 100, "{}", states.len());
    let mut undone = 0;
    for before in &states {
        let (start, known) = settled(before);
        assert_eq!(start.world, known, "what is known is what is there");
        for wanted in &states {
            // Step by step, and from behind each step all the way back.
            let (mut sim, mut actual) = (start.clone(), known.clone());
            let mut undo = Vec::new();
            for round in 0.. {
                let steps = plan(wanted, &actual, Scope::All);
                if steps.is_empty() {
                    break;
                }
                assert!(round < 5, "no end: {steps:?}");
                for step in &steps {
                    let outcome = sim.execute(step).unwrap();
                    let back = record(&mut actual, step, outcome);
                    // Deleting is the end: nothing that can fail comes after it.
                    if matches!(step, Step::Delete { .. }) {
                        undo.clear();
                        continue;
                    }
                    undo.push(back);
                    let (mut sim, mut actual) = (sim.clone(), actual.clone());
                    for step in undo.iter().rev().flatten() {
                        let outcome = sim.execute(step).unwrap();
                        record(&mut actual, step, outcome);
                    }
                    assert_eq!(actual, known, "after {step:?} was taken back");
                    assert_eq!((&sim.world, sim.down.len()), (&known, 0), "{step:?}");
                    assert!(sim.flushed.is_empty(), "{step:?}: {:?}", sim.flushed);
                    undone += 1;
                }
            }
            assert_eq!(sim.world, actual);
            assert!(sim.down.is_empty() && sim.flushed.is_empty());
            same_but_for_ifindexes(&actual, &settled(wanted).1);
        }
    }
    assert!(undone > 10_000, "{undone}");
}

/// Devices made at other moments have other ifindexes: all else is the same.
fn same_but_for_ifindexes(a: &Actual, b: &Actual) {
    let names = |a: &Actual| a.devices.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    assert_eq!(a.hooked, b.hooked);
    let keys = |a: &Actual| {
        let fdb: Vec<_> = a.fdb.iter().map(|(k, v)| (*k, v.endpoint)).collect();
        let hosts: Vec<_> = a
            .hosts
            .iter()
            .map(|(k, v)| (*k, v.endpoint, v.flags))
            .collect();
        let published: Vec<_> = a.published.iter().map(|(k, v)| (*k, v.number)).collect();
        let slots: Vec<_> = a.segments.iter().map(|(k, v)| (*k, v.kind)).collect();
        let mut ports: Vec<_> = a
            .ports
            .values()
            .map(|p| (p.network, p.endpoint, p.flags))
            .collect();
        ports.sort_unstable();
        (fdb, hosts, published, slots, ports)
    };
    assert_eq!(keys(a), keys(b));
}

#[test]
fn a_step_that_fails_is_the_last_and_leaves_what_was() {
    let all = shapes();
    let (from, to) = (state(all[all.len() / 2]), state(all[all.len() - 1]));
    let (start, known) = settled(&from);
    let mut failures = 0;
    for fail_at in 1.. {
        let (mut sim, mut actual) = (start.clone(), known.clone());
        (sim.fail_at, sim.ran) = (Some(fail_at), 0);
        let done = settle(&mut sim, &to, &mut actual, Scope::All, Mode::AllOrNothing);
        if sim.ran < fail_at {
            done.unwrap();
            break;
        }
        // A device that cannot be deleted is left over: it is no reason to undo the rest.
        if done.is_err() {
            assert_eq!((&actual, &sim.world), (&known, &known), "step {fail_at}");
            failures += 1;
        }
    }
    assert!(failures > 10, "{failures}");
}
