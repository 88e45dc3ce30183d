//! From cells to figures and ratios, and the targets they are held against.

use serde::Serialize;

use super::load::Kind;
use super::scenario::{Placement, Scenario, Variant};
use super::schedule::Cell;
use super::stats::{self, Estimate};

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Target {
    /// Whether a value meets it.
    pub fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    /// The limit.
    pub const fn limit(self) -> f64 {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => limit,
        }
    }
}

/// The target of netd over the kernel's ways; none was set for the published port and for two CPUs.
pub fn target(scenario: Scenario, kind: Kind, placement: Placement) -> Option<Target> {
    match (placement, scenario, kind) {
        (Placement::One, Scenario::SameNode, Kind::Rr) => Some(Target::AtMost(0.90)),
        (Placement::One, Scenario::SameNode, Kind::Crr) => Some(Target::AtLeast(1.08)),
        (Placement::One, Scenario::Outside, Kind::Rr) => Some(Target::AtMost(0.88)),
        (Placement::One, Scenario::Outside, Kind::Crr) => Some(Target::AtLeast(1.12)),
        (Placement::One, Scenario::Published, _) | (Placement::Two, ..) => None,
    }
}

/// What one contender reached on one path.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The path.
    pub scenario: Scenario,
    /// Load.
    pub kind: Kind,
    /// Placement.
    pub placement: Placement,
    /// Who.
    pub variant: Variant,
    /// Median over the rounds of the cells' median latency, in microseconds.
    pub p50_us: f64,
    /// Median over the rounds of the cells' 99th percentile, in microseconds.
    pub p99_us: f64,
    /// Median over the rounds of transactions per second.
    pub rate: f64,
    /// What is compared, round by round: `p50_us` of RR, `rate` of CRR; the mean of a round's cells.
    pub rounds: Vec<f64>,
    /// Failed transactions in all cells.
    pub failures: u32,
}

/// One contender over another.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The path.
    pub scenario: Scenario,
    /// Load.
    pub kind: Kind,
    /// Placement.
    pub placement: Placement,
    /// Who ...
    pub a: Variant,
    /// ... over whom.
    pub b: Variant,
    /// Median ratio (latency of RR, rate of CRR) with its 95 % confidence interval.
    pub ratio: Estimate,
    /// What was aimed at.
    pub target: Option<Target>,
}

impl Comparison {
    /// Whether this is the comparison a target was set for: others are held against it too, for
    /// information.
    pub fn is_main(&self) -> bool {
        self.a == Variant::Netd && self.b == self.scenario.peer()
    }

    /// Whether this is the negative control.
    pub fn is_control(&self) -> bool {
        self.a == Variant::BridgeAgain
    }
}

/// All figures, in the order of a table.
pub fn figures(cells: &[Cell]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for scenario in Scenario::ALL {
        for placement in [Placement::One, Placement::Two] {
            for kind in [Kind::Rr, Kind::Crr] {
                let here: Vec<&Cell> = cells
                    .iter()
                    .filter(|c| (c.scenario, c.placement, c.kind) == (scenario, placement, kind))
                    .collect();
                let mut variants: Vec<Variant> = here.iter().map(|c| c.variant).collect();
                variants.sort_unstable();
                variants.dedup();
                for variant in variants {
                    let own: Vec<&Cell> = here
                        .iter()
                        .copied()
                        .filter(|c| c.variant == variant)
                        .collect();
                    figures.extend(figure(&own));
                }
            }
        }
    }
    figures
}

/// The figure of cells that differ in their round alone.
fn figure(cells: &[&Cell]) -> Option<Figure> {
    let first = cells.first()?;
    let last_round = cells.iter().map(|c| c.round).max()?;
    let by_round = |value: &dyn Fn(&Cell) -> f64| -> Vec<f64> {
        (0..=last_round)
            .filter_map(|round| {
                let values: Vec<f64> = cells
                    .iter()
                    .filter(|c| c.round == round)
                    .map(|c| value(c))
                    .collect();
                #[expect(clippy::cast_precision_loss, reason = "two cells")]
                let count = values.len() as f64;
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / count)
            })
            .collect()
    };
    let p50 = by_round(&|c| c.sample.p50_us);
    let rate = by_round(&|c| c.sample.rate());
    Some(Figure {
        scenario: first.scenario,
        kind: first.kind,
        placement: first.placement,
        variant: first.variant,
        p50_us: stats::median(&p50)?,
        p99_us: stats::median(&by_round(&|c| c.sample.p99_us))?,
        rate: stats::median(&rate)?,
        rounds: match first.kind {
            Kind::Rr => p50,
            Kind::Crr => rate,
        },
        failures: cells.iter().map(|c| c.sample.failures).sum(),
    })
}

