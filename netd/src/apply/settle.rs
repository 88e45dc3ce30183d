//! Plans and runs until nothing is left to do.

use super::ApplyError;
use super::effect::{Outcome, record};
use crate::model::Desired;
use crate::plan::{Actual, Scope, Step, plan};

/// Rounds after which settling gives up: devices, rows, and what a failed step left over.
const ROUNDS: usize = 5;

/// Runs steps. The node does; tests have their own.
pub trait Executor {
    /// Runs one step; running it again does no harm.
    fn execute(&mut self, step: &Step) -> Result<Outcome, ApplyError>;
}

/// What happens when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything this settling did is taken back.
    AllOrNothing,
    /// The rest is done all the same.
    Onward,
}

/// Steps that failed, and why.
#[derive(Debug)]
pub struct Failed {
    /// In the order they failed; never empty.
    pub errors: Vec<ApplyError>,
}

impl Failed {
    /// All of it on one line.
    pub fn line(&self) -> String {
        self.errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// Makes the actual state of a scope the desired one.
pub fn settle(
    executor: &mut dyn Executor,
    desired: &Desired,
    actual: &mut Actual,
    scope: Scope,
    mode: Mode,
) -> Result<(), Failed> {
    actual.failed.clear();
    let mut undo = Vec::new();
    let mut errors = Vec::new();
    // Of devices, which are not tried again in this settling.
    let mut lasting = Vec::new();
    let mut unended = None;
    for _ in 0..ROUNDS {
        let steps = plan(desired, actual, scope);
        if steps.is_empty() {
            break;
        }
        errors.clear();
        let mut done = 0;
        for step in &steps {
            match executor.execute(step) {
                Ok(outcome) => {
                    done += 1;
                    undo.push(record(actual, step, outcome));
                }
                Err(e) if mode == Mode::Onward => match step {
                    // The rows are gone: no plan would think of it again.
                    Step::EndFlows(ended) => {
                        actual.ending.extend(ended.clone());
                        unended = Some(e);
                    }
                    _ if note_failure(actual, step) => lasting.push(e),
                    _ => errors.push(e),
                },
                // It is the last of a change: what is left over is found by the next settling.
                Err(e) if matches!(step, Step::Delete { .. }) => tracing::warn!("{e}"),
                Err(e) => {
                    take_back(executor, actual, undo);
                    return Err(Failed { errors: vec![e] });
                }
            }
        }
        if done == 0 {
            break;
        }
    }
    lasting.append(&mut errors);
    lasting.extend(unended.filter(|_| !actual.ending.is_empty()));
    let errors = lasting;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failed { errors })
    }
}

/// A device that could not be made is not tried again in this settling, so that the other steps get
/// their turn. Whether it was one.
fn note_failure(actual: &mut Actual, step: &Step) -> bool {
    match step {
        Step::MakeGateway(plan) => actual.failed.insert(plan.outer.clone()),
        Step::MakeEndpoint(plan) => actual.failed.insert(plan.device.clone()),
        _ => false,
    }
}

