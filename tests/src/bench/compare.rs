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

/// The target of netd over the kernel's ways; none was set for the paths that are not named here and
/// for two CPUs.
pub fn target(scenario: Scenario, kind: Kind, placement: Placement) -> Option<Target> {
    match (placement, scenario, kind) {
        (Placement::One, Scenario::SameNode, Kind::Rr) => Some(Target::AtMost(0.90)),
        (Placement::One, Scenario::SameNode, Kind::Crr) => Some(Target::AtLeast(1.08)),
        (Placement::One, Scenario::Outside, Kind::Rr) => Some(Target::AtMost(0.88)),
        (Placement::One, Scenario::Outside, Kind::Crr) => Some(Target::AtLeast(1.12)),
        _ => None,
    }
}

/// The target of a contender over itself with the least ports or endpoints: ten thousand published ports
/// cost 5 % at most.
fn growth_target(a: &Figure, b: &Figure) -> Option<Target> {
    let (variant, kind) = (a.variant, a.kind);
    let ports = (a.scenario, variant, kind) == (Scenario::PublishedScale, Variant::Netd, Kind::Crr);
    (ports && (a.level, b.level) == (Some(10_000), Some(1))).then_some(Target::AtLeast(0.95))
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
    /// Ports or endpoints of its node, on the scale paths.
    pub level: Option<u32>,
    /// Median over the rounds of the cells' median latency, in microseconds; none of one-way packets.
    pub p50_us: Option<f64>,
    /// Median over the rounds of the cells' 99th percentile, in microseconds; none of one-way packets.
    pub p99_us: Option<f64>,
    /// Median over the rounds of transactions, or packets that arrived, per second.
    pub rate: f64,
    /// Median over the rounds of the CPU time for each packet that arrived, in nanoseconds; UDP only.
    pub cpu_ns: Option<f64>,
    /// Packets of all cells that were sent and did not arrive, in percent; UDP only.
    pub lost_pct: Option<f64>,
    /// What is compared, round by round: `p50_us` of RR, `rate` of the others; the mean of a round's
    /// cells.
    pub rounds: Vec<f64>,
    /// Failed transactions, or packets with a wrong content, in all cells.
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
    /// ... with so many ports or endpoints (on the scale paths) ...
    pub a_level: Option<u32>,
    /// ... over whom.
    pub b: Variant,
    /// Its ports or endpoints.
    pub b_level: Option<u32>,
    /// Median ratio (latency of RR, rate of the others) with its 95 % confidence interval.
    pub ratio: Estimate,
    /// What was aimed at.
    pub target: Option<Target>,
}

impl Comparison {
    /// Whether this is the comparison a target was set for: others are held against it too, for
    /// information.
    pub fn is_main(&self) -> bool {
        let own = self.a == Variant::Netd && Some(self.b) == self.scenario.peer();
        own || (self.is_growth() && self.target.is_some())
    }