/// All ratios: netd over its peer first, then over everything else, then the control.
pub fn comparisons(figures: &[Figure]) -> Vec<Comparison> {
    let mut all = Vec::new();
    for a in figures {
        for b in figures {
            let same = (a.scenario, a.placement, a.kind) == (b.scenario, b.placement, b.kind);
            let wanted = match (a.variant, b.variant) {
                (Variant::Netd, Variant::Netd | Variant::BridgeAgain) => false,
                (Variant::Netd, _) | (Variant::BridgeAgain, Variant::Bridge) => true,
                _ => false,
            };
            if !same || !wanted {
                continue;
            }
            if let Some(ratio) = stats::paired_ratio(&a.rounds, &b.rounds) {
                let rival = a.variant == Variant::Netd && b.variant != Variant::Veth;
                all.push(Comparison {
                    scenario: a.scenario,
                    kind: a.kind,
                    placement: a.placement,
                    a: a.variant,
                    b: b.variant,
                    ratio,
                    target: if rival {
                        target(a.scenario, a.kind, a.placement)
                    } else {
                        None
                    },
                });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::load::Sample;
    use super::super::machine::Disturbance;
    use super::*;

    fn cell(variant: Variant, round: u32, p50_us: f64) -> Cell {
        let sample = Sample {
            transactions: 1000,
            seconds: 1.0,
            p50_us,
            p99_us: 2.0 * p50_us,
            max_us: 99.0,
            failures: 1,
        };
        Cell {
            scenario: Scenario::SameNode,
            variant,
            kind: Kind::Rr,
            placement: Placement::One,
            round,
            sample,
            disturbance: Disturbance {
                steal_pct: 0.0,
                others_pct: None,
            },
            redone: 0,
        }
    }

    #[test]
    fn a_round_is_the_mean_of_its_cells_and_a_figure_the_median_of_its_rounds() {
        let cells: Vec<Cell> = [
            (0, 10.0),
            (0, 12.0),
            (1, 20.0),
            (1, 20.0),
            (2, 13.0),
            (2, 13.0),
        ]
        .map(|(round, p50)| cell(Variant::Bridge, round, p50))
        .to_vec();
        let figures = figures(&cells);
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].rounds, [11.0, 20.0, 13.0]);
        assert!((figures[0].p50_us - 13.0).abs() < 1e-9);
        assert_eq!(figures[0].failures, 6);
    }

    #[test]
    fn netd_is_held_against_its_peer_and_the_control_against_itself() {
        let mut cells = Vec::new();
        for round in 0..10 {
            for (variant, p50) in [
                (Variant::Netd, 13.6),
                (Variant::Bridge, 16.0),
                (Variant::Veth, 13.0),
                (Variant::BridgeAgain, 16.0),
            ] {
                cells.push(cell(variant, round, p50));
            }
        }
        let all = comparisons(&figures(&cells));
        let pairs: Vec<_> = all.iter().map(|c| (c.a, c.b)).collect();
        assert_eq!(
            pairs,
            [
                (Variant::Netd, Variant::Bridge),
                (Variant::Netd, Variant::Veth),
                (Variant::BridgeAgain, Variant::Bridge)
            ]
        );
        assert_eq!(all[0].target, Some(Target::AtMost(0.90)));
        assert!(all[0].target.unwrap().met(all[0].ratio.median));
        assert_eq!((all[1].target, all[2].target), (None, None));
        assert!(all[2].ratio.contains(1.0));
    }

    #[test]
    fn targets_are_met_on_their_own_side() {
        assert!(Target::AtMost(0.9).met(0.9) && !Target::AtMost(0.9).met(0.91));
        assert!(Target::AtLeast(1.08).met(1.08) && !Target::AtLeast(1.08).met(1.07));
    }
}
