//! The order of the cells: every path is measured there and back again (ABBA) in every round, so that
//! a drift of the machine falls on all contenders alike, and the contender that goes first changes
//! from round to round.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::load::{Kind, Sample};
use super::machine::{CpuTimes, Disturbance};
use super::options::Options;
use super::scenario::{Bed, Contender, Placement, Scenario, Variant};

/// A cell during which the hypervisor took more than this is measured again.
const MAX_STEAL_PCT: f64 = 2.0;
/// ... but only so often: a run is bounded in time.
const MAX_TRIES: u32 = 3;

/// One measured cell.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The path.
    pub scenario: Scenario,
    /// Who.
    pub variant: Variant,
    /// Ports or endpoints of its node, on the scale paths.
    pub level: Option<u32>,
    /// Load.
    pub kind: Kind,
    /// Placement.
    pub placement: Placement,
    /// Round, from 0.
    pub round: u32,
    /// What was measured.
    pub sample: Sample,
    /// How quiet the machine was.
    pub disturbance: Disturbance,
    /// Times it was measured before and thrown away because the hypervisor stole CPU time.
    pub redone: u32,
}

/// Runs all cells.
pub fn run(bed: &mut Bed, options: &Options) -> Result<Vec<Cell>> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let rounds = options.rounds();
    let mut cells = Vec::new();
    let start = Instant::now();
    for round in 0..rounds {
        for scenario in Scenario::ALL {
            let contenders = bed.on(scenario);
            for &placement in scenario.placements() {
                let Some(at) = placement.cpus(cpus) else {
                    continue;
                };
                for &kind in scenario.loads() {
                    for contender in there_and_back(&contenders, round) {
                        let (sample, disturbance, redone) =
                            quiet_cell(bed, contender, kind, at, options.cell_of(scenario))?;
                        let Contender {
                            scenario,
                            variant,
                            level,
                            ..
                        } = *contender;
                        cells.push(Cell {
                            scenario,
                            variant,
                            level,
                            kind,
                            placement,
                            round,
                            sample,
                            disturbance,
                            redone,
                        });
                    }
                }
            }
        }
        let left = start.elapsed() / (round + 1) * (rounds - round - 1);
        eprintln!(
            "bench: round {} of {rounds} done, about {} s left",
            round + 1,
            left.as_secs()
        );
    }
    Ok(cells)
}

/// All items from the `round`th on, and back: A B C C B A, then B C A A C B, ...
fn there_and_back<T>(items: &[T], round: u32) -> impl Iterator<Item = &T> {
    let by = round as usize % items.len().max(1);
    let order: Vec<&T> = items[by..].iter().chain(&items[..by]).collect();
    let back: Vec<&T> = order.iter().rev().copied().collect();
    order.into_iter().chain(back)
}

/// A cell, again if the hypervisor stole too much of it.
fn quiet_cell(
    bed: &mut Bed,
    contender: &Contender,
    kind: Kind,
    cpus: [usize; 2],
    length: Duration,
) -> Result<(Sample, Disturbance, u32)> {
    let mut redone = 0;
    loop {
        let before = CpuTimes::read();
        let sample = bed.run(contender, kind, cpus, length)?;
        let disturbance = CpuTimes::read().since(&before, &cpus);
        if disturbance.steal_pct <= MAX_STEAL_PCT || redone + 1 >= MAX_TRIES {
            return Ok((sample, disturbance, redone));
        }
        redone += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_has_the_same_mean_place_in_a_round() {
        for round in 0..7 {
            let order: Vec<char> = there_and_back(&['n', 'b', 'v', 'c'], round)
                .copied()
                .collect();
            assert_eq!(order.len(), 8);
            for who in ['n', 'b', 'v', 'c'] {
                let places: usize = order
                    .iter()
                    .enumerate()
                    .filter(|(_, c)| **c == who)
                    .map(|(i, _)| i)
                    .sum();
                assert_eq!(places, 7, "{who} in {order:?}");
            }
        }
    }

    #[test]
    fn the_first_contender_changes_from_round_to_round() {
        let first = |round| *there_and_back(&['a', 'b', 'c'], round).next().unwrap();
        assert_eq!(
            [first(0), first(1), first(2), first(3)],
            ['a', 'b', 'c', 'a']
        );
    }

    #[test]
    fn no_contenders_are_no_cells() {
        assert_eq!(there_and_back::<u8>(&[], 3).count(), 0);
    }
}