    /// Whether a contender is compared with itself with less on its node.
    pub fn is_growth(&self) -> bool {
        self.a == self.b
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
            for kind in Kind::ALL {
                let here: Vec<&Cell> = cells
                    .iter()
                    .filter(|c| (c.scenario, c.placement, c.kind) == (scenario, placement, kind))
                    .collect();
                let mut variants: Vec<(Variant, Option<u32>)> =
                    here.iter().map(|c| (c.variant, c.level)).collect();
                variants.sort_unstable();
                variants.dedup();
                for variant in variants {
                    let own: Vec<&Cell> = here
                        .iter()
                        .copied()
                        .filter(|c| (c.variant, c.level) == variant)
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
    let by_round = |value: &dyn Fn(&Cell) -> Option<f64>| -> Vec<f64> {
        (0..=last_round)
            .filter_map(|round| {
                let values: Vec<f64> = cells
                    .iter()
                    .filter(|c| c.round == round)
                    .filter_map(|c| value(c))
                    .collect();
                #[expect(clippy::cast_precision_loss, reason = "two cells")]
                let count = values.len() as f64;
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / count)
            })
            .collect()
    };
    let p50 = by_round(&|c| c.sample.latency.map(|l| l.p50_us));
    let rate = by_round(&|c| Some(c.sample.rate()));
    Some(Figure {
        scenario: first.scenario,
        kind: first.kind,
        placement: first.placement,
        variant: first.variant,
        level: first.level,
        p50_us: stats::median(&p50),
        p99_us: stats::median(&by_round(&|c| c.sample.latency.map(|l| l.p99_us))),
        rate: stats::median(&rate)?,
        cpu_ns: stats::median(&by_round(&|c| c.sample.cpu_ns)),
        lost_pct: (first.kind == Kind::Udp).then(|| lost_pct(cells)),
        rounds: match first.kind {
            Kind::Rr => p50,
            Kind::Crr | Kind::Udp => rate,
        },
        failures: cells.iter().map(|c| c.sample.failures).sum(),
    })
}

/// Packets lost, percent of those sent.
#[expect(clippy::cast_precision_loss, reason = "packets of one run")]
fn lost_pct(cells: &[&Cell]) -> f64 {
    let lost: u64 = cells.iter().map(|c| c.sample.lost).sum();
    let arrived: u64 = cells.iter().map(|c| c.sample.transactions).sum();
    100.0 * lost as f64 / ((lost + arrived) as f64).max(1.0)
}

/// All ratios: netd over its peer first, then over everything else, then the control; on the scale paths
/// each contender over itself with the least ports or endpoints, too.
pub fn comparisons(figures: &[Figure]) -> Vec<Comparison> {
    let path = |f: &Figure| (f.scenario, f.placement, f.kind);
    let mut all = Vec::new();
    for a in figures {
        let here = figures.iter().filter(|f| path(f) == path(a));
        let least = here.clone().filter_map(|f| f.level).min();
        for b in here {
            let growth = a.variant == b.variant && b.level == least && a.level > b.level;
            let rivals = match (a.variant, b.variant) {
                (Variant::Netd, Variant::Netd | Variant::BridgeAgain) => false,
                (Variant::Netd, _) | (Variant::BridgeAgain, Variant::Bridge) => true,
                _ => false,
            };
            let wanted = growth || (rivals && a.level == b.level);
            if !wanted {
                continue;
            }
            if let Some(ratio) = stats::paired_ratio(&a.rounds, &b.rounds) {
                let rival = a.variant == Variant::Netd && b.variant != Variant::Veth;
                all.push(Comparison {
                    scenario: a.scenario,
                    kind: a.kind,
                    placement: a.placement,
                    a: a.variant,
                    a_level: a.level,
                    b: b.variant,
                    b_level: b.level,
                    ratio,
                    target: if growth {
                        growth_target(a, b)
                    } else if rival {
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
    use super::super::load::{Latency, Sample};
    use super::super::machine::Disturbance;
    use super::*;

    fn cell(variant: Variant, round: u32, p50_us: f64) -> Cell {
        let sample = Sample {
            transactions: 1000,
            seconds: 1.0,
            latency: Some(Latency {
                p50_us,
                p99_us: 2.0 * p50_us,
                max_us: 99.0,
            }),
            cpu_ns: None,
            lost: 0,
            failures: 1,
        };
        Cell {
            scenario: Scenario::SameNode,
            variant,
            level: None,
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
        assert!((figures[0].p50_us.unwrap() - 13.0).abs() < 1e-9);
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
    fn packets_one_way_have_a_rate_a_cost_and_a_loss_and_no_latency() {
        let cells: Vec<Cell> = [(1000, 0), (3000, 1000)]
            .into_iter()
            .map(|(transactions, lost)| {
                let mut cell = cell(Variant::Netd, 0, 0.0);
                cell.scenario = Scenario::UdpSameNode;
                cell.kind = Kind::Udp;
                cell.sample = Sample {
                    transactions,
                    lost,
                    latency: None,
                    cpu_ns: Some(500.0),
                    ..cell.sample
                };
                cell
            })
            .collect();
        let figure = &figures(&cells)[0];
        assert_eq!((figure.p50_us, figure.cpu_ns), (None, Some(500.0)));
        assert_eq!((figure.rate, figure.lost_pct), (2000.0, Some(20.0)));
        assert_eq!(figure.rounds, [2000.0]);
    }

    #[test]
    fn a_level_is_held_against_its_rival_of_the_same_level_and_against_its_own_first() {
        let mut cells = Vec::new();
        for (variant, level, rate) in [
            (Variant::Netd, 1, 1000),
            (Variant::Netd, 100, 1000),
            (Variant::Netd, 10_000, 940),
            (Variant::Iptables, 1, 800),
            (Variant::Iptables, 10_000, 400),
        ] {
            let mut cell = cell(variant, 0, 10.0);
            cell.scenario = Scenario::PublishedScale;
            cell.kind = Kind::Crr;
            cell.level = Some(level);
            cell.sample.transactions = rate;
            cells.push(cell);
        }
        let all = comparisons(&figures(&cells));
        let pairs: Vec<_> = all
            .iter()
            .map(|c| (c.a, c.a_level.unwrap(), c.b, c.b_level.unwrap()))
            .collect();
        let (netd, iptables) = (Variant::Netd, Variant::Iptables);
        assert_eq!(
            pairs,
            [
                (netd, 1, iptables, 1),
                (netd, 100, netd, 1),
                (netd, 10_000, netd, 1),
                (netd, 10_000, iptables, 10_000),
                (iptables, 10_000, iptables, 1),
            ]
        );
        let targets: Vec<_> = all.iter().filter(|c| c.target.is_some()).collect();
        assert_eq!(targets.len(), 1);
        assert_eq!(targets[0].target, Some(Target::AtLeast(0.95)));
        assert!(targets[0].is_main() && (targets[0].ratio.median - 0.94).abs() < 1e-9);
    }

    #[test]
    fn targets_are_met_on_their_own_side() {
        assert!(Target::AtMost(0.9).met(0.9) && !Target::AtMost(0.9).met(0.91));
        assert!(Target::AtLeast(1.08).met(1.08) && !Target::AtLeast(1.08).met(1.07));
    }
}