fn take_back(executor: &mut dyn Executor, actual: &mut Actual, undo: Vec<Vec<Step>>) {
    for step in undo.into_iter().rev().flatten() {
        match executor.execute(&step) {
            Ok(outcome) => drop(record(actual, &step, outcome)),
            // What stays is orphaned: the next full settling removes it.
            Err(e) => tracing::warn!("while taking back: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::tests::{empty, endpoint, network};
    use crate::model::{Change, Key};
    use crate::net::NetError;

    /// Fails at one step, and keeps count.
    #[derive(Default)]
    struct Script {
        ran: usize,
        fail_at: Option<usize>,
        fail_on: Option<String>,
        next: u32,
    }

    impl Executor for Script {
        fn execute(&mut self, step: &Step) -> Result<Outcome, ApplyError> {
            self.ran += 1;
            let text = format!("{step:?}");
            if self.fail_at == Some(self.ran)
                || self.fail_on.as_ref().is_some_and(|f| text.contains(f))
            {
                return Err(NetError::Decode("made to fail".into()).into());
            }
            self.next += 2;
            Ok(match step {
                Step::MakeGateway(_) => Outcome::Gateway(self.next, self.next + 1),
                Step::MakeEndpoint(_) => Outcome::Endpoint(self.next),
                _ => Outcome::Done,
            })
        }
    }

    fn two_networks() -> (Desired, u32) {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24", "fd00::/64"]);
        let db = network(&mut d, "db", &["10.0.1.0/24"]);
        for (name, n, ip) in [("a", web, "10.0.0.2/24"), ("b", db, "10.0.1.2/24")] {
            let e = endpoint(&mut d, name, n, &[ip]);
            d.endpoints.get_mut(&e).unwrap().made = false;
        }
        (d, web)
    }

    #[test]
    fn whichever_step_of_an_attach_fails_nothing_half_made_is_left() {
        let (mut d, web) = two_networks();
        let a = d
            .endpoints
            .values()
            .find(|e| e.network == web)
            .unwrap()
            .number;
        let record = d.endpoints[&a].clone();
        d.apply(&Change {
            put: vec![],
            remove: vec![Key::Endpoint(a)],
        });
        let mut actual = Actual::default();
        settle(
            &mut Script::default(),
            &d,
            &mut actual,
            Scope::All,
            Mode::AllOrNothing,
        )
        .unwrap();
        let before = actual.clone();
        d.endpoints.insert(a, record);
        let mut steps = 0;
        for fail_at in 1.. {
            let mut script = Script {
                fail_at: Some(fail_at),
                next: 100,
                ..Script::default()
            };
            let run = settle(
                &mut script,
                &d,
                &mut actual,
                Scope::Network(web),
                Mode::AllOrNothing,
            );
            if run.is_ok() {
                break;
            }
            steps += 1;
            assert_eq!(actual, before, "after a failure at step {fail_at}");
        }
        assert!(steps >= 6, "{steps}");
        assert_ne!(actual, before);
    }

    #[test]
    fn flows_that_could_not_be_ended_are_ended_by_the_next_settling() {
        let (mut d, web) = two_networks();
        let mut actual = Actual::default();
        let mut script = Script::default();
        settle(&mut script, &d, &mut actual, Scope::All, Mode::Onward).unwrap();
        let a = d.endpoints_of(web).next().unwrap().number;
        d.apply(&Change {
            put: vec![],
            remove: vec![Key::Endpoint(a)],
        });
        script.fail_on = Some("EndFlows".into());
        let scope = Scope::Endpoint {
            network: web,
            endpoint: a,
        };
        let e = settle(&mut script, &d, &mut actual, scope, Mode::Onward).unwrap_err();
        assert!(e.line().contains("made to fail"));
        assert_eq!(actual.ending.endpoints, [a].into());
        assert_eq!(actual.devices.len(), 5, "the rest was done");
        // It is in nobody else's way, and tried again with everything.
        let b = d.endpoints.values().next().unwrap();
        let other = Scope::Endpoint {
            network: b.network,
            endpoint: b.number,
        };
        settle(&mut script, &d, &mut actual, other, Mode::AllOrNothing).unwrap();
        settle(&mut script, &d, &mut actual, Scope::All, Mode::Onward).unwrap_err();
        script.fail_on = None;
        settle(&mut script, &d, &mut actual, Scope::All, Mode::Onward).unwrap();
        assert!(actual.ending.is_empty());
        assert_eq!(plan(&d, &actual, Scope::All), []);
    }

    #[test]
    fn one_object_that_fails_does_not_stop_the_others() {
        let (d, _) = two_networks();
        let mut actual = Actual::default();
        let bad = d.endpoints.values().next().unwrap().device();
        let mut script = Script {
            fail_on: Some(format!("MakeEndpoint(EndpointPlan {{ id: {:?}", &bad[3..])),
            ..Script::default()
        };
        let failed = settle(&mut script, &d, &mut actual, Scope::All, Mode::Onward);
        assert!(
            failed.unwrap_err().line().contains("made to fail"),
            "told to the end"
        );
        assert_eq!(actual.devices.len(), 5);
        assert!(actual.devices.values().all(|d| d.configured));
        assert_eq!(actual.ports.len(), 3);
    }
}
